import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, type Mock, vi } from 'vitest';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { shareCasStore } from '../../src/backends/cas/index.ts';
import type { CasStore } from '../../src/backends/cas/store.ts';
import type { Collected, JobWatch, StoreReport } from '../../src/stores/contract.ts';
import { JobBoard } from '../../src/stores/job-board.ts';
import { RoomKeeper } from '../../src/stores/room-keeper.ts';
import type { ServedStore } from '../../src/stores/served-store.ts';
import type { ServedStores } from '../../src/stores/served-stores.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { blockOf, clientOf, makeGarbage, TINY } from '../backends/cas/tiny-store.ts';
import { quietStores } from './quiet-stores.ts';

const GIB = 1 << 30;
/** What a survey finds, as far as it counts here. */
const WASTEFUL = { liveBytes: 0, garbageBytes: 2 * GIB } as StoreReport;

describe('a store that is served', () => {
  let files: SimFs;
  let store: CasStore;
  let stores: ServedStores;
  let served: ServedStore;
  let release: () => Promise<void>;

  beforeEach(async () => {
    files = new SimFs();
    ({ store, release } = await shareCasStore('/served', { ...TINY, files }));
    stores = quietStores();
    served = stores.find('/served') as ServedStore;
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await stores.close();
    await release();
  });

  /** Writes a little, and makes a checkpoint: the store has changed. */
  async function change(seed: number): Promise<void> {
    const client = clientOf(await store.openVolume('v', 64 * BLOCK_SIZE));
    for (let lba = 0; lba < 64; lba++)
      await client.write(lba * BLOCK_SIZE, blockOf(seed + 2 * lba));
    await store.checkpoint();
  }

  /** Collections so far, when they have ended. */
  async function collections(): Promise<string[]> {
    const jobs = async () => (await served.status())?.jobs ?? [];
    const isBusy = async () => (await jobs()).some(({ state }) => /waiting|running/.test(state));
    await expect.poll(isBusy).toBe(false);
    return (await jobs()).filter(({ kind }) => kind === 'collect').map(({ state }) => state);
  }

  it('is collected for writes that wait for room though the server stops meanwhile', async () => {
    const client = clientOf(await store.openVolume('v', 64 * BLOCK_SIZE));
    await makeGarbage(client, 64, 6);
    await store.checkpoint();
    const { start } = JobBoard.prototype;
    let closed: Promise<void> | undefined;
    vi.spyOn(JobBoard.prototype, 'start').mockImplementationOnce(function (
      this: JobBoard,
      ...args
    ) {
      const status = start.apply(this, args);
      closed = stores.close();
      return status;
    });
    expect(await stores.makeRoom('/served')).toBe(true);
    expect(closed).toBeDefined();
    await closed;
    // Also when they begin to wait only then.
    await makeGarbage(client, 64, 6);
    await store.checkpoint();
    expect(await stores.makeRoom('/served')).toBe(true);
    expect(stores.find('/served')).toBeUndefined();
  });

  it('is collected no more when nothing is served any more', async () => {
    const { start } = JobBoard.prototype;
    const started = vi.spyOn(JobBoard.prototype, 'start').mockImplementationOnce(function (
      this: JobBoard,
      request,
    ) {
      const untilCancelled = (signal: AbortSignal) =>
        new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
      return start.call(this, request, ({ signal }) => untilCancelled(signal));
    });
    await stores.close();
    const made = stores.makeRoom('/served');
    await vi.waitUntil(() => started.mock.calls.length > 0);
    await stores.whenClosed();
    expect(await made).toBe(false);
    expect(started).toHaveBeenCalledOnce();
  });

  it('is not collected when the server stops while its room is looked at', async () => {
    await change(2);
    served.room.surveyed(WASTEFUL);
    const kept = served.room.keep();
    await stores.close();
    await kept;
    expect(await collections()).toEqual([]);
  });

  it('is not measured on when the server stops as that begins', async () => {
    await change(2);
    const surveyed = served.survey();
    await stores.close();
    await surveyed;
    expect((await served.status())?.jobs).toMatchObject([{ kind: 'stats', state: 'cancelled' }]);
  });

  it('is not collected again before much was written, and is then', async () => {
    await change(2);
    files.fault = (op) => (op === 'read' ? 'EIO' : undefined);
    served.room.surveyed(WASTEFUL);
    await served.room.keep();
    expect(await collections()).toEqual(['failed']);
    files.fault = () => undefined;
    for (let round = 1; round < 4; round++) {
      await change(1000 * round);
      await served.room.keep();
    }
    expect(await collections()).toEqual(['failed']);
    await change(9000);
    served.room.surveyed(WASTEFUL);
    await served.room.keep();
    expect(await collections()).toEqual(['failed', 'done']);
  });

  it('is not collected again at once when that was cancelled before its turn', async () => {
    await change(2);
    const board = new JobBoard();
    board.start({ kind: 'scrub' }, () => new Promise(() => {}));
    const collect = vi.fn(() => board.start({ kind: 'collect' }, async () => null)?.id);
    const options = { path: '/served', board, collect, onScrubCancelled: () => {} };
    const keeper = new RoomKeeper(options);
    collect.mockReturnValueOnce(undefined);
    keeper.surveyed(WASTEFUL);
    // There are too many jobs at first.
    for (let look = 0; look < 3; look++) {
      await keeper.keep();
      for (const id of board.unfinished('collect')) board.cancel(id);
    }
    expect(collect).toHaveBeenCalledTimes(2);
    keeper.surveyed(WASTEFUL);
    await keeper.keep();
    expect(collect).toHaveBeenCalledTimes(3);
  });

  it('is collected when a survey ends, though nothing has changed since its room was looked at', async () => {
    await change(2);
    await served.room.keep();
    expect(await collections()).toEqual([]);
    served.room.surveyed(WASTEFUL);
    await served.room.keep();
    expect(await collections()).toEqual(['done']);
  });

  it('is not collected once more while it is, nor when it is for reading only', async () => {
    await change(2);
    served.startJob({ kind: 'collect' });
    served.room.surveyed(WASTEFUL);
    await served.room.keep();
    expect(await collections()).toEqual(['done']);
    const readOnly = vi.spyOn(store, 'readOnly', 'get').mockReturnValue(true);
    served.room.surveyed(WASTEFUL);
    await served.room.keep();
    readOnly.mockRestore();
    expect(await collections()).toEqual(['done']);
  });

  it('lets writes that wait for room wait for one of them only', async () => {
    await change(2);
    files.fault = (op) => (op === 'read' ? 'EIO' : undefined);
    expect(await served.room.make()).toBe(false);
    expect(await served.room.make()).toBe(false);
    expect(await collections()).toEqual(['failed']);
  });

  it('is collected for writes again after a minute, though the clock was set back', async () => {
    await change(2);
    files.fault = (op) => (op === 'read' ? 'EIO' : undefined);
    expect(await served.room.make()).toBe(false);
    const minuteLater = performance.now() + 60_000;
    vi.spyOn(performance, 'now').mockReturnValue(minuteLater);
    vi.spyOn(Date, 'now').mockReturnValue(0);
    expect(await served.room.make()).toBe(false);
    vi.restoreAllMocks();
    expect(await collections()).toEqual(['failed', 'failed']);
  });
});

describe('writes that wait for a collection', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });

  const freed: Collected = {
    ...{ examinedBytes: 1, liveBytes: 0, movedBytes: 0, freedSegments: 1, freedBytes: 1 },
  };
  let board: JobBoard;
  let collect: Mock<() => number | undefined>;
  let onScrubCancelled: Mock<() => void>;
  let keeper: RoomKeeper;

  beforeEach(() => {
    board = new JobBoard();
    collect = vi.fn(() => board.start({ kind: 'collect' }, async () => freed)?.id);
    onScrubCancelled = vi.fn();
    keeper = new RoomKeeper({ path: '/nowhere', board, collect, onScrubCancelled });
  });

  it('do not wait for a scrub, which is cancelled for it', async () => {
    const untilCancelled = ({ signal }: JobWatch) =>
      new Promise<null>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      });
    const id = board.start({ kind: 'scrub' }, untilCancelled)?.id as number;
    expect(await keeper.make()).toBe(true);
    expect(board.find(id)?.state).toBe('cancelled');
    expect(onScrubCancelled).toHaveBeenCalledOnce();
  });

  it('have enough of one that goes on, if that frees something', async () => {
    board.start({ kind: 'collect' }, async () => freed);
    expect(await keeper.make()).toBe(true);
    expect(collect).not.toHaveBeenCalled();
    board.start({ kind: 'collect' }, async () => ({ ...freed, freedSegments: 0 }));
    expect(await keeper.make()).toBe(true);
    expect(collect).toHaveBeenCalledOnce();
  });

  it('share it', async () => {
    expect(await Promise.all([keeper.make(), keeper.make()])).toEqual([true, true]);
    expect(collect).toHaveBeenCalledOnce();
    expect(keeper.isUrgent).toBe(false);
  });

  it('wait for a minute of it at most', async () => {
    const waits: unknown[] = [];
    vi.spyOn(timers, 'setTimeout').mockImplementation(async (ms, value) => {
      waits.push(ms);
      return value as never;
    });
    syncBuiltinESMExports();
    collect.mockImplementation(
      () => board.start({ kind: 'collect' }, () => new Promise(() => {}))?.id,
    );
    expect(await keeper.make()).toBe(false);
    expect(waits).toEqual([60_000]);
  });
});
