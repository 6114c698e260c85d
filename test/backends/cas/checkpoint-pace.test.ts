import { describe, expect, it, vi } from 'vitest';
import {
  CheckpointSchedule,
  type CheckpointScheduleOptions,
} from '../../../src/backends/cas/checkpoint-schedule.ts';
import { BLOCK_SIZE, FANOUT, NODE_SIZE } from '../../../src/backends/cas/format.ts';
import { BACKGROUND_BYTES_PER_SECOND, Pace } from '../../../src/backends/cas/pace.ts';
import { noSpace } from '../../../src/backends/cas/spares.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const NODES = 24_000;
const LEAF_BYTES = FANOUT * BLOCK_SIZE;
const PACED_MS = (1000 * NODES * NODE_SIZE) / BACKGROUND_BYTES_PER_SECOND;
/** What a checkpoint may catch up on at first. */
const AT_ONCE_MS = 100;
const LARGE = { segmentBytes: 16 << 20, batchBlocks: 256, checkpointBytes: 1 << 30 };

/** Changes so many nodes, all of them leaves. */
async function openChanged(files: SimFs, nodeCount = NODES): Promise<CasStore> {
  const store = await openTiny(files, LARGE);
  const client = clientOf(await store.openVolume('disk', nodeCount * LEAF_BYTES));
  const block = blockOf(1);
  for (let leaf = 0; leaf < nodeCount; leaf++) await client.write(leaf * LEAF_BYTES, block);
  await client.flush();
  return store;
}

async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

describe('a checkpoint', () => {
  it('leaves time to clients, unless somebody waits for it', async () => {
    const leisurely = await openChanged(new SimFs());
    const tookMs = await timeMs(() => leisurely.checkpoint(() => false));
    expect(tookMs).toBeGreaterThan(PACED_MS - AT_ONCE_MS);
    await leisurely.close();

    const hurried = await openChanged(new SimFs());
    const before = hurried.generation;
    const bothMs = await timeMs(async () => {
      const first = hurried.checkpoint(() => false);
      await hurried.checkpoint();
      await first;
    });
    expect(hurried.generation).toBe(before + 2);
    expect(bothMs).toBeLessThan(0.8 * tookMs);
    await hurried.close();
  });

  it('that fails leaves all the log to be told of that a restart would replay', async () => {
    const store = await openTiny(new SimFs(), { checkpointBytes: 1 << 30 });
    const client = clientOf(await store.openVolume('disk', LEAF_BYTES));
    await client.write(0, blocksOf(2, 32, 2));
    await client.flush();
    const { logBytes } = store.stats();
    expect(logBytes).toBeGreaterThan(32 * BLOCK_SIZE);
    vi.spyOn(store.nodes, 'fits').mockReturnValue(false);
    vi.spyOn(store.nodes, 'advance').mockRejectedValue(noSpace());
    await expect(store.checkpoint()).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(store.stats().logBytes).toBe(logBytes);
    vi.restoreAllMocks();
    await store.checkpoint();
    expect(store.stats().logBytes).toBe(0);
    await store.close();
  });

  it('writes nothing more once a crash has ended its store', async () => {
    const files = new SimFs();
    const store = await openChanged(files, NODES / 8);
    const checkpoint = store.checkpoint(() => false);
    const failed = expect(checkpoint).rejects.toThrow('EBADF');
    await abandon(store);
    const { length } = files.trace;
    await failed;
    expect(files.trace.length).toBe(length);
  });
});

describe('a pace', () => {
  it('is urgent when it has no bound, or is cancelled', () => {
    const aborter = new AbortController();
    const pace = new Pace({ bytesPerSecondMax: 1, signal: aborter.signal });
    expect([new Pace().isUrgent, pace.isUrgent]).toEqual([true, false]);
    aborter.abort();
    expect(pace.isUrgent).toBe(true);
  });
});

describe('the schedule of checkpoints', () => {
  const options: CheckpointScheduleOptions = {
    ...{ checkpointBytes: 1000, checkpointNodes: 100, checkpointMs: 0 },
    onFailed: (error) => {
      throw error;
    },
  };

  it('has one make haste when half of the next one is due, or the store is closed', async () => {
    const ends: (() => void)[] = [];
    let isUrgent = () => false;
    const schedule = new CheckpointSchedule(options, (isUrgentNow) => {
      isUrgent = isUrgentNow;
      schedule.begun();
      return new Promise((resolve) => ends.push(resolve));
    });
    const end = async () => {
      ends.pop()?.();
      await new Promise(setImmediate);
    };
    schedule.logged(1000, 1, false);
    expect([ends.length, isUrgent()]).toEqual([1, false]);
    schedule.logged(499, 49, false);
    expect(isUrgent()).toBe(false);
    schedule.logged(1, 1, false);
    expect(isUrgent()).toBe(true);
    schedule.logged(500, 1, false);
    expect([ends.length, isUrgent()]).toEqual([1, true]);
    await end();
    expect([ends.length, isUrgent()]).toEqual([1, false]);
    schedule.logged(1, 1, true);
    expect([ends.length, isUrgent()]).toEqual([1, true]);
    await end();
    expect([ends.length, isUrgent()]).toEqual([1, false]);
    const closed = schedule.close();
    expect(isUrgent()).toBe(true);
    await end();
    await closed;
    schedule.logged(1000, 1, false);
    expect(ends.length).toBe(0);
  });

  it('makes the next one that was due when the one under way has ended', async () => {
    const ends: (() => void)[] = [];
    let isUrgent = () => false;
    const schedule = new CheckpointSchedule(options, (isUrgentNow) => {
      isUrgent = isUrgentNow;
      return new Promise((resolve) => ends.push(resolve));
    });
    const end = async () => {
      ends.pop()?.();
      await new Promise(setImmediate);
    };
    schedule.start();
    // It has not begun: it will cover this, too.
    schedule.logged(1000, 1, false);
    expect(isUrgent()).toBe(true);
    schedule.begun();
    expect(isUrgent()).toBe(false);
    // A snapshot: nothing may be logged after it.
    schedule.start();
    expect(isUrgent()).toBe(true);
    await end();
    expect([ends.length, isUrgent()]).toEqual([1, false]);
    schedule.begun();
    await end();
    expect(ends.length).toBe(0);
    await schedule.close();
  });
});

describe('a stream of records', () => {
  it('is synced before much of it waits for that', async () => {
    const files = new SimFs();
    const store = await openTiny(files, LARGE);
    const record = new Uint8Array(1 << 20);
    await store.moved.advance();
    const counts: number[] = [];
    for (let i = 0; i < 9; i++) {
      await store.moved.write(record, record.length);
      counts.push(store.moved.sequence - store.moved.durableSequence);
    }
    expect(counts).toEqual([1, 2, 3, 0, 1, 2, 3, 0, 1]);
    await store.close();
  });
});
