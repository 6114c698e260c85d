import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import type { Segment } from '../../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { crashStates, SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, openTiny } from '../tiny-store.ts';
import {
  BLOCK_COUNT,
  openRemote,
  openVolume,
  readSeeds,
  recoverSeeds,
  WAIT,
} from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

interface History {
  /** The seeds of all blocks after each flush. */
  readonly states: number[][];
  /** For each flush, how many changes of blobs there had been when it was confirmed. */
  readonly confirmedAt: number[];
}

/** Writes, flushes, makes checkpoints and collects, as a random number says. */
async function work(
  store: CasStore,
  blobs: TraceBlobs,
  steps: number,
  seed: number,
  collectShare = 0.1,
): Promise<History> {
  const random = seededRandom(seed);
  const client = await openVolume(store);
  const seeds = await readSeeds(store);
  const history: History = { states: [[...seeds]], confirmedAt: [0] };
  for (let step = 1; step <= steps; step++) {
    const lba = Math.floor(random() * BLOCK_COUNT);
    seeds[lba] = seed * 1000 + step;
    await client.write(lba * BLOCK_SIZE, blockOf(seeds[lba]));
    await client.flush();
    history.states.push([...seeds]);
    history.confirmedAt.push(blobs.trace.length);
    if ((await random()) < 0.1) await store.checkpoint();
    if (random() < collectShare) await collect(store, { liveMax: 0.8 });
  }
  return history;
}

/** Is all of the durable log in the blobs? */
async function stored({ log }: CasStore, blobs: TraceBlobs): Promise<boolean> {
  const { segments } = (await Journal.read(blobs)).image;
  return segments.get(log.durable.segment)?.at(-1)?.[1] === log.durable.offset;
}

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('a store whose disk or network fails, %s', (_, knowsConditions) => {
  function newBlobs(): TraceBlobs {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    return blobs;
  }

  it('comes back to a flush, at whatever moment its disk is lost', async () => {
    const blobs = newBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayBytes: 1 });
    const { states } = await work(store, blobs, 60, 1);
    await store.close();
    const known = new Map(states.map((state, index) => [state.join(), index]));
    const empty = Array.from({ length: BLOCK_COUNT }, () => 0).join();
    let newest = 0;
    for (let count = 0; count <= blobs.trace.length; count++) {
      const found = (await recoverSeeds(blobs.before(count))).join();
      const index = found === empty ? 0 : known.get(found);
      expect(index, `after ${count} changes`).toBeGreaterThanOrEqual(newest);
      newest = index as number;
    }
    expect(newest).toBe(states.length - 1);
  });

  it('loses no confirmed flush with its disk when flushes wait for the blobs', async () => {
    const blobs = newBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const { states, confirmedAt } = await work(store, blobs, 60, 2);
    await store.close();
    for (const [flush, count] of confirmedAt.entries()) {
      if (count === 0) continue;
      expect(await recoverSeeds(blobs.before(count))).toEqual(states[flush]);
    }
  });

  it('goes on over failures, lost answers and restarts', async () => {
    const blobs = newBlobs();
    const random = seededRandom(3);
    const files = new SimFs();
    let troubles = 0;
    const remote = { durability: 'remote', onTrouble: () => troubles++ } as const;
    for (let life = 1; life <= 4; life++) {
      const store = await openRemote(files, blobs, remote);
      blobs.fail = () => (random() < 0.1 ? (random() < 0.5 ? 'before' : 'after') : undefined);
      const { states } = await work(store, blobs, 12, life + 3);
      blobs.fail = () => undefined;
      await abandon(store);
      expect(await recoverSeeds(blobs.before(blobs.trace.length))).toEqual(states.at(-1));
    }
    expect(troubles).toBeGreaterThan(0);
  });
});

describe('a store that is kept in blobs', () => {
  it('comes back whole when it was closed and its disk is lost', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs);
    const client = await openVolume(store);
    await client.write(0, blocksOf(1, 8));
    await store.changes.snapshot('v', 's');
    await client.write(0, blocksOf(100, 4));
    await store.close();

    const again = await openRemote(new SimFs(), blobs);
    expect((await readSeeds(again)).slice(0, 9)).toEqual([100, 101, 102, 103, 5, 6, 7, 8, 0]);
    expect(again.snapshots.map(({ name }) => name)).toEqual(['s']);
    await again.close();
  });

  it('never has more in the blobs than a power cut leaves on the disk', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayBytes: 1 });
    blobs.onChange = (count) => files.mark(count);
    const client = await openVolume(store);
    for (let step = 0; step < 40; step++) {
      // More than a record holds, so some of it is written before the flush syncs it.
      await client.write((step % 3) * 4 * BLOCK_SIZE, blocksOf(step * 10 + 2, 10));
      await delay(1);
      if (step % 3 === 0) await client.flush();
      if (step % 7 === 0) await store.checkpoint();
    }
    await store.close();
    for (const { disk, mark } of crashStates(files)) {
      const past = blobs.before(mark);
      const again = await openRemote(new SimFs(disk), past);
      const found = await readSeeds(again);
      await again.close();
      expect(await recoverSeeds(past), `after ${mark} changes`).toEqual(found);
    }
  });

  it('lets a collection go on while blobs are slow', async () => {
    const blobs = new TraceBlobs();
    const troubles: Error[] = [];
    const onTrouble = (error: Error) => troubles.push(error);
    const store = await openRemote(new SimFs(), blobs, { delayBytes: 1, onTrouble });
    blobs.pause = () => delay(10);
    const { states } = await work(store, blobs, 120, 8, 0.5);
    await store.close();
    expect(troubles).toEqual([]);
    expect(await recoverSeeds(blobs)).toEqual(states.at(-1));
  });

  it('stores what became durable while a round ran, without another write', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 20 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await expect.poll(() => client.flush().then(() => stored(store, blobs)), WAIT).toBe(true);
    // In the log, and not durable when the round begins that is to store it.
    const { file } = store.log.segment as Segment;
    const write = file.write.bind(file);
    file.write = (...record) => delay(100).then(() => write(...record));
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    await expect.poll(() => stored(store, blobs), WAIT).toBe(true);
    await store.close();
  });

  it('does nothing any more when it is closed with a log that never became durable', async () => {
    const files = new SimFs();
    const troubles: Error[] = [];
    const onTrouble = (error: Error) => troubles.push(error);
    const store = await openRemote(files, new TraceBlobs(), { delayMs: 20, onTrouble });
    const client = await openVolume(store);
    files.fault = (op) => (op === 'write' ? 'EIO' : undefined);
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    await delay(100);
    expect(troubles).toEqual([]);
  });

  it('tells that the blob store does not answer, until it does', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 1 });
    const client = await openVolume(store);
    blobs.fail = () => 'before';
    await client.write(0, blockOf(2));
    await client.flush();
    await expect
      .poll(() => store.replica?.state.unreachable?.message, WAIT)
      .toBe('the connection was refused');
    expect(store.replica?.state.damage).toBeUndefined();
    expect(store.replica?.state.lagBytes).toBeGreaterThan(BLOCK_SIZE);
    blobs.fail = () => undefined;
    await expect
      .poll(() => store.replica?.state, WAIT)
      .toMatchObject({ lagBytes: 0, unreachable: undefined });
    await store.close();
  });

  it('lets flushes wait when too much of the log is on the disk only', async () => {
    const blobs = new TraceBlobs();
    const lags: boolean[] = [];
    const store = await openRemote(new SimFs(), blobs, {
      lagBytesMax: 64 << 10,
      onLag: (isWaiting) => lags.push(isWaiting),
    });
    const client = await openVolume(store);
    blobs.fail = () => 'before';
    let confirmed = 0;
    const writing = (async () => {
      for (let step = 1; step <= 40; step++) {
        await client.write((step % BLOCK_COUNT) * BLOCK_SIZE, blockOf(2 * step));
        await client.flush();
        confirmed = step;
      }
    })();
    await expect.poll(() => lags, WAIT).toEqual([true]);
    await delay(50);
    expect(confirmed).toBeGreaterThan(4);
    expect(confirmed).toBeLessThan(12);
    blobs.fail = () => undefined;
    await writing;
    await store.close();
    expect(lags.slice(0, 2)).toEqual([true, false]);
    expect((await recoverSeeds(blobs))[BLOCK_COUNT - 1]).toBe(2 * (BLOCK_COUNT - 1));
  });

  it('tells how much of the log is on the disk only, and for how long', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs);
    const client = await openVolume(store);
    const lag = () => store.replica?.state;
    await expect.poll(lag, WAIT).toMatchObject({ lagBytes: 0, lagMs: 0 });
    blobs.fail = () => 'before';
    await client.write(0, blockOf(1));
    await client.flush();
    await delay(50);
    const { lagBytes = 0, lagMs = 0 } = lag() ?? {};
    expect(lagBytes).toBeGreaterThan(0);
    expect(lagMs).toBeGreaterThanOrEqual(45);
    await delay(50);
    expect(lag()?.lagMs).toBeGreaterThanOrEqual(lagMs + 45);
    blobs.fail = () => undefined;
    await store.checkpoint();
    await expect.poll(lag, WAIT).toMatchObject({ lagBytes: 0, lagMs: 0 });
    await store.close();
  });

  it('counts what is logged and cannot be stored yet, as it is not durable', async () => {
    const blobs = new TraceBlobs();
    const lags: boolean[] = [];
    const onLag = (isWaiting: boolean) => lags.push(isWaiting);
    const options = { checkpointBytes: 1 << 20 };
    const remote = { delayMs: 1, lagBytesMax: 4 * BLOCK_SIZE, onLag };
    const store = await openRemote(new SimFs(), blobs, remote, options);
    const client = await openVolume(store);
    const state = () => store.replica?.state;
    await expect.poll(state, WAIT).toMatchObject({ lagBytes: 0 });
    await client.write(0, blocksOf(2, 8, 2));
    const loggedBytes = () => state()?.lagBytes;
    await expect.poll(loggedBytes, WAIT).toBeGreaterThanOrEqual(8 * BLOCK_SIZE);
    const { lagMs = 0 } = state() ?? {};
    // Rounds go by meanwhile.
    await delay(100);
    expect(loggedBytes()).toBeGreaterThanOrEqual(8 * BLOCK_SIZE);
    expect(state()?.lagMs).toBeGreaterThanOrEqual(lagMs + 50);
    blobs.fail = () => 'before';
    const flushing = client.flush();
    await expect.poll(() => lags, WAIT).toEqual([true]);
    blobs.fail = () => undefined;
    await flushing;
    await expect.poll(state, WAIT).toMatchObject({ lagBytes: 0, lagMs: 0 });
    await store.close();
    expect(lags).toEqual([true, false]);
  });

  it('counts what a server before has left on the disk only', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const first = await openRemote(files, blobs);
    const client = await openVolume(first);
    const generation = () => first.journal?.image.superblock?.generation;
    await expect.poll(generation, WAIT).toBe(first.generation);
    const partFails = ({ name }: { name: string }) =>
      name.startsWith('segment-') ? 'before' : undefined;
    blobs.fail = partFails;
    await client.write(0, blocksOf(2, 12, 2));
    await client.flush();
    await abandon(first);
    const lags: boolean[] = [];
    const onLag = (isWaiting: boolean) => lags.push(isWaiting);
    const again = await openRemote(files, blobs, { lagBytesMax: 4 * BLOCK_SIZE, onLag });
    expect(again.replica?.state.lagBytes).toBeGreaterThanOrEqual(12 * BLOCK_SIZE);
    const waiting = (await openVolume(again)).flush();
    await expect.poll(() => lags, WAIT).toEqual([true]);
    blobs.fail = () => undefined;
    await waiting;
    await expect.poll(() => again.replica?.state, WAIT).toMatchObject({ lagBytes: 0 });
    await again.close();
  });

  it('does not hold up a store for what it has brought along', async () => {
    const files = new SimFs();
    const alone = await openTiny(files);
    const client = await openVolume(alone);
    await client.write(0, blocksOf(2, 12, 2));
    await client.flush();
    await alone.close();
    const blobs = new TraceBlobs();
    blobs.fail = ({ name }) => (name.startsWith('segment-') ? 'before' : undefined);
    const store = await openRemote(files, blobs, { lagBytesMax: 4 * BLOCK_SIZE });
    await (await openVolume(store)).flush();
    await abandon(store);
  });

  it('names only what is in the blobs, also in an entry whose answer was lost', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 1 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    await expect.poll(() => stored(store, blobs), WAIT).toBe(true);
    const first = store.log.segment?.number as number;
    const isNew = ({ number }: { readonly number: number }) =>
      number > first && store.segments.table.get(number)?.stream === 'data';
    let named: number | undefined;
    blobs.fail = (operation) => {
      if (named !== undefined) return 'before';
      if (operation.op !== 'put' || !operation.name.startsWith('journal-')) return undefined;
      named = JSON.parse(Buffer.from(operation.bytes).toString()).segments.find(isNew)?.number;
      return named === undefined ? undefined : 'after';
    };
    await client.write(0, blocksOf(100, BLOCK_COUNT, 2));
    await client.flush();
    await expect.poll(() => store.replica?.state.unreachable, WAIT).toBeDefined();
    // What this entry was the first to name is overwritten and freed.
    for (let round = 2; round < 5; round++) {
      await client.write(0, blocksOf(100 * round, BLOCK_COUNT, 2));
      await client.flush();
    }
    await collect(store);
    expect(store.segments.table.has(named as number)).toBe(false);
    const from = blobs.trace.length;
    blobs.fail = () => undefined;
    await expect.poll(() => store.replica?.state.unreachable, WAIT).toBeUndefined();
    await store.close();
    for (let count = from; count <= blobs.trace.length; count++) {
      const past = blobs.before(count);
      const { segments } = (await Journal.read(past)).image;
      const names = [...segments].flatMap(([number, parts]) =>
        parts.map((part) => partName(number, part)),
      );
      expect(names.filter((name) => !past.blobs.has(name))).toEqual([]);
    }
  });

  it('removes from the blobs what a collection freed, and what an interruption left', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs);
    const client = await openVolume(store);
    for (let round = 0; round < 12; round++) {
      await client.write(0, blocksOf(round * 100 + 2, 16, 2));
      await client.flush();
    }
    await store.checkpoint();
    await collect(store, { liveMax: 0.8 });
    await store.close();
    await blobs.put('segment-left-behind', Uint8Array.of(1));
    await (await openRemote(files, blobs)).close();
    const sizeBytes = [...blobs.blobs.values()].reduce((sum, { length }) => sum + length, 0);
    expect([...blobs.blobs.keys()]).not.toContain('segment-left-behind');
    expect(sizeBytes).toBeLessThan(12 * 16 * BLOCK_SIZE);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([1102, 1104]);
  });
});
