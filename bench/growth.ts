/**
 * Fills a content-addressed store with volumes that have much in common, each as large as all
 * before it: how fast it takes them, and what they take, by the size of the store.
 */
import { openCasStore } from '../src/backends/cas/index.ts';
import { ScratchDirectory } from './scratch.ts';
import { LoadRunner, type StoreLoad } from './store-load.ts';

const GIB = 2 ** 30;
const REQUEST_BYTES = 64 << 10;

const LOAD: Omit<StoreLoad, 'rangeBytes'> = {
  ...{ name: 'growth', op: 'write', access: 'seq', content: 'shared', durable: false },
  ...{ requestBytes: REQUEST_BYTES, depth: 16 },
};

interface Column {
  readonly title: string;
  readonly width: number;
}

const COLUMNS: readonly Column[] = [
  { title: 'volumes, GiB', width: 12 },
  { title: 'MB/s', width: 8 },
  { title: 'p99 ms', width: 9 },
  { title: 'store, GiB', width: 13 },
  { title: 'ratio', width: 8 },
  { title: 'index, MiB', width: 13 },
  { title: 'of index a block', width: 19 },
];

export interface GrowthOptions {
  /** Where the store is made. */
  readonly disk: string;
  /** Size of all volumes together. */
  readonly gib: number;
}

export async function benchGrowth(
  { disk, gib }: GrowthOptions,
  signal: AbortSignal,
): Promise<void> {
  await using scratch = await ScratchDirectory.create(disk);
  using runner = new LoadRunner();
  const store = await openCasStore(scratch.path);
  printRow(COLUMNS.map(({ title }) => title));
  for (let done = 0; done < gib; ) {
    signal.throwIfAborted();
    const stepGib = Math.min(Math.max(done, 1), gib - done);
    const rangeBytes = stepGib * GIB;
    const volume = await store.openVolume(`from-${done}`, rangeBytes);
    const device = runner.layersOver(volume, false);
    const load = { ...LOAD, rangeBytes };
    const count = rangeBytes / REQUEST_BYTES;
    const figures = await runner.run(device, load, Number.POSITIVE_INFINITY, count);
    await device.close();
    await store.checkpoint();
    done += stepGib;
    const { usedBytes, indexBytes, indexCount } = store.stats();
    printRow([
      `${done}`,
      figures.mbPerSecond.toFixed(),
      (figures.p99Us / 1000).toFixed(1),
      (usedBytes / GIB).toFixed(2),
      ((done * GIB) / usedBytes).toFixed(1),
      (indexBytes / 2 ** 20).toFixed(),
      (indexBytes / indexCount).toFixed(1),
    ]);
  }
  await store.close();
}

function printRow(cells: readonly string[]): void {
  console.log(cells.map((cell, index) => cell.padStart(COLUMNS[index]?.width ?? 0)).join(''));
}
