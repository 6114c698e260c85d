import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isStore, openCasStore } from '../../src/backends/cas/index.ts';
import { hashOf } from '../backends/cas/oracle.ts';
import { blockOf, blocksOf } from '../backends/cas/tiny-store.ts';
import { run } from './run.ts';

const directory = mkdtempSync(join(tmpdir(), 'aoe-cas-'));
afterAll(() => rmSync(directory, { recursive: true }));

const STORE = join(directory, 'store');
const KIB = 1024;
/** Even seeds do not compress. */
const CONTENT = Buffer.concat([blocksOf(2, 20, 2), Buffer.alloc(12 * 4096), blocksOf(2, 10, 2)]);

function cas(...args: string[]) {
  return run('cas', ...args);
}

function succeed(...args: string[]): string {
  const { status, stdout, stderr } = cas(...args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

function importImage(name: string, content: Buffer): void {
  const image = join(directory, `${name}.img`);
  writeFileSync(image, content);
  expect(run('import', image, STORE, name)).toMatchObject({ status: 0, stderr: '' });
}

beforeAll(() => {
  importImage('e1.0', CONTENT);
  succeed('snapshot', STORE, 'e1.0', 'monday');
  const changed = Buffer.from(CONTENT);
  blockOf(900).copy(changed, 4096);
  blockOf(902).copy(changed, 2 * 4096);
  changed.fill(0, 35 * 4096, 36 * 4096);
  importImage('e1.1', changed);
});

describe.skipIf(process.getuid?.() !== 0)('a store of another user', () => {
  it('is not taken for none', () => {
    const nobody = 65_534;
    process.seteuid?.(nobody);
    try {
      expect(() => isStore(STORE)).toThrow(/^cannot see whether there is a store at .*: EACCES/);
    } finally {
      process.seteuid?.(0);
    }
    expect(isStore(STORE)).toBe(true);
    expect(isStore(join(STORE, 'superblock'))).toBe(false);
  });
});

describe('aoe-server cas', () => {
  it('explains each command with an example', () => {
    expect(run('cas', '--help').stdout).toContain('Examples:');
    const commands = 'list stats du diff snapshot clone rollback delete scrub collect cancel fsck';
    for (const command of commands.split(' ')) {
      expect(cas(command, '--help').stdout).toContain(`aoe-server cas ${command} /srv/aoe/blobs`);
    }
  });

  it('lists volumes and snapshots', () => {
    const [head, ...rows] = succeed('list', STORE).trimEnd().split('\n');
    expect(head).toMatch(/^KIND +NAME +SIZE +OF +CREATED +ROOT$/);
    expect(rows.map((row) => row.split(/ +/).slice(0, 4))).toEqual([
      ['volume', 'e1.0', '168KiB', '-'],
      ['volume', 'e1.1', '168KiB', '-'],
      ['snapshot', 'monday', '168KiB', 'e1.0'],
    ]);
    const { volumes, snapshots } = JSON.parse(succeed('list', STORE, '--json'));
    expect(volumes).toMatchObject([{ name: 'e1.0', sizeBytes: 168 * KIB }, { name: 'e1.1' }]);
    expect(snapshots).toMatchObject([{ name: 'monday', volume: 'e1.0', root: volumes[0].root }]);
  });

  it('tells how much is stored and what it takes', () => {
    const stats = JSON.parse(succeed('stats', STORE, '--json'));
    expect(stats).toMatchObject({
      volumes: 2,
      snapshots: 1,
      // Thirty blocks in e1.0 and in monday, 29 in e1.1; twenty distinct and two changed ones.
      logicalBytes: 89 * 4096,
      uniqueBytes: 22 * 4096,
      compressedBytes: 22 * 4096,
      dedupRatio: Number((89 / 22).toFixed(4)),
      compressionRatio: 1,
    });
    expect(stats.liveBytes + stats.garbageBytes).toBe(
      stats.segments.reduce(
        (sum: number, { usedBytes }: { usedBytes: number }) => sum + usedBytes,
        0,
      ),
    );
    expect(stats.physicalBytes).toBeGreaterThanOrEqual(stats.segments.length * (64 << 20));
    expect(stats.indexBytes).toBeGreaterThan(0);
    expect(stats.segmentUtilisation).toBeGreaterThan(0);
    const text = succeed('stats', STORE);
    expect(text).toMatch(/^logical +356KiB$/m);
    expect(text).toMatch(/^unique +88KiB$/m);
    expect(text).toMatch(/^deduplication +4\.05x$/m);
    expect(text).toMatch(/^utilisation +\d+%$/m);
  });

  it('tells what each volume and snapshot takes, and takes alone', () => {
    const usages = JSON.parse(succeed('du', STORE, '--json'));
    expect(usages).toMatchObject([
      { kind: 'volume', name: 'e1.0', logicalBytes: 30 * 4096, exclusiveBytes: 0 },
      { kind: 'volume', name: 'e1.1', logicalBytes: 29 * 4096, referencedBytes: 29 * 4096 },
      { kind: 'snapshot', name: 'monday', logicalBytes: 30 * 4096, exclusiveBytes: 0 },
    ]);
    // Two blocks, and a leaf, compressed.
    expect(usages[1].exclusiveBytes).toBeGreaterThan(2 * 4096);
    expect(usages[1].exclusiveBytes).toBeLessThan(2 * 4096 + 5120);
    expect(succeed('du', STORE)).toMatch(/^snapshot +monday +168KiB +120KiB +120KiB +0B$/m);
  });

  it('lists the extents that differ, in sectors', () => {
    expect(JSON.parse(succeed('diff', STORE, 'monday', 'e1.1', '--json'))).toEqual([
      { lba: 8, sectors: 16 },
      { lba: 280, sectors: 8 },
    ]);
    expect(succeed('diff', STORE, 'monday', 'e1.1')).toMatch(/^8 +16 +8KiB$/m);
    expect(succeed('diff', STORE, 'monday', 'e1.0')).toBe('no difference\n');
    expect(cas('diff', STORE, 'monday', 'tuesday')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('has no volume, snapshot or root tuesday'),
    });
  });

  it('clones, rolls back, deletes and collects', () => {
    expect(succeed('clone', STORE, 'monday', 'e2.0')).toContain('size = "168KiB"');
    expect(succeed('rollback', STORE, 'e1.1', 'monday')).toContain('rolled back to monday');
    expect(succeed('diff', STORE, 'e2.0', 'e1.1')).toBe('no difference\n');
    for (const name of ['e2.0', 'e1.1']) expect(succeed('delete', STORE, name)).toContain(name);
    expect(cas('delete', STORE, 'e2.0').stderr).toContain('has no volume or snapshot e2.0');
    expect(Object.keys(JSON.parse(succeed('collect', STORE, '--json')))).toContain('freedBytes');
    expect(succeed('collect', STORE)).toMatch(/examined, .* freed in \d+ segments, .* moved$/m);
    expect(succeed('list', STORE)).not.toContain('e1.1');
    expect(succeed('scrub', STORE, '--rate', '1GiB')).toMatch(/verified, no damage\n$/);
    expect(succeed('fsck', STORE)).toMatch(/blocks and \d+ nodes are intact\n$/);
  });

  it('refuses names that are taken or no names, and rates that are none', () => {
    expect(cas('snapshot', STORE, 'e1.0', 'monday').stderr).toContain('a snapshot monday already');
    expect(cas('snapshot', STORE, 'e9.9', 'tuesday').stderr).toContain('no volume e9.9');
    expect(cas('snapshot', STORE, 'e1.0', 'a b').status).toBe(2);
    expect(cas('clone', STORE, 'monday', 'f'.repeat(64)).status).toBe(2);
    expect(cas('scrub', STORE, '--rate', 'fast').status).toBe(2);
    expect(cas('scrub', STORE, '--remote').stderr).toContain('is in no blob store');
    expect(cas('fsck', STORE, '--remote').stderr).toContain('is in no blob store');
  });

  it('refuses a store that is in use, and a directory that holds none', async () => {
    const store = await openCasStore(STORE);
    for (const command of ['list', 'fsck']) {
      const { status, stdout, stderr } = cas(command, STORE);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toContain(
        `the store ${STORE} is in use by another process\n    stop the server`,
      );
    }
    await store.close();
    expect(cas('list', directory).stderr).toContain(`there is no store at ${directory}\n`);
    expect(readdirSync(directory)).not.toContain('superblock');
  });

  it('has no job to cancel when no server has the store', () => {
    const { status, stderr } = cas('cancel', STORE, '1');
    expect([status, stderr]).toEqual([1, expect.stringContaining('no server has the store')]);
  });

  it('exits with 4 when nothing is lost by what fsck finds', () => {
    const intact = readFileSync(join(STORE, 'superblock'));
    const damaged = Buffer.from(intact);
    damaged[4096 + 60] = (damaged[4096 + 60] as number) ^ 1;
    writeFileSync(join(STORE, 'superblock'), damaged);
    const { status, stdout, stderr } = cas('fsck', STORE);
    expect(status).toBe(4);
    expect(stdout).toMatch(/^superblock: copy 1 has a wrong checksum$/m);
    expect(stderr).toContain('inconsistent in 1 places: no block is lost');
    writeFileSync(join(STORE, 'superblock'), intact);
  });

  it('exits with 5 when fsck finds both copies of a generation damaged', () => {
    const intact = readFileSync(join(STORE, 'superblock'));
    const damaged = Buffer.from(intact);
    for (const at of [60, 4096 + 60]) damaged[at] = (damaged[at] as number) ^ 1;
    writeFileSync(join(STORE, 'superblock'), damaged);
    const { status, stderr } = cas('fsck', STORE);
    expect(status).toBe(5);
    expect(stderr).toMatch(/what was written or changed after generation \d+ may be lost/);
    const scrubbed = cas('scrub', STORE, '--json');
    expect(scrubbed.status).toBe(1);
    expect(JSON.parse(scrubbed.stdout)).toMatchObject({
      problems: [expect.stringContaining('copies 0 and 1')],
      superblockCopies: [0, 1],
    });
    expect(scrubbed.stderr).toContain('the store is damaged: copies 0 and 1 of the superblock');
    expect(readFileSync(join(STORE, 'superblock')).equals(damaged)).toBe(true);
    writeFileSync(join(STORE, 'superblock'), intact);
  });

  it('finds a damaged copy of the superblock with scrub, once', () => {
    const damaged = readFileSync(join(STORE, 'superblock'));
    damaged[3 * 4096 + 60] = (damaged[3 * 4096 + 60] as number) ^ 1;
    writeFileSync(join(STORE, 'superblock'), damaged);
    const { status, stdout, stderr } = cas('scrub', STORE);
    expect(status).toBe(1);
    expect(stdout).toBe('copy 3 of the superblock is damaged\n');
    expect(stderr).toContain('in 1 places: no block of a volume or snapshot is lost');
    expect(succeed('scrub', STORE)).toContain('no damage');
  });

  it('exits with 0 when a crash came between two copies of the superblock', () => {
    const intact = readFileSync(join(STORE, 'superblock'));
    const cut = Buffer.from(intact);
    const copy = cut.subarray(4096, 8192);
    copy.writeBigUInt64LE(copy.readBigUInt64LE(24) - 2n, 24);
    copy.fill(0, 56, 88);
    hashOf('record', copy).copy(copy, 56);
    writeFileSync(join(STORE, 'superblock'), cut);
    expect(succeed('fsck', STORE)).toMatch(/^note: a crash came before copy 1 /m);
    expect(JSON.parse(succeed('fsck', STORE, '--json'))).toMatchObject({
      notes: [expect.stringContaining('copy 1')],
      findings: [],
    });
    writeFileSync(join(STORE, 'superblock'), intact);
  });

  it('finds a flipped bit with scrub and with fsck, and tells what it affects', () => {
    const segments = join(STORE, 'segments');
    const file = readdirSync(segments).find((name) =>
      readFileSync(join(segments, name)).includes(blockOf(20).subarray(0, 64)),
    ) as string;
    const bytes = readFileSync(join(segments, file));
    const at = bytes.indexOf(blockOf(20).subarray(0, 64)) + 5;
    bytes[at] = (bytes[at] as number) ^ 1;
    writeFileSync(join(segments, file), bytes);
    const lost = [
      { kind: 'volume', name: 'e1.0', lba: 72, sectors: 8 },
      { kind: 'volume', name: 'e1.0', lba: 328, sectors: 8 },
      { kind: 'snapshot', name: 'monday', lba: 72, sectors: 8 },
      { kind: 'snapshot', name: 'monday', lba: 328, sectors: 8 },
    ];
    const examined = cas('fsck', STORE, '--json');
    expect(examined.status).toBe(5);
    expect(JSON.parse(examined.stdout)).toMatchObject({ findings: [{ place: 'segment' }], lost });
    expect(cas('fsck', STORE).stdout).toMatch(/^ {4}volume +e1\.0 +72 +8$/m);
    const scrubbed = cas('scrub', STORE, '--json');
    expect(scrubbed.status).toBe(1);
    expect(JSON.parse(scrubbed.stdout)).toMatchObject({
      damage: [{ hash: expect.any(String) }],
      lost,
    });
    expect(cas('scrub', STORE).stdout).toMatch(/^snapshot +monday +328 +8$/m);
    // An image is whole or not there: what helps is named accordingly.
    const image = join(directory, 'rest.img');
    expect(run('export', STORE, 'monday', image).status).toBe(1);
    expect(existsSync(image)).toBe(false);
    const { stderr } = cas('send', STORE, 'monday');
    expect(stderr).toMatch(/monday is damaged: .*\n.* a target serves the rest\n$/);
  });
});
