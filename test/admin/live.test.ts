import { copyFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ServerStatus, TargetStatus } from '../../src/status.ts';
import { MIB, Setup, TOOLS, UNHARMED, type VerifyReport } from '../faults/setup.ts';
import { ExportedFile, STORAGE_TOOLS } from '../faults/storage.ts';
import { askControl, askStatus } from '../support/control.ts';
import { stopChild } from '../support/netns.ts';
import { PROGRAM } from '../support/server.ts';
import { describeWith, disposeAll, eventually, tryRun } from '../support/tools.ts';

const DISK_BYTES = 16 * MIB;
/** One is served by each thread when there are two. */
const NAMES = ['e1.0', 'e1.1'];
/** Longer than a FUSE daemon of QEMU lets the kernel remember a file's size. */
const SIZE_KNOWN_MS = 1500;
const SHRUNK = /initiators have seen it with 16777216/;
const SETTINGS: { current: TomlTable } = { current: {} };

let setup: Setup;
let targets: TomlTable[];

function image(slot: number, keys: TomlTable = {}, fields: TomlTable = {}): TomlTable {
  const file = { path: `disk${slot}.img`, size: DISK_BYTES, ...keys };
  return { shelf: 1, slot, backend: 'file', file, ...fields };
}

/** Asks the server; the answer's JSON, or what it refuses and why. */
async function ask(path: string): Promise<string> {
  const { text } = await askControl(setup.join('state/control.sock'), 'POST', `/v1/${path}`);
  return text;
}

/** What becomes of a target. */
async function operate(operation: string, name: string): Promise<TargetStatus> {
  return JSON.parse(await ask(`targets/${name}/${operation}`)) as TargetStatus;
}

async function reload(next: TomlTable[]): Promise<string> {
  const server = { interfaces: setup.serverInterfaces, state_dir: 'state', ...SETTINGS.current };
  await writeFile(setup.join('aoe-server.toml'), stringify({ server, target: next }));
  return ask('reload');
}

function status(): Promise<ServerStatus> {
  return askStatus(setup.join('state/control.sock'));
}

async function target(name = 'e1.0'): Promise<TargetStatus> {
  return (await status()).targets.find((one) => one.name === name) as TargetStatus;
}

/** Load on both targets for some seconds; what was written is checked as it is read again. */
function startLoads(seconds: number): Promise<VerifyReport>[] {
  return NAMES.map((name) =>
    setup.verify(name.slice(1), '-t', seconds, '-q', 16, '-w', 60, '-j', setup.join(name)),
  );
}

async function expectUnharmed(loads: Promise<VerifyReport>[]): Promise<void> {
  for (const report of await Promise.all(loads)) expect(report).toMatchObject(UNHARMED);
  for (const name of NAMES) {
    const report = await setup.verify(name.slice(1), '-c', '-j', setup.join(name));
    expect(report).toMatchObject(UNHARMED);
  }
}

async function expectWritten(): Promise<void> {
  await eventually(async () => {
    for (const { counters } of (await status()).targets) expect(counters.writes).toBeGreaterThan(0);
  });
}

for (const workers of [1, 2]) {
  describeWith(TOOLS, `targets that change while they are used, with workers = ${workers}`, () => {
    beforeAll(async () => {
      setup = await Setup.create();
      SETTINGS.current = { workers };
      targets = [image(0), image(1)];
      await setup.start(targets, { settings: SETTINGS.current });
    });
    afterAll(() => disposeAll(setup));

    it('lose nothing through changes of their keys', async () => {
      const loads = startLoads(6);
      await expectWritten();
      const { startedAt, pid } = await status();
      const changed = [image(0, {}, { write_cache: true }), image(1, { direct: true })];
      expect(JSON.parse(await reload(changed))).toEqual({ added: [], changed: NAMES, removed: [] });
      expect(await target()).toMatchObject({ writeCache: true, drained: false });
      await expectWritten();

      // Who was silent before a change stays silent.
      for (const name of NAMES) await operate('drain', name);
      expect(JSON.parse(await reload(targets))).toMatchObject({ changed: NAMES });
      expect(await target()).toMatchObject({ drained: true, writeCache: false });
      for (const name of NAMES)
        expect(await operate('resume', name)).toMatchObject({ drained: false });
      await expectWritten();
      await expectUnharmed(loads);
      expect(await status()).toMatchObject({ startedAt, pid });
    });

    it('lose nothing when their files are replaced by copies', async () => {
      const loads = startLoads(4);
      await expectWritten();
      for (const name of NAMES) {
        expect(await operate('drain', name)).toMatchObject({ name, drained: true, inFlight: 0 });
      }
      const before = await status();
      for (const slot of [0, 1]) {
        await copyFile(setup.join(`disk${slot}.img`), setup.join('copy.img'));
        await rename(setup.join('copy.img'), setup.join(`disk${slot}.img`));
      }
      const after = await status();
      expect(after.targets.map(({ counters }) => counters)).toEqual(
        before.targets.map(({ counters }) => counters),
      );
      for (const name of NAMES) {
        expect(await operate('readd', name)).toMatchObject({
          drained: false,
          sizeBytes: DISK_BYTES,
        });
      }
      await expectWritten();
      await expectUnharmed(loads);
    });

    it('are served as before when one of them cannot be replaced', async () => {
      const loads = startLoads(4);
      await expectWritten();
      const { targets: before } = await status();
      // What can be seen in advance disturbs nobody.
      const bad = [image(0, { size: 2 * DISK_BYTES }), image(1, { path: 'state' })];
      expect(await reload(bad)).toMatch(/state.*nothing has changed/);
      expect(await reload([image(0), image(1, { path: 'no.img' })])).toMatch(/no.img is missing/);
      for (const [index, { counters }] of (await status()).targets.entries()) {
        expect(counters.writes).toBeGreaterThanOrEqual(before[index]?.counters.writes ?? 0);
      }
      await makeImage('grown.img', 2 * DISK_BYTES);
      await using _holder = await holdImage('held.img');
      const grown = image(0, { path: 'grown.img', size: 2 * DISK_BYTES });
      const held = image(1, { path: 'held.img' });
      expect(await reload([grown, held])).toMatch(/held.img is in use.*nothing has changed/);
      expect(await target()).toMatchObject({ sizeBytes: DISK_BYTES, drained: false });
      await expectUnharmed(loads);
      // What initiators have not seen is not remembered either.
      expect(await reload([image(0, {}, { read_only: true }), image(1)])).toContain('["e1.0"]');
      expect(await reload(targets)).toContain('["e1.0"]');
    });

    it('never shrink, and grow at once', async () => {
      expect(await reload([image(0, { size: DISK_BYTES / 2 }), image(1)])).toMatch(
        /e1.0 would shrink from 16MiB to 8MiB.*never shrink/,
      );
      await makeImage('small.img', MIB);
      expect(await reload([{ ...image(0), file: { path: 'small.img' } }, image(1)])).toMatch(
        SHRUNK,
      );
      expect((await stat(setup.join('small.img'))).size).toBe(MIB);
      targets = [image(0, { size: 2 * DISK_BYTES }), { ...image(1), file: { path: 'disk1.img' } }];
      expect(await reload(targets)).toContain('["e1.0","e1.1"]');
      expect(await target()).toMatchObject({ sizeBytes: 2 * DISK_BYTES });
      expect(await ask('targets/e1.9/drain')).toContain('the targets are e1.0, e1.1');
    });

    it('stay drained until their storage is right', async () => {
      await operate('drain', 'e1.1');
      await rename(setup.join('disk1.img'), setup.join('kept.img'));
      expect(await ask('targets/e1.1/readd')).toMatch(/disk1.img is missing/);
      await makeImage('disk1.img', MIB);
      expect(await ask('targets/e1.1/readd')).toMatch(SHRUNK);
      expect(await target('e1.1')).toMatchObject({ drained: true });
      await rename(setup.join('kept.img'), setup.join('disk1.img'));
      await truncate(setup.join('disk1.img'), 2 * DISK_BYTES);
      expect(await operate('readd', 'e1.1')).toMatchObject({
        drained: false,
        sizeBytes: 2 * DISK_BYTES,
      });
      const known = ['-c', '-j', setup.join('e1.1'), '-s', DISK_BYTES / 512];
      expect(await setup.verify('1.1', ...known)).toMatchObject(UNHARMED);
    });

    it('are removed while they are drained', async () => {
      await operate('drain', 'e1.1');
      const [first] = targets as [TomlTable];
      expect(JSON.parse(await reload([first]))).toMatchObject({ removed: ['e1.1'] });
      await reload(targets);
      expect(await target('e1.1')).toMatchObject({ drained: false });
      await operate('drain', 'e1.1');
      expect(await setup.server.stop()).toBe(0);
      expect(setup.server.errors).toEqual([]);
    });
  });
}

describeWith([...TOOLS, ...STORAGE_TOOLS], 'a target whose storage hangs', () => {
  let storage: ExportedFile;
  afterAll(() => disposeAll(setup));

  it('is not drained, and goes on when its storage does', async () => {
    setup = await Setup.create();
    SETTINGS.current = {};
    await makeImage('raw', DISK_BYTES);
    storage = setup.own(await ExportedFile.of(setup.join('raw'), setup.join('disk0.img')));
    await setup.start([image(0)]);
    const load = setup.verify('1.0', '-t', 12, '-q', 8, '-j', setup.join('e1.0'));
    await expectWritten();
    storage.hang();
    try {
      // More of them when some were resent by then.
      const inFlight = async () => (await target()).inFlight;
      await eventually(async () => expect(await inFlight()).toBeGreaterThanOrEqual(8));
      expect(await ask('targets/e1.0/drain')).toMatch(/the storage of e1.0 hangs/);
      expect(await target()).toMatchObject({ drained: false });
    } finally {
      storage.goOn();
    }
    expect(await load).toMatchObject(UNHARMED);
  });

  it('is left out by a reload, and delays nobody', { timeout: 120_000 }, async () => {
    const beside = image(1, { path: 'beside.img' });
    expect(await reload([image(0), beside])).toContain('"added":["e1.1"]');
    const beginning = ['-t', 26, '-q', 4, '-j', setup.join('e1.0')];
    const { report: stuck } = await setup.startLoad('1.0', ...beginning);
    storage.hang();
    try {
      const meanwhile = ['-t', 25, '-q', 8, '-T', 4000, '-j', setup.join('e1.1')];
      const load = setup.verify('1.1', ...meanwhile);
      expect(await reload([image(0), beside])).toMatch(/the storage of e1.0 hangs/);
      expect(await reload([beside])).toContain('"removed":["e1.0"]');
      expect(await load).toMatchObject({ ...UNHARMED, resends: 0 });
    } finally {
      storage.goOn();
    }
    await eventually(async () => expect(await reload([image(0), beside])).toContain('["e1.0"]'));
    expect(await stuck).toMatchObject(UNHARMED);
  });

  it('keeps no command from asking the server', async () => {
    storage.hang();
    try {
      // Until then the kernel knows the file without asking.
      await sleep(SIZE_KNOWN_MS);
      const [program, config] = [PROGRAM, setup.join('aoe-server.toml')];
      for (const line of [
        ['status', config],
        ['mask', config, 'e1.0'],
        ['log-level', config, 'info'],
        ['drain', 'e1.1', '--config', config],
      ]) {
        // One that looks at the storage waits for as long as that hangs.
        expect(await tryRun(process.execPath, [program, ...line])).toMatchObject({ status: 0 });
      }
    } finally {
      storage.goOn();
    }
    expect(JSON.parse(await ask('targets/e1.1/resume'))).toMatchObject({ drained: false });
  });

  it('keeps no server from stopping while its flush goes on', async () => {
    storage.hang();
    try {
      expect(await ask('targets/e1.0/drain')).toMatch(/the storage of e1.0 hangs/);
      expect(await target()).toMatchObject({ drained: false, inFlight: 0 });
      process.kill((await status()).pid, 'SIGTERM');
      await eventually(() => expect(setup.server.logText()).toMatch(/were abandoned/));
    } finally {
      storage.goOn();
    }
    expect(await setup.server.stop()).toBe(1);
  });

  it('keeps a server from starting, which says so', async () => {
    storage.hang();
    try {
      await sleep(SIZE_KNOWN_MS);
      const line = [PROGRAM, setup.join('aoe-server.toml')];
      const started = setup.serverNetwork.tryRun(process.execPath, line, { timeoutMs: 25_000 });
      expect(await started).toMatchObject({
        status: 1,
        output: expect.stringMatching(
          /the storage of e1.0 hangs\n {4}see in the log of the kernel/,
        ),
      });
    } finally {
      storage.goOn();
    }
  });
});

async function makeImage(name: string, sizeBytes: number): Promise<void> {
  await writeFile(setup.join(name), '');
  await truncate(setup.join(name), sizeBytes);
}

/** Locks an image as another server does. */
async function holdImage(name: string): Promise<AsyncDisposable> {
  await makeImage(name, DISK_BYTES);
  const path = setup.join(name);
  // It becomes the command that holds the lock, so that ending it gives the lock back.
  const child = setup.serverNetwork.spawn('flock', ['--no-fork', path, 'sleep', '60']);
  await eventually(async () => {
    expect((await tryRun('flock', ['-n', path, 'true'])).status).toBe(1);
  });
  return {
    async [Symbol.asyncDispose]() {
      await stopChild(child, 'SIGKILL');
    },
  };
}
