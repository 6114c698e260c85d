import { syncBuiltinESMExports } from 'node:module';
import timers, { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FileLayer } from '../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { openStorePaths, shareCasStore } from '../../src/backends/cas/index.ts';
import { REMOTE_DEFAULTS } from '../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../src/backends/cas/store.ts';
import type { TargetStatus } from '../../src/status.ts';
import type { StoreVolume } from '../../src/stores/contract.ts';
import { RoomKeeper } from '../../src/stores/room-keeper.ts';
import { ServedStore } from '../../src/stores/served-store.ts';
import type { ServedStores } from '../../src/stores/served-stores.ts';
import { WAIT } from '../backends/cas/remote/remote-store.ts';
import { TraceBlobs } from '../backends/cas/remote/trace-blobs.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { blockOf, clientOf, TINY } from '../backends/cas/tiny-store.ts';
import { target } from '../cli/top/statuses.ts';
import { quietStores } from './quiet-stores.ts';

describe('the status of a store that is kept in blobs', () => {
  it('tells whether the blob store or the local disk is to blame', async () => {
    const files = new SimFs();
    const blobs = new TraceBlobs();
    const remote = { ...REMOTE_DEFAULTS, blobs, delayMs: 1 };
    const { store, release } = await shareCasStore('/served', { ...TINY, files, remote });
    const stores = quietStores();
    const client = clientOf(await store.openVolume('v', BLOCK_SIZE));
    const status = async () => (await stores.status())[0]?.blobStore;

    blobs.fail = () => 'before';
    await client.write(0, blockOf(2));
    await client.flush();
    await expect
      .poll(status, WAIT)
      .toMatchObject({ unreachable: 'the connection was refused', localDamage: null });
    blobs.fail = () => undefined;
    await expect
      .poll(status, WAIT)
      .toEqual({ lagBytes: 0, lagSeconds: 0, unreachable: null, localDamage: null });

    files.fault = (op) => (op === 'read' ? 'EIO' : undefined);
    await client.write(0, blockOf(4));
    await client.flush();
    const damage = expect.stringMatching(/^segment \d+ cannot be read/);
    await expect.poll(status, WAIT).toMatchObject({ unreachable: null, localDamage: damage });
    files.fault = () => undefined;
    await expect
      .poll(status, WAIT)
      .toEqual({ lagBytes: 0, lagSeconds: 0, unreachable: null, localDamage: null });
    await stores.close();
    await release();
  });
});

describe('the status of a store whose file system hangs', () => {
  it('is told all the same, without the room there, which is asked for once', async () => {
    const files: FileLayer = new SimFs();
    const { release } = await shareCasStore('/served', { ...TINY, files });
    const stores = quietStores();
    let end = (_bytes: number): void => {};
    // What the store itself asks for, of its directory of segments, is not meant.
    const { freeBytes } = files;
    const asked = vi.fn(() => {
      return new Promise<number>((resolve) => {
        end = resolve;
      });
    });
    files.freeBytes = (path) => (path === '/served' ? asked() : freeBytes.call(files, path));
    const statuses = Promise.all([stores.status(), stores.status()]);
    const told = [expect.objectContaining({ path: '/served', freeBytes: null })];
    expect(await statuses).toEqual([told, told]);
    expect(asked).toHaveBeenCalledOnce();
    end(1);
    files.freeBytes = freeBytes;
    await expect.poll(async () => (await stores.status())[0]?.freeBytes).toBeGreaterThan(1);
    await stores.close();
    await release();
  });
});

describe('a rollback', () => {
  let store: CasStore;
  let release: () => Promise<void>;
  /** What serves the volume, as it is found one time after the other. */
  let found: (TargetStatus | undefined)[];
  const pause = vi.fn<() => void>();
  let stores: ServedStores;

  beforeEach(async () => {
    ({ store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() }));
    await store.openVolume('e1.0', BLOCK_SIZE);
    await store.changes.snapshot('e1.0', 'monday');
    found = [];
    pause.mockReset();
    stores = quietStores({
      findTarget: async () => found.shift(),
      whilePaused: (_target, work) => {
        pause();
        return work();
      },
    });
  });
  afterEach(async () => {
    await stores.close();
    await release();
  });

  function rollBack(force: boolean, { signal } = new AbortController()): Promise<StoreVolume> {
    const served = stores.find('/served') as ServedStore;
    return served.rollback('e1.0', 'monday', force, signal);
  }

  it.each([
    ['accessed just now', () => ({ lastAccess: new Date().toISOString() }), /accessed \d s ago$/],
    ['reserved', () => ({ reserveList: ['02:00:00:00:00:01'] }), /reserved for 02:00:00:00:00:01$/],
    ['waiting for a response', () => ({ inFlight: 1 }), /a request is in flight$/],
  ])('pauses no target that is %s, unless it is forced', async (_, use, message) => {
    const used = { ...target('e1.0'), ...use() };
    found.push(used);
    await expect(rollBack(false)).rejects.toThrow(message);
    expect(pause).not.toHaveBeenCalled();
    found.push(used, used);
    await expect(rollBack(true)).resolves.toMatchObject({ name: 'e1.0' });
    expect(pause).toHaveBeenCalledOnce();
  });

  it('takes a volume from nobody who is no target, though it is forced', async () => {
    await expect(rollBack(true)).rejects.toThrow('in use');
    // The target has gone while this waited for its turn.
    found.push(target('e1.0'), undefined);
    await expect(rollBack(true)).rejects.toThrow('in use');
  });

  it('is told when it is as durable as asked for, with its target served again', async () => {
    const confirmed = vi.spyOn(store, 'confirm').mockImplementation(async () => {
      expect(pause).toHaveBeenCalledOnce();
      throw new Error('the blob store does not answer');
    });
    found.push(target('e1.0'), target('e1.0'));
    await expect(rollBack(false)).rejects.toThrow('the blob store does not answer');
    expect(confirmed).toHaveBeenCalledOnce();
  });
  it('is refused when the volume came into use while it waited for its turn', async () => {
    const idle = target('e1.0');
    const used = { ...idle, lastAccess: new Date().toISOString() };
    found.push(idle, used);
    await expect(rollBack(false)).rejects.toThrow(/e1.0 in use: .* ago/);
    found.push(idle, used);
    await expect(rollBack(true)).resolves.toMatchObject({ name: 'e1.0' });
  });

  it('is not done when whoever asked for it has gone while it waited for its turn', async () => {
    const asking = new AbortController();
    pause.mockImplementation(() => asking.abort(new Error('the client is gone')));
    found.push(target('e1.0'));
    const rolledBack = vi.spyOn(store.changes, 'rollback');
    await expect(rollBack(true, asking)).rejects.toThrow('the client is gone');
    expect(rolledBack).not.toHaveBeenCalled();
  });
});

describe('a store that is served', () => {
  let store: CasStore;
  let stores: ServedStores;
  let served: ServedStore;
  let release: () => Promise<void>;

  beforeEach(async () => {
    ({ store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() }));
    stores = quietStores();
    served = stores.find('/served') as ServedStore;
  });
  afterEach(async () => {
    vi.useRealTimers();
    vi.restoreAllMocks();
    await stores.close();
    await release();
  });

  it('is cared for in time, and goes on when that fails, until the server stops', async () => {
    vi.useFakeTimers();
    const errors: string[] = [];
    const cared = quietStores({
      log: pino({ base: null }, { write: (line: string) => errors.push(JSON.parse(line).msg) }),
    });
    const kept = vi.spyOn(RoomKeeper.prototype, 'keep').mockRejectedValue(new Error('EIO'));
    const surveyed = vi.spyOn(ServedStore.prototype, 'survey').mockResolvedValue();
    await vi.advanceTimersByTimeAsync(10_000);
    expect([errors, kept.mock.calls.length]).toEqual([['/served gets no care'], 1]);
    await vi.advanceTimersByTimeAsync(50_000);
    expect([kept.mock.calls.length, surveyed.mock.calls.length]).toEqual([6, 1]);
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(surveyed).toHaveBeenCalledTimes(2);
    await cared.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('is measured again when it has changed', async () => {
    const survey = async () => {
      await served.survey();
      const jobs = async () => (await served.status())?.jobs ?? [];
      const isMeasured = async () => (await jobs()).every(({ state }) => state === 'done');
      await expect.poll(isMeasured).toBe(true);
      return (await jobs()).length;
    };
    expect([await survey(), await survey()]).toEqual([1, 1]);
    await served.list();
    expect(await survey()).toBe(2);
  });

  it('is waited for at a stop while something is changed', async () => {
    await store.openVolume('v', BLOCK_SIZE);
    let end = () => {};
    const confirmed = vi.spyOn(store, 'confirm').mockReturnValueOnce(
      new Promise((resolve) => {
        end = resolve;
      }),
    );
    const taken = served.snapshot('v', 'monday');
    await vi.waitUntil(() => confirmed.mock.calls.length > 0);
    let isClosed = false;
    const closing = stores.close().then(() => {
      isClosed = true;
    });
    await turn();
    expect(isClosed).toBe(false);
    end();
    await Promise.all([closing, taken]);
  });
});

describe('work on a store whose storage hangs', () => {
  const sleep = timers.setTimeout;

  afterEach(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });

  it('keeps no server from stopping, and the store is closed when it ends', async () => {
    const { store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() });
    const messages: string[] = [];
    const write = (line: string) => {
      const { store: path, msg } = JSON.parse(line);
      messages.push(`${path}: ${msg}`);
    };
    const stores = quietStores({
      log: pino({ level: 'warn' }, { write }),
    });
    let end = () => {};
    const checkpoint = vi.spyOn(store, 'checkpoint').mockImplementationOnce(() => {
      return new Promise((resolve) => {
        end = resolve;
      });
    });
    stores.find('/served')?.startJob({ kind: 'scrub' });
    await expect.poll(() => checkpoint.mock.calls.length).toBe(1);
    // The time that it has.
    vi.spyOn(timers, 'setTimeout').mockImplementation((ms, value, options) =>
      sleep(ms === 10_000 ? 10 : ms, value, options),
    );
    syncBuiltinESMExports();
    await stores.close();
    expect(messages).toEqual(['/served: work on a store goes on']);
    await release();
    expect(openStorePaths()).toEqual(['/served']);
    end();
    await stores.whenClosed();
    expect(openStorePaths()).toEqual([]);
    expect(messages).toHaveLength(1);
  });
});
