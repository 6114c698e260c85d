import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TomlTable } from 'smol-toml';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ataReply, ataRequest, dataOf, expectFrames, sectors } from '../protocol/frames.ts';
import { Served } from '../protocol/served.ts';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll, run } from '../support/tools.ts';
import {
  expectAtOnce,
  MIB,
  SECTOR_SIZE,
  Setup,
  TOOLS,
  UNHARMED,
  type VerifyReport,
} from './setup.ts';

const ADDON = join(import.meta.dirname, '../native/addon.mjs');

const [EINTR, EIO, EAGAIN, ENOSPC] = [4, 5, 11, 28];
/** Moves one sector at most. */
const SHORT = 0;
/** How long the kernel takes no request. */
const REFUSED_MS = 500;
/** Time enough for a program to start. */
const START_MS = 5000;

const READ_FAILED = { lastStatus: 0x41, lastError: 0x40 };
const WRITE_FAILED = { lastStatus: 0x61, lastError: 0x04 };

/** How data travels, and the function that carries reads and writes then. */
const WAYS = {
  'the page cache': { direct: false, uring: true },
  'io_uring past the page cache': { direct: true, uring: true },
  'threads past the page cache': { direct: true, uring: false },
};

let setup: Setup;

/** Makes a function of the server's file I/O fail, or do less than it could. */
async function breakFunction(name: string, fault: number): Promise<void> {
  await writeFile(setup.join('faults', name), `${fault}`);
}

async function mendFunction(name: string): Promise<void> {
  await rm(setup.join('faults', name));
}

/** @returns what makes a server's process obey {@link breakFunction} */
async function preload(): Promise<[name: string, value: string][]> {
  const library = setup.join('faulty-io.so');
  const source = join(import.meta.dirname, 'faulty-io.c');
  // The library that it stands before is the addon's alone, unless it is linked here, too.
  const libraries = ['-ldl', '-Wl,--no-as-needed', '-luring'];
  await run('cc', ['-O1', '-Wall', '-shared', '-fPIC', '-o', library, source, ...libraries]);
  return [
    ['LD_PRELOAD', library],
    ['FAULTY_IO', setup.join('faults')],
  ];
}

/** Starts a server that obeys {@link breakFunction}. */
async function startFaulty(target: TomlTable): Promise<void> {
  const variables = (await preload()).map((pair) => pair.join('='));
  await setup.start([{ shelf: 1, slot: 0, ...target }], {
    settings: { log_level: 'debug' },
    runner: ['env', ...variables, process.execPath],
  });
}

/** The same, with an image of 4 MiB, and somebody who asks. */
async function serveFaulty(): Promise<Served> {
  for (const [name, value] of await preload()) vi.stubEnv(name, value);
  const file = { path: 'disk.img', size: 4 * MIB };
  const starting = Served.start([{ shelf: 1, slot: 0, backend: 'file', file }]);
  return starting.finally(() => vi.unstubAllEnvs());
}

/** Of sector 8 and the seven after it. */
function trimRequest(): Buffer {
  const data = Buffer.alloc(SECTOR_SIZE);
  data.writeUIntLE(8, 0, 6);
  data.writeUInt16LE(8, 6);
  return ataRequest({ opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1, data });
}

async function start(direct: boolean, uring: boolean): Promise<void> {
  if (!uring) await breakFunction('io_uring_queue_init_params', 1);
  await startFaulty({ backend: 'file', file: { path: 'disk.img', size: 4 * MIB, direct } });
  const engine = uring ? 'io_uring' : 'threads';
  expect(setup.server.log).toContainEqual(expect.objectContaining({ io: engine }));
}

async function load(...options: (string | number)[]): Promise<VerifyReport> {
  const journal = ['-j', setup.join('journal')];
  const report = await setup.verify('1.0', ...journal, '-t', 1, '-e', ...options);
  expect(report).toMatchObject({ wrong: 0, refused: 0, malformed: 0, unanswered: 0 });
  return report;
}

/** Reads or writes only, all of which fail, and at once. */
async function expectFailure(writePercent: 0 | 100): Promise<void> {
  const report = await load('-w', writePercent);
  const failed = writePercent === 0 ? READ_FAILED : WRITE_FAILED;
  expect(report).toMatchObject({ reads: 0, writes: 0, ...failed });
  expect(report.failed).toBeGreaterThan(0);
  expectAtOnce(report);
}

describeWith(TOOLS, 'file I/O of which one operation does not work', () => {
  beforeEach(async () => {
    setup = await Setup.create();
    await mkdir(setup.join('faults'));
  });
  afterEach(() => disposeAll(setup));

  for (const [way, { direct, uring }] of Object.entries(WAYS)) {
    const reading = uring && direct ? 'io_uring_submit' : 'pread64';
    const writing = uring && direct ? 'io_uring_submit' : 'pwrite64';

    it(`fails alone, at once, and for as long as it does not work (${way})`, async () => {
      await start(direct, uring);
      expect(await load()).toMatchObject(UNHARMED);
      for (const errno of [EIO, ENOSPC]) {
        await breakFunction(writing, errno);
        await expectFailure(100);
        await mendFunction(writing);
      }
      // The page cache has nothing.
      await breakFunction('preadv64v2', EAGAIN);
      await breakFunction(reading, EIO);
      await expectFailure(0);
      await mendFunction(reading);
      expect(await load('-w', 50)).toMatchObject(UNHARMED);
      expect(await load('-c')).toMatchObject(UNHARMED);
    });

    it(`is finished when it did only a part (${way})`, async () => {
      await start(direct, uring);
      for (const name of ['preadv64v2', 'pread64', 'pwrite64', 'io_uring_submit']) {
        await breakFunction(name, SHORT);
      }
      const report = await load();
      expect(report).toMatchObject(UNHARMED);
      expect(report.writes).toBeGreaterThan(0);
      for (const name of ['preadv64v2', 'pread64', 'pwrite64', 'io_uring_submit']) {
        await mendFunction(name);
      }
      expect(await load('-c')).toMatchObject(UNHARMED);
    });
  }

  it('is begun when the kernel takes it, if it did not at first', async () => {
    await start(true, true);
    expect(await load()).toMatchObject(UNHARMED);
    // What is forgotten is resent only when the load is over.
    const journal = ['-j', setup.join('journal')];
    const during = await setup.startLoad('1.0', ...journal, '-t', 3, '-T', 8000, '-w', 10);
    await breakFunction('io_uring_enter', EAGAIN);
    await sleep(REFUSED_MS);
    await mendFunction('io_uring_enter');
    const report = await during.report;
    expect(report).toMatchObject({ ...UNHARMED, resends: 0 });
    expect(report.maxMs).toBeGreaterThan(REFUSED_MS / 2);
  });

  it('is done again when it is a flush that was interrupted', async () => {
    await start(false, true);
    const journal = ['-j', setup.join('journal')];
    const during = await setup.startLoad('1.0', ...journal, '-t', 2);
    await breakFunction('fdatasync', EINTR);
    await sleep(REFUSED_MS);
    await mendFunction('fdatasync');
    expect(await during.report).toMatchObject(UNHARMED);
    expect(await load('-c')).toMatchObject(UNHARMED);
  });

  it('is done again when it is a trim that was interrupted', async () => {
    await using served = await serveFaulty();
    await breakFunction('fallocate64', EINTR);
    const trim = trimRequest();
    const replies = served.client.exchange(trim, 1);
    await sleep(REFUSED_MS);
    await mendFunction('fallocate64');
    expectFrames(await replies, [ataReply(trim)]);
  });

  it('is done again when it is what makes room for a store, and was interrupted', async () => {
    await breakFunction('fallocate64', EINTR);
    const cas = { size: 4 * MIB, blob_store: { type: 'file', path: 'store' } };
    const started = startFaulty({ backend: 'cas', cas });
    expect(await Promise.race([started, sleep(START_MS, 'waits')])).toBe('waits');
    await mendFunction('fallocate64');
    await started;
    expect(await load()).toMatchObject(UNHARMED);
  });

  it('is done again when it is the flush of a directory that was interrupted', async () => {
    const variables = Object.fromEntries(await preload());
    await breakFunction('fsync', EINTR);
    const program = spawn(process.execPath, [ADDON, 'flushDirectory', setup.join('faults')], {
      env: { ...process.env, ...variables },
    });
    const exited = once(program, 'exit');
    expect(await Promise.race([exited, sleep(START_MS, 'waits')])).toBe('waits');
    await mendFunction('fsync');
    expect(await exited).toEqual([0, null]);
  });

  for (const errno of [EIO, ENOSPC]) {
    it(`fails the target for good when it is a flush (errno ${errno})`, async () => {
      await start(false, true);
      expect(await load()).toMatchObject(UNHARMED);
      await breakFunction('fdatasync', errno);
      await expectFailure(100);
      await mendFunction('fdatasync');
      await expectFailure(100);
      expect((await load('-w', 0)).failed).toBe(0);
      expect(setup.server.log.filter(({ msg }) => /flush failed/.test(msg))).toHaveLength(1);
    });
  }

  for (const name of ['pwrite64', 'fdatasync']) {
    it(`fails a store for good when it writes its log (${name}), and what was written stays`, async () => {
      const cas = { size: 4 * MIB, blob_store: { type: 'file', path: 'store' } };
      await startFaulty({ backend: 'cas', cas });
      expect(await load()).toMatchObject(UNHARMED);
      await breakFunction(name, EIO);
      await expectFailure(100);
      await mendFunction(name);
      await expectFailure(100);
      expect((await load('-w', 0)).failed).toBe(0);
      const socket = setup.join('state/control.sock');
      expect(await askStatus(socket)).toMatchObject({ stores: [{ failed: true }] });
      expect(setup.server.logText()).toMatch(/the store has failed/);
      await askControl(socket, 'POST', '/v1/targets/e1.0/readd');
      expect(await load('-c')).toMatchObject(UNHARMED);
      expect(await load()).toMatchObject(UNHARMED);
      expect(await askStatus(socket)).toMatchObject({ stores: [{ failed: false }] });
      await breakFunction(name, EIO);
      await expectFailure(100);
      await setup.server.stop();
      await mendFunction(name);
      await startFaulty({ backend: 'cas', cas });
      expect(await load('-c')).toMatchObject(UNHARMED);
      expect(await load()).toMatchObject(UNHARMED);
    });
  }

  it('leaves initiators the size they know when it is a flush of a new one', async () => {
    await using served = await serveFaulty();
    await truncate(join(served.directory, 'disk.img'), 8 * MIB);
    await breakFunction('fdatasync', EIO);
    const identify = ataRequest({ opcode: 0xec, sectorCount: 1 });
    // Initiators ask again and again; a flush that works now proves nothing about the first.
    for (const mend of [false, false, true]) {
      if (mend) await mendFunction('fdatasync');
      const replies = (await served.client.exchange(identify, 1)).map(dataOf);
      expect(replies.map((data) => data.readUInt32LE(200) * SECTOR_SIZE)).toEqual([4 * MIB]);
    }
  });

  it('fails alone, at once, when it is a trim', async () => {
    await using served = await serveFaulty();
    const trim = trimRequest();
    const write = ataRequest({ opcode: 0x34, aflags: 0x41, sectorCount: 2, data: sectors(2, 1) });
    for (const errno of [EIO, ENOSPC]) {
      await breakFunction('fallocate64', errno);
      const failure = { status: WRITE_FAILED.lastStatus, error: WRITE_FAILED.lastError };
      expectFrames(await served.client.exchange(trim, 1), [ataReply(trim, failure)]);
      expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
      await mendFunction('fallocate64');
      expectFrames(await served.client.exchange(trim, 1), [ataReply(trim)]);
    }
  });
});
