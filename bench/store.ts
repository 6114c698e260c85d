/**
 * Compares the `cas` backend to the `file` backend: in one process, through the layers of a
 * target, in pairs of runs one after the other.
 */
import { join } from 'node:path';
import { openCasDevice } from '../src/backends/cas/index.ts';
import { openFileDevice } from '../src/backends/file.ts';
import type { BlockDevice } from '../src/core/block-device.ts';
import { logAlone } from './log-alone.ts';
import { ScratchDirectory } from './scratch.ts';
import { median } from './statistics.ts';
import {
  BLOCK,
  type LoadFigures,
  LoadRunner,
  type PairOptions,
  type StoreLoad,
} from './store-load.ts';

const MIB = 1 << 20;
const SIZE = 1024 * MIB;
/** Fits into the memory that a store has for blocks. */
const CACHED = 32 * MIB;

const RANDOM_WRITE: StoreLoad = {
  name: 'random, unique, durable, depth 64',
  op: 'write',
  access: 'rand',
  content: 'unique',
  requestBytes: BLOCK,
  depth: 64,
  durable: true,
  rangeBytes: SIZE,
};
const SEQUENTIAL_WRITE: StoreLoad = {
  ...RANDOM_WRITE,
  name: 'sequential, unique',
  access: 'seq',
  requestBytes: 64 << 10,
  durable: false,
};

const LOADS: readonly StoreLoad[] = [
  RANDOM_WRITE,
  { ...RANDOM_WRITE, name: 'random, duplicate, durable, depth 64', content: 'duplicate' },
  { ...RANDOM_WRITE, name: 'random, unique, durable, depth 1', depth: 1 },
  { ...SEQUENTIAL_WRITE, name: 'sequential, unique, durable', durable: true },
  SEQUENTIAL_WRITE,
  { ...SEQUENTIAL_WRITE, name: 'sequential, compressible', content: 'compressible' },
  { ...RANDOM_WRITE, name: 'cached reads, depth 64', op: 'read', rangeBytes: CACHED },
];

export async function benchStore(options: PairOptions, signal: AbortSignal): Promise<void> {
  await using scratch = await ScratchDirectory.create(options.disk);
  using runner = new LoadRunner();
  console.log(
    `${'4 KiB and 64 KiB requests'.padEnd(38)}    file     cas     log  unit  ratio  (pairs)`,
  );
  for (const [index, load] of LOADS.entries()) {
    if (!load.name.includes(options.only)) continue;
    const path = join(scratch.path, `${index}`);
    const file = await openFilled(runner, load, openFileDevice(runner.io, imageAt(path), false));
    const volume = { path: `${path}.cas`, name: 'disk', sizeBytes: SIZE, onMissing: () => {} };
    const cas = await openFilled(runner, load, await openCasDevice(volume, false));
    const rounds: [LoadFigures, LoadFigures][] = [];
    const logsUs: number[] = [];
    for (let round = 0; round <= options.rounds; round++) {
      signal.throwIfAborted();
      const run = async (device: BlockDevice): Promise<LoadFigures> => {
        const figures = await runner.run(device, load, options.seconds);
        // What one leaves to be written would be charged to the other.
        await runner.flush(device);
        return figures;
      };
      const pair: [LoadFigures, LoadFigures] = [await run(file), await run(cas)];
      // The first one warms up.
      if (round === 0) continue;
      rounds.push(pair);
      const logUs = await logAlone(`${path}.log`, load, options.seconds);
      if (logUs !== undefined) logsUs.push(logUs);
    }
    print(load, rounds, logsUs);
    await file.close();
    await cas.close();
  }
}

function imageAt(path: string) {
  return { path, sizeBytes: SIZE, offsetBytes: 0, lengthBytes: undefined, direct: false };
}

/** A device with its layers, and with content where the load needs it. */
async function openFilled(
  runner: LoadRunner,
  load: StoreLoad,
  storage: BlockDevice,
): Promise<BlockDevice> {
  const device = runner.layersOver(storage, load.durable);
  await runner.fill(device, load.op === 'read' ? load.rangeBytes : SIZE);
  return device;
}

function print(
  load: StoreLoad,
  rounds: readonly [LoadFigures, LoadFigures][],
  logsUs: readonly number[],
): void {
  const isLatency = load.depth === 1;
  const pick = isLatency
    ? ({ p50Us }: LoadFigures) => p50Us
    : ({ mbPerSecond }: LoadFigures) => mbPerSecond;
  const logs = logsUs.map((us) => (isLatency ? us : (load.depth * load.requestBytes) / us));
  const ratios = rounds.map(([file, cas]) => pick(cas) / pick(file));
  const cells = [
    median(rounds.map(([file]) => pick(file)))
      .toFixed(0)
      .padStart(8),
    median(rounds.map(([, cas]) => pick(cas)))
      .toFixed(0)
      .padStart(8),
    (logs.length > 0 ? median(logs).toFixed(0) : '-').padStart(8),
    (isLatency ? 'us' : 'MB/s').padStart(6),
    median(ratios).toFixed(2).padStart(7),
    `  (${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)})`,
  ];
  console.log(load.name.padEnd(38) + cells.join(''));
}
