import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { blocksOf } from '../backends/cas/tiny-store.ts';
import { describeWith } from '../support/tools.ts';
import { PROGRAM, run } from './run.ts';

const MIB = 1 << 20;
const directory = mkdtempSync(join(tmpdir(), 'aoe-transfer-'));
afterAll(() => rmSync(directory, { recursive: true }));
const STORE = join(directory, 'store');

function at(name: string): string {
  return join(directory, name);
}

/** An image with holes: data at the start, in the middle and at an end within a block. */
function makeSparse(path: string, sizeBytes: number): void {
  writeFileSync(path, blocksOf(1, 40));
  truncateSync(path, sizeBytes);
  const fd = openSync(path, 'r+');
  writeSync(fd, blocksOf(101, 7), 0, undefined, 5 * MIB + 4096);
  writeSync(fd, Buffer.from('the end'), 0, undefined, sizeBytes - 7);
  closeSync(fd);
}

function volumeNames(): string[] {
  const { volumes } = JSON.parse(run('cas', 'list', STORE, '--json').stdout);
  return volumes.map(({ name }: { name: string }) => name);
}

/** Becomes true when a command has opened the store and made a volume, a checkpoint for each. */
function whenFilling(): () => boolean {
  const before = generation();
  return () => generation() >= before + 2;
}

function generation(): number {
  const superblock = readFileSync(join(STORE, 'superblock'));
  return Math.max(...[0, 2].map((copy) => Number(superblock.readBigUInt64LE(copy * 4096 + 24))));
}

/** Starts the program and signals it as soon as `isDue`. @returns its exit and standard error */
async function interrupt(signal: NodeJS.Signals, isDue: () => boolean, ...args: string[]) {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (said) => {
    stderr += said;
  });
  // Not its exit: what it said may come after that.
  const closed = once(child, 'close');
  while (!isDue() && child.exitCode === null) await delay(2);
  child.kill(signal);
  const [code, killedBy] = await closed;
  return { code, killedBy, stderr };
}

describe('import and export', () => {
  it('give back what they were given, holes as holes', () => {
    const sizeBytes = 24 * MIB + 1000;
    makeSparse(at('disk.img'), sizeBytes);
    const imported = run('import', at('disk.img'), STORE, 'e1.0');
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    expect(imported.stdout).toBe('volume e1.0: size = "24580KiB", 192KiB of data\n');
    const exported = run('export', STORE, 'e1.0', at('copy.img'));
    expect(exported).toMatchObject({ status: 0, stderr: '' });
    const wanted = readFileSync(at('disk.img'));
    const copy = readFileSync(at('copy.img'));
    expect(copy.length).toBe(24580 * 1024);
    expect(copy.subarray(0, sizeBytes).equals(wanted)).toBe(true);
    expect(copy.subarray(sizeBytes).every((byte) => byte === 0)).toBe(true);
    expect(statSync(at('copy.img')).blocks * 512).toBeLessThan(MIB);
    expect(existsSync(at('copy.img.partial'))).toBe(false);
    expect(volumeNames()).toEqual(['e1.0']);
  });

  it('take snapshots and root hashes for export', () => {
    run('cas', 'snapshot', STORE, 'e1.0', 'monday');
    const { snapshots } = JSON.parse(run('cas', 'list', STORE, '--json').stdout);
    for (const name of ['monday', snapshots[0].root]) {
      expect(run('export', STORE, name, at(`${name}.img`)).status).toBe(0);
      expect(readFileSync(at(`${name}.img`)).equals(readFileSync(at('copy.img')))).toBe(true);
    }
  });

  it('refuse to replace anything', () => {
    expect(run('import', at('disk.img'), STORE, 'e1.0').stderr).toContain('a volume e1.0 already');
    expect(run('import', at('disk.img'), STORE, 'monday').stderr).toContain('a snapshot monday');
    expect(run('export', STORE, 'e1.0', at('copy.img')).stderr).toContain('exists already');
    expect(run('import', at('missing.img'), STORE, 'e2.0').stderr).toContain('cannot read');
    expect(run('export', STORE, 'e7.7', at('other.img')).stderr).toContain('root e7.7');
    expect(existsSync(at('other.img'))).toBe(false);
    expect(volumeNames()).toEqual(['e1.0']);
  });

  it('leave nothing behind when a signal ends them', async () => {
    // Holes have to be looked for: many seconds, so that it is interrupted in time on any machine.
    makeSparse(at('large.img'), 2_000_000 * MIB);
    const imported = await interrupt(
      'SIGINT',
      whenFilling(),
      'import',
      at('large.img'),
      STORE,
      'e3.0',
    );
    expect(imported).toMatchObject({ code: 1, stderr: 'aoe-server: interrupted by SIGINT\n' });
    expect(volumeNames()).toEqual(['e1.0']);
  });

  it('are begun anew after they were killed', async () => {
    const killed = await interrupt(
      'SIGKILL',
      whenFilling(),
      'import',
      at('large.img'),
      STORE,
      'e3.0',
    );
    expect(killed.killedBy).toBe('SIGKILL');
    expect(volumeNames()).toEqual(['e1.0', 'e3.0.importing']);
    expect(run('cas', 'fsck', STORE).status).toBe(0);
    truncateSync(at('large.img'), 20 * MIB);
    expect(run('import', at('large.img'), STORE, 'e3.0')).toMatchObject({ status: 0, stderr: '' });
    expect(volumeNames()).toEqual(['e1.0', 'e3.0']);

    writeFileSync(at('again.img.partial'), 'half an image of an export that was killed');
    expect(run('export', STORE, 'e3.0', at('again.img')).status).toBe(0);
    expect(readFileSync(at('again.img')).equals(readFileSync(at('large.img')))).toBe(true);
  });
});

describe('send and receive', () => {
  const COPY = at('backup');

  it('end by a signal though nobody takes what is sent', async () => {
    writeFileSync(at('random.img'), randomBytes(8 * MIB));
    expect(run('import', at('random.img'), at('random'), 'e1.0').status).toBe(0);
    const child = spawn(process.execPath, [PROGRAM, 'cas', 'send', at('random'), 'e1.0']);
    const said = text(child.stderr);
    try {
      await once(child.stdout, 'readable');
      // Until its pipe is full.
      await delay(500);
      child.kill('SIGTERM');
      const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(5000) });
      expect(code).toBe(1);
      expect(await said).toBe('aoe-server: interrupted by SIGTERM\n');
    } finally {
      child.kill('SIGKILL');
    }
  });

  /** Runs both as in `send ... | receive ...`. */
  function pipe(send: string, receive: string) {
    const command = `set -o pipefail; node ${PROGRAM} cas send ${send} | node ${PROGRAM} cas receive ${receive}`;
    return spawnSync('bash', ['-c', command], { encoding: 'utf8', timeout: 20_000 });
  }

  it('carry a snapshot to another store, and then what has changed', () => {
    const full = pipe(`${STORE} monday`, `${COPY} monday`);
    expect(full).toMatchObject({ status: 0, stderr: '' });
    expect(full.stdout).toBe('snapshot monday of e1.0: 192KiB received and verified\n');
    const changed = readFileSync(at('copy.img'));
    blocksOf(701, 3).copy(changed, 8 * MIB);
    changed.fill(0, 4096, 3 * 4096);
    writeFileSync(at('changed.img'), changed);
    expect(run('import', at('changed.img'), STORE, 'e1.1').status).toBe(0);
    expect(run('cas', 'snapshot', STORE, 'e1.1', 'tuesday').status).toBe(0);
    const changes = pipe(`${STORE} tuesday --from monday`, `${COPY} tuesday`);
    expect(changes).toMatchObject({ status: 0, stderr: '' });
    expect(changes.stdout).toBe('snapshot tuesday of e1.1: 20KiB received and verified\n');
    expect(run('export', COPY, 'tuesday', at('received.img')).status).toBe(0);
    expect(readFileSync(at('received.img')).equals(changed)).toBe(true);
    expect(run('cas', 'fsck', COPY).status).toBe(0);
  });

  it('carry only what the other store does not have', () => {
    const [sizeMib, changedAt] = [40, 17 * MIB + 5 * 4096];
    const image = randomBytes(sizeMib * MIB);
    writeFileSync(at('random.img'), image);
    run('import', at('random.img'), at('there'), 'e1.0');
    randomBytes(4096).copy(image, changedAt);
    writeFileSync(at('random.img'), image);
    run('import', at('random.img'), at('here'), 'e1.0');
    run('cas', 'snapshot', at('here'), 'e1.0', 'monday');
    const cas = `node ${PROGRAM} cas`;
    const command = `set -o pipefail; ${cas} have ${at('there')} | tee ${at('list')} |
      ${cas} send ${at('here')} monday --have - | tee ${at('stream')} |
      ${cas} receive ${at('there')} copy`;
    const done = spawnSync('bash', ['-c', command], { encoding: 'utf8', timeout: 30_000 });
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toBe(
      'snapshot copy of e1.0: 40MiB received and verified, 40MiB of it found here\n',
    );
    const blockCount = sizeMib * 256;
    const nodeCount = blockCount / 128 + 1;
    expect(statSync(at('list')).size).toBe(16 + (blockCount + nodeCount) * 32 + 32);
    // The block, the hashes of the others in its leaf, and those of the other leaves.
    expect(statSync(at('stream')).size).toBeLessThan(4096 + (127 + 79) * 32 + 500);
    expect(run('export', at('there'), 'copy', at('passed.img')).status).toBe(0);
    expect(readFileSync(at('passed.img')).equals(image)).toBe(true);
  });

  it('list nothing of a store that there is not, and do not make it', () => {
    const args = [PROGRAM, 'cas', 'have', at('nowhere')];
    const { status, stdout } = spawnSync(process.execPath, args);
    expect({ status, bytes: stdout.length }).toEqual({ status: 0, bytes: 16 + 32 });
    expect(existsSync(at('nowhere'))).toBe(false);
  });

  it('refuse a list that is none, and send nothing then', () => {
    writeFileSync(at('no.list'), '# no list at all\n');
    const args = ['cas', 'send', STORE, 'monday', '--have'];
    expect(run(...args, at('no.list'))).toMatchObject({
      status: 1,
      stdout: '',
      stderr: 'aoe-server: this is no list of what a store has\n',
    });
    expect(run(...args, at('missing.list'))).toMatchObject({ status: 1, stdout: '' });
    const failed = pipe(`${STORE} monday --have - </dev/null`, `${COPY} thursday`);
    expect(failed.status).toBe(1);
    expect(failed.stderr.split('\n').toSorted().slice(1)).toEqual([
      'aoe-server: the list of what the other store has ends too early',
      'aoe-server: the stream ends too early',
    ]);
  });

  it('leave nothing behind when the stream breaks off', () => {
    const { stdout } = spawnSync(process.execPath, [PROGRAM, 'cas', 'send', STORE, 'tuesday']);
    for (const [input, message] of [
      [stdout.subarray(0, 100_000), 'the stream ends too early'],
      [Buffer.from('# no stream at all\n'), 'this is no stream of a store'],
    ] as const) {
      const args = [PROGRAM, 'cas', 'receive', COPY, 'wednesday'];
      const { status, stderr } = spawnSync(process.execPath, args, { input, encoding: 'utf8' });
      expect({ status, stderr }).toEqual({ status: 1, stderr: `aoe-server: ${message}\n` });
    }
    const { volumes, snapshots } = JSON.parse(run('cas', 'list', COPY, '--json').stdout);
    expect(volumes).toEqual([]);
    expect(snapshots).toMatchObject([{ name: 'monday' }, { name: 'tuesday' }]);
  });

  it('say what is wrong when nobody reads the stream', () => {
    const command = `set -o pipefail; node ${PROGRAM} cas send ${STORE} monday | true`;
    const { status, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^aoe-server: .*EPIPE/);
  });
});

describeWith(['strace'], 'import', () => {
  const path = at('large.img');

  /** @returns the system calls that an import makes */
  function traceImport(volume: string, ...options: string[]): string {
    const tracer = ['-f', ...options, '-o', at('trace')];
    const program = [process.execPath, PROGRAM, 'import', path, at('traced'), volume];
    expect(spawnSync('strace', [...tracer, ...program]).status).toBe(0);
    return readFileSync(at('trace'), 'utf8');
  }

  it('does not read the holes of an image', () => {
    makeSparse(path, 2048 * MIB);
    const readBytes = traceImport('e1.0', '-e', 'trace=read,pread64', '-P', path)
      .split('\n')
      .reduce((sum, line) => sum + Number(/ = (\d+)$/.exec(line)?.[1] ?? 0), 0);
    expect(readBytes).toBeGreaterThan(0);
    expect(readBytes).toBeLessThanOrEqual(4 * MIB);
  });

  it('does not load what only a store in a cloud needs', () => {
    const opened = traceImport('e1.1', '-e', 'trace=openat,open');
    expect(opened).toContain('/commander/');
    expect(opened).not.toMatch(/@aws-sdk|@smithy|@azure/);
  });
});
