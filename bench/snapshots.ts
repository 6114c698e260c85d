/** How long snapshots take, and hold writes up, while random writes keep a store busy. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openCasStore } from '../src/backends/cas/index.ts';
import { ScratchDirectory } from './scratch.ts';
import { BLOCK, type LoadFigures, LoadRunner, type StoreLoad } from './store-load.ts';

const POLL_MS = 5;

export interface SnapshotBenchOptions {
  /** Where the store is made. */
  readonly disk: string;
  readonly count: number;
  /** Of the volume; the larger, the more nodes of its map each write changes. */
  readonly gib: number;
}

export async function benchSnapshots(
  { disk, count, gib }: SnapshotBenchOptions,
  signal: AbortSignal,
): Promise<void> {
  await using scratch = await ScratchDirectory.create(disk);
  using runner = new LoadRunner();
  const sizeBytes = gib * 2 ** 30;
  const store = await openCasStore(join(scratch.path, 'store'));
  const device = runner.layersOver(await store.openVolume('disk', sizeBytes), true);
  const load: StoreLoad = {
    ...{ name: 'random, unique, durable, depth 64', op: 'write', access: 'rand' },
    ...{ content: 'unique', requestBytes: BLOCK, depth: 64, durable: true, rangeBytes: sizeBytes },
  };
  const enough = new AbortController();
  const loading = keepLoading(() => runner.run(device, load, 1), enough.signal);
  try {
    console.log('log, MiB   snapshot, ms');
    for (let number = 0; number < count; number++) {
      // From right behind a checkpoint to right before the next one.
      const logBytes = (number / count) * store.options.checkpointBytes;
      while (store.stats().logBytes < logBytes) await delay(POLL_MS, undefined, { signal });
      const startMs = performance.now();
      await store.changes.snapshot('disk', `${number}`);
      const tookMs = performance.now() - startMs;
      console.log(`${(logBytes / 2 ** 20).toFixed().padStart(8)}${tookMs.toFixed().padStart(15)}`);
    }
  } finally {
    enough.abort();
    const figures = await loading;
    await device.close();
    await store.close();
    const longestMs = Math.max(...figures.map(({ maxUs }) => maxUs / 1000));
    console.log(`longest write: ${longestMs.toFixed()} ms`);
  }
}

async function keepLoading(
  run: () => Promise<LoadFigures>,
  enough: AbortSignal,
): Promise<LoadFigures[]> {
  const figures = [];
  while (!enough.aborted) figures.push(await run());
  return figures;
}
