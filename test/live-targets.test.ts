import fs, { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import timers, { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import type { TomlTable } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AoeServer } from '../src/aoe/aoe-server.ts';
import { AoeTarget } from '../src/aoe/aoe-target.ts';
import { Exchange } from '../src/aoe/exchange.ts';
import { StateStore } from '../src/aoe/state-store.ts';
import { withOpenStore } from '../src/backends/cas/index.ts';
import { openCasStore } from '../src/backends/cas/open.ts';
import { CasStore } from '../src/backends/cas/store.ts';
import { seldomTasks } from '../src/backends/file-tasks.ts';
import { BlockStatus } from '../src/core/block-error.ts';
import { CommittedDevice } from '../src/core/committed-device.ts';
import { Limits } from '../src/core/limits.ts';
import { RequestPool, slabBytes } from '../src/core/request-pool.ts';
import { LiveTargets } from '../src/live-targets.ts';
import { native } from '../src/native.ts';
import type { TargetCalls } from '../src/worker-thread.ts';
import { ataRequest, configRequest } from './protocol/frames.ts';
import { FakeLink } from './support/fake-link.ts';
import { LiveServer } from './support/live-server.ts';
import { descriptorsOf } from './support/tools.ts';

const DISK_BYTES = 1 << 20;
const [EIO, EACCES, EINVAL] = [5, 13, 22];
/** In this time several looks are taken whether requests have ended. */
const LOOK_MS = 30;
const STOPPING = 'the server is stopping';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp('/dev/shm/aoe-live-');
});
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await rm(directory, { recursive: true });
});

function at(name: string): string {
  return join(directory, name);
}

function casTarget(slot: number, keys: TomlTable = {}, fields: TomlTable = {}): TomlTable {
  const { path = 'store', size = DISK_BYTES } = keys;
  const cas = { size, blob_store: { type: 'file', path } };
  return { shelf: 1, slot, backend: 'cas', cas, ...fields };
}

function imageTarget(slot: number): TomlTable {
  return { shelf: 1, slot, backend: 'file', file: { path: `disk${slot}.img`, size: DISK_BYTES } };
}

describe('a volume that initiators know', () => {
  it('is not replaced by one of a store that is missing', async () => {
    await using server = await LiveServer.start(directory, [casTarget(0)]);
    await expect(server.reload([casTarget(0, { path: 'typo' })])).rejects.toThrow(
      /there is no store in .*typo, and an empty one cannot take the place/,
    );
    expect(existsSync(at('typo'))).toBe(false);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
  });

  it('is not replaced by a new one in another store', async () => {
    const targets = [casTarget(0), casTarget(1, { path: 'other' })];
    await using server = await LiveServer.start(directory, targets);
    const moved = [casTarget(0, { path: 'other' }), casTarget(1, { path: 'other' })];
    await expect(server.reload(moved)).rejects.toThrow(
      /the store .*other has no volume e1.0, and an empty one cannot take the place/,
    );
    await server.reload(targets);
    expect(server.status()).toEqual([
      ['e1.0', DISK_BYTES, 'served'],
      ['e1.1', DISK_BYTES, 'served'],
    ]);
  });

  it('is not opened anew from a directory that is empty now', async () => {
    await using server = await LiveServer.start(directory, [casTarget(0)]);
    await server.drain('e1.0');
    await rename(at('store'), at('kept'));
    await expect(server.readd('e1.0')).rejects.toThrow(/there is no store in/);
    expect(existsSync(at('store'))).toBe(false);
    await rename(at('kept'), at('store'));
    await server.readd('e1.0');
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
  });

  it('is made at a start with a warning when it is missing, as an image is', async () => {
    const targets = [casTarget(0), imageTarget(1)];
    const first = await LiveServer.start(directory, targets);
    await first[Symbol.asyncDispose]();
    expect(first.log).toEqual([]);
    await rm(at('store'), { recursive: true });
    await rm(at('disk1.img'));
    await using server = await LiveServer.start(directory, targets);
    expect(server.log).toEqual([
      expect.stringMatching(/the store .* has no volume e1.0: an empty one is made/),
      expect.stringMatching(/disk1.img is missing: an empty one is made/),
    ]);
  });
});

describe('a volume that is larger than configured', () => {
  const targets = [casTarget(0), casTarget(1, {}, { write_cache: true })];

  it('is served as it is when the change that has grown it is undone', async () => {
    await using server = await LiveServer.start(directory, targets);
    const missing = { blob_store: { type: 'file', path: 'store' }, root: 'missing' };
    await expect(
      server.reload([
        casTarget(0, { size: 2 * DISK_BYTES }),
        { shelf: 1, slot: 1, backend: 'cas', cas: missing },
      ]),
    ).rejects.toThrow(/^the store .* has no snapshot missing$/);
    expect(server.status()).toEqual([
      ['e1.0', 2 * DISK_BYTES, 'served'],
      ['e1.1', DISK_BYTES, 'served'],
    ]);
    expect(server.log).toEqual([expect.stringContaining('the volume is larger than configured')]);
  });

  it('is served at a start, too, and refused to be made smaller', async () => {
    const large = [casTarget(0, { size: 2 * DISK_BYTES })];
    const first = await LiveServer.start(directory, large);
    await expect(first.reload(targets)).rejects.toThrow('e1.0 would shrink from 2MiB to 1MiB');
    await first[Symbol.asyncDispose]();
    await using server = await LiveServer.start(directory, targets);
    expect(server.status()[0]).toEqual(['e1.0', 2 * DISK_BYTES, 'served']);
    expect(server.log).toEqual([expect.stringContaining('the volume is larger than configured')]);
  });
});

describe('an image that others have grown', () => {
  it('is durable in its new size before that is remembered', async () => {
    const targets = [{ shelf: 1, slot: 0, backend: 'file', file: { path: 'disk0.img' } }];
    await writeFile(at('disk0.img'), '');
    await truncate(at('disk0.img'), DISK_BYTES);
    const first = await LiveServer.start(directory, targets);
    await first[Symbol.asyncDispose]();
    await truncate(at('disk0.img'), 2 * DISK_BYTES);
    const flushed = vi.spyOn(CommittedDevice.prototype, 'flush');
    const saved = vi.spyOn(StateStore.prototype, 'save');
    await using _server = await LiveServer.start(directory, targets);
    expect(saved.mock.calls).toEqual([
      ['e1.0', expect.objectContaining({ sizeBytes: 2 * DISK_BYTES })],
    ]);
    const [[flushOrder], [saveOrder]] = [flushed, saved].map(
      (one) => one.mock.invocationCallOrder,
    ) as [number[], number[]];
    expect(flushOrder).toBeLessThan(saveOrder as number);
  });
});

describe('an image that a change makes, or makes larger', () => {
  it('is durable before that is remembered, and halts no other target for it', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const halted = [vi.spyOn(fs, 'fsyncSync'), vi.spyOn(fs, 'fdatasyncSync')];
    syncBuiltinESMExports();
    const done: string[] = [];
    const { flush } = CommittedDevice.prototype;
    vi.spyOn(CommittedDevice.prototype, 'flush').mockImplementation(async function (
      this: CommittedDevice,
    ) {
      const status = await flush.call(this);
      done.push(`flush ${this.sizeBytes}`);
      return status;
    });
    const { save } = StateStore.prototype;
    vi.spyOn(StateStore.prototype, 'save').mockImplementation(function (
      this: StateStore,
      name,
      saved,
    ) {
      done.push(`save ${saved.sizeBytes}`);
      return save.call(this, name, saved);
    });
    const large = { path: 'disk0.img', size: 2 * DISK_BYTES };
    await server.reload([{ ...imageTarget(0), file: large }]);
    const durable = done.indexOf(`flush ${2 * DISK_BYTES}`);
    expect(durable).toBeGreaterThanOrEqual(0);
    expect(done.indexOf(`save ${2 * DISK_BYTES}`)).toBeGreaterThan(durable);
    await server.reload([{ ...imageTarget(0), file: large }, imageTarget(1)]);
    for (const halt of halted) expect(halt).not.toHaveBeenCalled();
  });
});

describe('an image in whose place another one is put', () => {
  const targets = [imageTarget(0), imageTarget(1)];

  it('is not served while another target serves the same, under the name it had', async () => {
    await using server = await LiveServer.start(directory, targets);
    await rename(at('disk0.img'), at('kept.img'));
    await rename(at('disk1.img'), at('disk0.img'));
    await expect(server.readd('e1.0')).rejects.toThrow(
      /^e1.0 stays drained: .*disk0.img holds data of another target that is open$/,
    );
    expect(server.status()).toEqual([
      ['e1.0', DISK_BYTES, 'drained'],
      ['e1.1', DISK_BYTES, 'served'],
    ]);
    await rename(at('kept.img'), at('disk1.img'));
    await server.readd('e1.1');
    await server.resume('e1.0');
    expect(server.status().map(([, , state]) => state)).toEqual(['served', 'served']);
  });

  it('is not served, however often it is tried, while its folder cannot be synced', async () => {
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockResolvedValue(-EIO);
    for (const _ of [1, 2]) {
      await expect(LiveServer.start(directory, targets)).rejects.toThrow(
        /^cannot make the name of .*disk0.img durable: EIO/,
      );
    }
    // A file system that has nothing of the kind.
    synced.mockResolvedValue(-EINVAL);
    const server = await LiveServer.start(directory, targets);
    expect(server.status()).toHaveLength(2);
    await server[Symbol.asyncDispose]();
    synced.mockRestore();
  });

  it('is durable itself before the name that leads to it is', async () => {
    const done: string[] = [];
    const flushed = vi.spyOn(CommittedDevice.prototype, 'flush').mockImplementation(async () => {
      await turn();
      done.push('content');
      return BlockStatus.ok;
    });
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockImplementation(async () => {
      done.push('name');
      return 0;
    });
    await using _server = await LiveServer.start(directory, [imageTarget(0)]);
    expect(done.slice(0, 2)).toEqual(['content', 'name']);
    flushed.mockRestore();
    synced.mockRestore();
  });

  it('is served when it cannot be flushed, unless it is larger than initiators know', async () => {
    const first = await LiveServer.start(directory, [imageTarget(0)]);
    await first[Symbol.asyncDispose]();
    const flushed = vi.spyOn(CommittedDevice.prototype, 'flush');
    const failed = vi.spyOn(CommittedDevice.prototype, 'failed', 'get');
    const failNext = () => {
      flushed.mockResolvedValueOnce(BlockStatus.ioError);
      failed.mockReturnValueOnce(false).mockReturnValue(true);
    };
    failNext();
    const second = await LiveServer.start(directory, [imageTarget(0)]);
    expect([...second.targets.status()]).toMatchObject([{ failed: true }]);
    await second[Symbol.asyncDispose]();

    failNext();
    const large = { ...imageTarget(0), file: { path: 'disk0.img', size: 2 * DISK_BYTES } };
    await expect(LiveServer.start(directory, [large])).rejects.toThrow('a flush of e1.0 failed');
    const saved = await StateStore.attach(at('state')).load('e1.0');
    expect(saved?.sizeBytes).toBe(DISK_BYTES);
    flushed.mockRestore();
    failed.mockRestore();
  });

  it('is served, and that is told, when it is not durable for long', async () => {
    let end = (_result: number): void => {};
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockReturnValue(
      new Promise((resolve) => {
        end = resolve;
      }),
    );
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
    expect(server.log).toEqual([expect.stringContaining('still being written to its disk')]);
    end(-EIO);
    await expect.poll(() => server.log).toHaveLength(2);
    expect(server.log[1]).toMatch(/after a power cut it may be missing: .* durable: EIO/);
    synced.mockRestore();
  });

  it('is served with its file system flushed when its folder may not be read', async () => {
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockResolvedValue(-EACCES);
    const flushed = vi.spyOn(seldomTasks, 'flushFileSystem');
    const server = await LiveServer.start(directory, targets);
    expect(flushed.mock.calls.flat().sort()).toEqual([at('disk0.img'), at('disk1.img')]);
    expect(flushed.mock.settledResults).toEqual(
      targets.map(() => ({ type: 'fulfilled', value: 0 })),
    );
    await server[Symbol.asyncDispose]();
    flushed.mockResolvedValue(-EIO);
    await expect(LiveServer.start(directory, targets)).rejects.toThrow('EIO');
    flushed.mockRestore();
    synced.mockRestore();
  });
});

describe('a target whose size cannot be saved', () => {
  const growing = (bytes: number) => [
    { ...imageTarget(0), file: { path: 'disk0.img', size: bytes } },
    casTarget(1, { size: bytes }),
  ];

  it('is not made larger, and served on, and can be changed in other ways', async () => {
    await using server = await LiveServer.start(directory, growing(DISK_BYTES));
    const before = server.status();
    for (const name of ['e1.0', 'e1.1']) {
      const inTheWay = at(`state/${name}.json.aoe-server.tmp`);
      await mkdir(inTheWay);
      await expect(server.reload(growing(2 * DISK_BYTES))).rejects.toThrow(
        new RegExp(`^cannot save the state of ${name} in .*: EISDIR`),
      );
      expect(server.status()).toEqual(before);
      const cached = { write_cache: true };
      await server.reload(growing(DISK_BYTES).map((target) => ({ ...target, ...cached })));
      await server.reload(growing(DISK_BYTES));
      await rm(inTheWay, { recursive: true });
    }
    expect((await stat(at('disk0.img'))).size).toBe(DISK_BYTES);
    await server.reload(growing(2 * DISK_BYTES));
    expect(server.status().map(([, sizeBytes]) => sizeBytes)).toEqual(
      Array(2).fill(2 * DISK_BYTES),
    );
  });
});

describe('a target whose state file cannot be read', () => {
  it('is served on when it is to be changed, or opened anew', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    await writeFile(at('state/e1.0.json'), '{}');
    const problem = { message: expect.stringContaining(at('state/e1.0.json')) };
    const cached = { ...imageTarget(0), write_cache: true };
    await expect(server.reload([cached])).rejects.toMatchObject(problem);
    await expect(server.readd('e1.0')).rejects.toMatchObject(problem);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
  });
});

describe('a target with requests in flight', () => {
  it('is drained when they have ended, and then flushed', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const flushed = vi.spyOn(CommittedDevice.prototype, 'flush');
    const [target] = [...server.table] as [AoeTarget];
    target.inFlight = 1;
    const drained = server.drain('e1.0');
    await timers.setTimeout(LOOK_MS);
    expect([...server.table]).toEqual([]);
    expect(flushed).not.toHaveBeenCalled();
    target.inFlight = 0;
    await drained;
    expect(flushed).toHaveBeenCalledOnce();
  });

  it('is closed when they have ended, if it is removed', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
    const closed = vi.spyOn(AoeTarget.prototype, 'close');
    const [target] = [...server.table] as [AoeTarget];
    target.inFlight = 1;
    const removed = server.reload([imageTarget(1)]);
    await expect.poll(() => server.table.count).toBe(1);
    await timers.setTimeout(LOOK_MS);
    expect(closed).not.toHaveBeenCalled();
    target.inFlight = 0;
    await removed;
    expect(closed.mock.contexts).toEqual([target]);
  });

  it('is closed no earlier though they take long, if it is removed', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
    const closed = vi.spyOn(AoeTarget.prototype, 'close');
    const [target] = [...server.table] as [AoeTarget];
    target.inFlight = 1;
    // The time that they have is over at once, and it is soon looked again.
    let nowMs = performance.now();
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => {
      nowMs += 1000;
      return nowMs;
    });
    const sleep = timers.setTimeout;
    const waits = vi
      .spyOn(timers, 'setTimeout')
      .mockImplementation((ms, value, options) =>
        sleep(Math.min(ms ?? 0, LOOK_MS / 3), value, options),
      );
    syncBuiltinESMExports();
    await server.reload([imageTarget(1)]);
    expect(server.log).toEqual(['e1.0 was removed, but could not be closed']);
    await sleep(LOOK_MS);
    expect(closed).not.toHaveBeenCalled();
    target.inFlight = 0;
    await expect.poll(() => server.log).toHaveLength(2);
    expect(closed.mock.contexts).toEqual([target]);
    clock.mockRestore();
    waits.mockRestore();
    syncBuiltinESMExports();
  });

  it('counts as used as before when it is replaced', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const [target] = [...server.table] as [AoeTarget];
    target.lastAccessUs = Date.parse('2026-01-01') * 1000;
    await server.reload([{ ...imageTarget(0), write_cache: true }]);
    expect([...server.targets.status()]).toMatchObject([
      { writeCache: true, lastAccess: '2026-01-01T00:00:00.000Z' },
    ]);
  });
});

it('serves all targets on of which one cannot be drained', async () => {
  await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
  const flushed = vi.spyOn(CommittedDevice.prototype, 'flush');
  flushed.mockResolvedValueOnce(BlockStatus.ok).mockResolvedValueOnce(BlockStatus.ioError);
  const addresses = [...server.table].map(({ address }) => address);
  await expect(server.live.drain(addresses)).rejects.toThrow('a flush of e1.1 failed');
  expect(server.status().map(([, , state]) => state)).toEqual(['served', 'served']);
  flushed.mockRestore();
});

it('lets no target take what another one that goes has open', async () => {
  await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
  const taking = { ...imageTarget(0), file: { path: 'disk1.img' } };
  await expect(server.reload([taking])).rejects.toMatchObject({
    remedy: expect.stringMatching('^reload twice'),
  });
  expect(server.status().map(([, , state]) => state)).toEqual(['served', 'served']);
});

it('lets go of an image that is smaller than initiators have seen it', async () => {
  const state = await StateStore.open(at('state'), native.lockFile);
  await state.save('e1.0', { maskList: [], reserveList: [], sizeBytes: 2 * DISK_BYTES });
  await state.close();
  await expect(LiveServer.start(directory, [imageTarget(0)])).rejects.toThrow('have seen it with');
  expect(descriptorsOf(at('disk0.img'))).toEqual([]);
});

describe('a drained target', () => {
  it('is not made as large again as initiators know it, when its image was cut meanwhile', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const closed = vi.spyOn(server.targets, 'closeStores');
    closed.mockImplementationOnce(() => truncate(at('disk0.img'), 512));
    await expect(server.readd('e1.0')).rejects.toThrow('have seen it with');
    expect((await stat(at('disk0.img'))).size).toBe(512);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'drained']]);
  });

  it('is closed again when it was opened anew, and cannot be made durable', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockResolvedValue(-EIO);
    await expect(server.readd('e1.0')).rejects.toThrow('e1.0 stays drained');
    expect(descriptorsOf(at('disk0.img'))).toEqual([]);
    synced.mockRestore();
    await server.resume('e1.0');
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
  });

  it('goes over to where its image was moved', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    const moved = [{ ...imageTarget(0), file: { path: 'moved.img' } }];
    await server.drain('e1.0');
    await rename(at('disk0.img'), at('moved.img'));
    await server.reload(moved);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'drained']]);
    await server.resume('e1.0');
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
    await rename(at('moved.img'), at('disk0.img'));
    // What is served could not be opened again as it was, if something went wrong.
    await expect(server.reload([imageTarget(0)])).rejects.toThrow(/moved.img is missing/);
    expect(server.status()).toEqual([['e1.0', DISK_BYTES, 'served']]);
  });
});

describe('a config string', () => {
  const withString = (config_string: string) => [{ ...imageTarget(0), config_string }];
  const stringOf = ({ targets }: LiveServer) => [...targets.status()][0]?.configString;

  it('is that of the configuration, also a later one, until an initiator has set another', async () => {
    const first = await LiveServer.start(directory, withString('one'));
    await first.reload(withString('two'));
    expect(stringOf(first)).toBe('two');
    await first[Symbol.asyncDispose]();
    await using second = await LiveServer.start(directory, withString('three'));
    expect(stringOf(second)).toBe('three');
  });

  it('that an initiator has set stays, also when it is empty', async () => {
    for (const set of ['claimed', '']) {
      const state = await StateStore.open(at('state'), native.lockFile);
      const configString = Buffer.from(set);
      const lists = { maskList: [], reserveList: [] };
      await state.save('e1.0', { ...lists, configString, sizeBytes: DISK_BYTES });
      await state.close();
      await using server = await LiveServer.start(directory, withString('one'));
      await server.reload(withString('two'));
      // Whatever else is saved, too.
      await server.live.setLists(1 << 8, { maskList: [1] });
      expect((await StateStore.attach(at('state')).load('e1.0'))?.configString).toHaveLength(
        set.length,
      );
      expect(stringOf(server)).toBe(set);
    }
  });
});

describe('a target that gets requests', () => {
  /** Delivers frames to the targets of a server. */
  async function deliver(
    { table }: LiveServer,
    frames: readonly Buffer[],
    arrivalUs = Date.now() * 1000,
  ) {
    const slab = new ArrayBuffer(slabBytes(4, Limits.requestSlotBytes));
    const memory = { bytes: Buffer.from(slab), region: 0 };
    const view = new DataView(slab);
    const make = (index: number, all: RequestPool<Exchange>) =>
      new Exchange(index, memory, view, all);
    const pool = new RequestPool<Exchange>(4, make);
    const aoe = new AoeServer({ targets: table, pool, allow: new Set() });
    const registerMemory = (ring: ArrayBuffer) => ({ bytes: Buffer.from(ring), region: 0 });
    const link = new FakeLink({ mac: 2, mtu: 1500, slab, registerMemory });
    const served = aoe.serve(link);
    link.sent.length = 0;
    await link.deliver(frames, arrivalUs);
    await expect.poll(() => pool.inFlight).toBe(0);
    const replies = [...link.sent];
    link.close();
    await served;
    return replies;
  }

  it('gets none that arrived before it was opened: what was there before may have had newer', async () => {
    const earlierUs = Date.now() * 1000 - 1;
    await using server = await LiveServer.start(directory, [
      { ...imageTarget(0), write_cache: true },
    ]);
    const write = { opcode: 0x34, aflags: 0x41, sectorCount: 1, data: Buffer.alloc(512) };
    const switchCacheOn = { opcode: 0xef, feature: 0x02 };
    const frames = [
      ataRequest(write),
      ataRequest(switchCacheOn),
      configRequest({ ccmd: 4, text: 'old' }),
    ];
    expect(await deliver(server, frames, earlierUs)).toEqual([]);
  });

  it('leaves its write cache off when it is replaced, and on again', async () => {
    const targets = (config_string: string) => [
      { ...imageTarget(0), write_cache: true, config_string },
    ];
    const isOn = ({ targets: all }: LiveServer) => [...all.status()][0]?.writeCache;
    await using server = await LiveServer.start(directory, targets('one'));
    expect(isOn(server)).toBe(true);
    for (const [feature, isOnThen] of [
      [0x82, false],
      [0x02, true],
    ] as const) {
      expect(await deliver(server, [ataRequest({ opcode: 0xef, feature })])).toHaveLength(1);
      for (const text of ['two', 'three']) {
        await server.reload(targets(text));
        expect(isOn(server)).toBe(isOnThen);
      }
    }
  });

  it('tells of a larger size when it is durable and saved, and not when it has failed', async () => {
    const identify = ataRequest({ opcode: 0xec, sectorCount: 1 });
    const targets = [{ shelf: 1, slot: 0, backend: 'file', file: { path: 'disk0.img' } }];
    await writeFile(at('disk0.img'), '');
    await truncate(at('disk0.img'), DISK_BYTES);
    await using server = await LiveServer.start(directory, targets);
    const flushed = vi.spyOn(CommittedDevice.prototype, 'flush');
    const saved = vi.spyOn(StateStore.prototype, 'save');
    await truncate(at('disk0.img'), 2 * DISK_BYTES);
    await deliver(server, [identify]);
    expect(saved).toHaveBeenCalledOnce();
    const [[flushOrder], [saveOrder]] = [flushed, saved].map(
      (one) => one.mock.invocationCallOrder,
    ) as [number[], number[]];
    expect(flushOrder).toBeLessThan(saveOrder as number);
    const failed = vi.spyOn(CommittedDevice.prototype, 'failed', 'get').mockReturnValue(true);
    await truncate(at('disk0.img'), 3 * DISK_BYTES);
    await deliver(server, [identify]);
    expect(saved).toHaveBeenCalledOnce();
    for (const spy of [flushed, saved, failed]) spy.mockRestore();
  });
});

it('refuses targets beyond those that there is room for, and takes them when others are closed', async () => {
  const limits = Limits as { targetCount: number };
  const { targetCount } = limits;
  const [first, second, third] = [casTarget(0), casTarget(1), imageTarget(2)];
  const noRoom = 'there is no room for e1.2';
  limits.targetCount = 2;
  const starting = LiveServer.start(directory, [first]);
  await using server = await starting.finally(() => {
    limits.targetCount = targetCount;
  });
  // One that cannot be opened takes no room.
  await writeFile(at('state/e1.1.json'), '{}');
  for (const _ of [1, 2]) {
    await expect(server.reload([first, second])).rejects.toThrow('cannot use the state file');
  }
  await rm(at('state/e1.1.json'));
  await server.reload([first, second]);
  await server.drain('e1.1');
  // The first of them is closed alone, and then once more with its store.
  await server.readd('e1.0');
  await server.resume('e1.1');
  await expect(server.reload([first, second, third])).rejects.toThrow(noRoom);
  await server.reload([first]);
  await server.reload([first, third]);
  expect(server.status().map(([name]) => name)).toEqual(['e1.0', 'e1.2']);
});

describe('a store that is opened anew', () => {
  const targets = [casTarget(0), casTarget(1)];
  const large = [0, 1].map((slot) => casTarget(slot, { size: 2 * DISK_BYTES, path: 'large' }));
  let server: LiveServer;

  beforeEach(async () => {
    const other = await LiveServer.start(directory, large);
    await other[Symbol.asyncDispose]();
    await rm(at('state'), { recursive: true });
    server = await LiveServer.start(directory, targets);
  });
  afterEach(() => server[Symbol.asyncDispose]());

  // What is served afterwards tells which one is open. Both are idle.
  const replace = async () => {
    await rename(at('store'), at('kept'));
    await rename(at('large'), at('store'));
  };

  it('is the one that is there now, when all its targets are drained', async () => {
    for (const name of ['e1.0', 'e1.1']) await server.drain(name);
    await replace();
    await server.readd('e1.0');
    await server.resume('e1.1');
    expect(server.status()).toEqual([
      ['e1.0', 2 * DISK_BYTES, 'served'],
      ['e1.1', 2 * DISK_BYTES, 'served'],
    ]);
  });

  it('is revived when it has failed, though its idle targets have not heard of that', async () => {
    await withOpenStore(at('store'), async ({ writer }) => writer.log.fail(new Error('EIO')));
    const failed = () => Array.from(server.targets.status(), (status) => status.failed);
    for (const name of ['e1.0', 'e1.1']) await server.drain(name);
    expect(failed()).toEqual([true, true]);
    await server.readd('e1.0');
    await server.resume('e1.1');
    expect(server.status().map(([, , state]) => state)).toEqual(['served', 'served']);
    expect(failed()).toEqual([false, false]);
  });

  it('is not closed while others of its targets are served', async () => {
    await expect(server.readd('e1.0')).rejects.toMatchObject({
      message: `other targets have the store ${at('store')} open`,
      remedy: 'drain all targets of the store first',
    });
    expect(server.status().map(([, , state]) => state)).toEqual(['served', 'served']);
    await server.drain('e1.0');
    await expect(server.readd('e1.0')).rejects.toThrow('other targets have');
    expect(
      server
        .status()
        .map(([, , state]) => state)
        .sort(),
    ).toEqual(['drained', 'served']);
  });

  it('is not closed while a job works on it, but when the job has ended', async () => {
    await server.drain('e1.1');
    let end = () => {};
    const job = withOpenStore(at('store'), () => new Promise<void>((resolve) => (end = resolve)));
    await expect(server.readd('e1.0')).rejects.toMatchObject({
      message: expect.stringMatching(`^a job, .* has the store ${at('store')} open$`),
      remedy: expect.stringContaining('cancel it'),
    });
    expect(
      server
        .status()
        .map(([, , state]) => state)
        .sort(),
    ).toEqual(['drained', 'served']);
    await server.drain('e1.0');
    await replace();
    setTimeout(end, 50);
    await server.readd('e1.0');
    await job;
    expect(server.status()).toContainEqual(['e1.0', 2 * DISK_BYTES, 'served']);
  });
});

it('does not say that storage hangs when writes wait for room that is being made', async () => {
  await using server = await LiveServer.start(directory, [casTarget(0)]);
  const [full] = [...server.table] as [AoeTarget];
  full.inFlight = 1;
  let giveUp = () => {};
  server.roomMade = new Promise((resolve) => {
    giveUp = () => resolve(false);
  });
  await withOpenStore(at('store'), async ({ options }) => {
    const made = options.makeRoom();
    await expect(server.targets.closeAll()).rejects.toMatchObject({
      message: 'writes to e1.0 wait for room in its store, which is being collected',
      remedy: expect.stringMatching('^wait for that'),
    });
    giveUp();
    await made;
  });
  await expect(server.targets.closeAll()).rejects.toThrow('the storage of e1.0 hangs');
  full.inFlight = 0;
});

it('tells the status of none that has gone while it was told', async () => {
  const kept = imageTarget(0);
  await using server = await LiveServer.start(directory, [kept, imageTarget(1), imageTarget(2)]);
  const status = server.targets.status();
  expect(status.next().value).toMatchObject({ name: 'e1.0' });
  await server.reload([kept, { ...imageTarget(2), write_cache: true }]);
  expect([...status]).toMatchObject([{ name: 'e1.2', writeCache: true }]);
});

describe('a target whose storage hangs when it is closed', () => {
  const sleep = timers.setTimeout;
  let end = () => {};
  /** What closing may take: a minute, once nothing is made to hang. */
  let patienceMs = 0;

  beforeEach(() => {
    patienceMs = 10;
    const closed = new Promise<void>((resolve) => {
      end = () => {
        patienceMs = 60_000;
        resolve();
      };
    });
    const { close } = AoeTarget.prototype;
    vi.spyOn(AoeTarget.prototype, 'close').mockImplementationOnce(async function (this: AoeTarget) {
      await closed;
      await close.call(this);
    });
    vi.spyOn(timers, 'setTimeout').mockImplementation((ms, value, options) =>
      sleep(ms === 60_000 ? patienceMs : ms, value, options),
    );
    syncBuiltinESMExports();
  });
  afterEach(() => end());

  it('keeps no server from stopping', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
    await expect(server.targets.closeAll()).rejects.toThrow('the storage of e1.0 hangs');
    end();
  });

  it('is not closed while it has a request in flight, as others are', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
    const [stuck, idle] = [...server.table] as [AoeTarget, AoeTarget];
    stuck.inFlight = 1;
    end();
    patienceMs = 10;
    await expect(server.targets.closeAll()).rejects.toThrow('the storage of e1.0 hangs');
    expect(vi.mocked(AoeTarget.prototype.close).mock.contexts).toEqual([idle]);
    stuck.inFlight = 0;
    patienceMs = 60_000;
  });

  it('is not closed once more by a server that stops', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    await expect(server.readd('e1.0')).rejects.toThrow('e1.0 stays drained: the storage of e1.0');
    await server.targets.closeAll();
    expect(AoeTarget.prototype.close).toHaveBeenCalledOnce();
  });

  it('lends its storage to no other target while it may still be written to', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0), imageTarget(1)]);
    await server.reload([imageTarget(1)]);
    const taking = { ...imageTarget(2), file: { path: 'disk0.img' } };
    await expect(server.reload([imageTarget(1), taking])).rejects.toMatchObject({
      remedy: expect.stringMatching('if its storage hangs, wait until it is closed$'),
    });
    end();
    await expect.poll(() => server.log.at(-1)).toMatch(/closed at last/);
    await server.reload([taking]);
    expect(server.status()).toEqual([['e1.2', DISK_BYTES, 'served']]);
  });

  it('is added again only when it is closed, also with other storage', async () => {
    await using server = await LiveServer.start(directory, [casTarget(0), casTarget(1)]);
    await server.reload([casTarget(1)]);
    expect(server.log).toEqual(['e1.0 was removed, but could not be closed']);
    for (const again of [casTarget(0), imageTarget(0)]) {
      await expect(server.reload([again, casTarget(1)])).rejects.toMatchObject({
        message: 'the storage of e1.0 hung when it was removed, and may still execute writes',
        remedy: 'wait until the log says that it is closed, or restart the server',
      });
    }
    await server.reload([casTarget(1), casTarget(2)]);
    await expect(server.reload([casTarget(0), casTarget(1), casTarget(2)])).rejects.toThrow('hung');
    end();
    await expect.poll(() => server.log.at(-1)).toMatch(/^the storage of e1.0.* closed at last/);
    await server.reload([casTarget(0), casTarget(1), casTarget(2)]);
    expect(
      server
        .status()
        .map(([name]) => name)
        .sort(),
    ).toEqual(['e1.0', 'e1.1', 'e1.2']);
  });
});

describe('a target whose storage fails when it is closed', () => {
  it('is gone when it is removed, and can be added again', async () => {
    const targets = [imageTarget(0), imageTarget(1)];
    await using server = await LiveServer.start(directory, targets);
    const { close } = AoeTarget.prototype;
    const failing = vi.spyOn(AoeTarget.prototype, 'close').mockImplementationOnce(async function (
      this: AoeTarget,
    ) {
      await close.call(this);
      throw new Error('EIO: i/o error, close');
    });
    await server.reload(targets.slice(1));
    expect(server.log).toEqual(['the storage of e1.0 failed while it was closed']);
    await server.reload(targets);
    expect(server.status()).toContainEqual(['e1.0', DISK_BYTES, 'served']);
    failing.mockRestore();
  });
});

describe('targets of a server that stops', () => {
  it('are closed when they are opened while all others are', async () => {
    await using server = await LiveServer.start(directory, [casTarget(0)]);
    await server.drain('e1.0');
    const { openVolume } = CasStore.prototype;
    let closed: Promise<void> | undefined;
    vi.spyOn(CasStore.prototype, 'openVolume').mockImplementation(async function (
      this: CasStore,
      ...args
    ) {
      const device = await openVolume.apply(this, args);
      closed = server.targets.closeAll();
      return device;
    });
    try {
      await expect(server.readd('e1.0')).rejects.toThrow(STOPPING);
    } finally {
      vi.restoreAllMocks();
    }
    await closed;
    // Whoever wants the store can have it.
    const store = await openCasStore(at('store'));
    await store.close();
  });

  it('are not served when all others were closed while they were made durable', async () => {
    await using server = await LiveServer.start(directory, [imageTarget(0)]);
    await server.drain('e1.0');
    let closed: Promise<void> | undefined;
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockImplementation(async () => {
      closed ??= server.targets.closeAll();
      return 0;
    });
    await expect(server.readd('e1.0')).rejects.toThrow(STOPPING);
    synced.mockRestore();
    await closed;
    expect([...server.table]).toEqual([]);
  });

  it('begin no work for which they were drained, and are drained no more', async () => {
    const done: string[] = [];
    const calls: Partial<TargetCalls> = {
      drain: async (addresses) => {
        done.push('drained');
        live.stop();
        return [...addresses];
      },
      resume: async () => {},
    };
    const live = new LiveTargets([{ targets: calls as TargetCalls }], pino({ enabled: false }));
    const work = async () => done.push('worked');
    await expect(live.whileDrained(1, work)).rejects.toThrow(STOPPING);
    await expect(live.whileDrained(1, work)).rejects.toThrow(STOPPING);
    expect(done).toEqual(['drained']);
  });
});

describe('targets of several threads', () => {
  const quiet = pino({ enabled: false });
  /** What the threads were asked for, in this order. */
  let asked: string[];

  beforeEach(() => {
    asked = [];
  });

  /** A thread that does nothing, but as `calls` say. */
  function thread(name: string, calls: Partial<TargetCalls> = {}): { targets: TargetCalls } {
    const answer = (call: string) => async (addresses: number[]) => {
      asked.push(`${name} ${call}`);
      return call === 'drain' || call === 'unclosed' ? (addresses ?? []) : undefined;
    };
    const get = (own: object, call: string) => Reflect.get(own, call) ?? answer(call);
    return { targets: new Proxy(calls, { get }) as TargetCalls };
  }

  it('change in an order that can be undone until all is durable, and the old go last', async () => {
    const live = new LiveTargets([thread('one')], quiet);
    await live.change({ added: [], changed: [], removed: [] });
    const order = 'try open drain close open remember serve remove';
    expect(asked).toEqual(order.split(' ').map((call) => `one ${call}`));
  });

  it('are served on in all of them when one cannot drain its own', async () => {
    const hanging = { drain: async () => Promise.reject(new Error('the storage hangs')) };
    const live = new LiveTargets([thread('one'), thread('two', hanging)], quiet);
    await expect(live.drain([7])).rejects.toThrow('hangs');
    expect(asked).toEqual(['one drain', 'one resume', 'two resume']);
  });

  it('are discarded in none, though a change failed in one, while another still works on its own', async () => {
    let end = () => {};
    const failing = { remember: async () => Promise.reject(new Error('no room')) };
    const slow = { remember: () => new Promise<void>((resolve) => (end = resolve)) };
    const live = new LiveTargets([thread('one', failing), thread('two', slow)], quiet);
    const changed = live.change({ added: [], changed: [], removed: [] });
    const failed = expect(changed).rejects.toThrow('no room');
    await vi.waitUntil(() => asked.includes('two open'));
    await new Promise(setImmediate);
    expect(asked).not.toContain('one discard');
    end();
    await failed;
    expect(asked).toContain('two discard');
  });
});
