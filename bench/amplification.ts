/**
 * What overwriting a nearly full store writes to the disk for a byte of the client's: a volume of
 * unique blocks is overwritten at random, and the store collected whenever there is no room.
 */
import { collect } from '../src/backends/cas/collect.ts';
import { openCasStore } from '../src/backends/cas/open.ts';
import type { CasStore } from '../src/backends/cas/store.ts';
import { CountingFiles } from './counting-files.ts';
import { ScratchDirectory } from './scratch.ts';
import { BLOCK, LoadRunner, type StoreLoad } from './store-load.ts';

const SEGMENT = 16 << 20;
const SEGMENT_COUNT = 128;
/** What a collection frees: a 16th, as a server does. */
const ENOUGH = (SEGMENT_COUNT / 16) * SEGMENT;
/** Times that the volume is overwritten before, and while it is measured. */
const WARMUP_TURNS = 1.5;
const MEASURED_TURNS = 2;

const LOAD: StoreLoad = {
  ...{ name: 'overwrite', op: 'write', access: 'rand', content: 'unique', durable: false },
  ...{ requestBytes: BLOCK, depth: 64, rangeBytes: 0 },
};

export interface AmplificationOptions {
  /** Where the store is made. */
  readonly disk: string;
  /** Percentage of the store's capacity that is live. */
  readonly live: number;
}

export async function benchAmplification({ disk, live }: AmplificationOptions): Promise<void> {
  await using scratch = await ScratchDirectory.create(disk);
  using runner = new LoadRunner();
  const files = new CountingFiles();
  let store: CasStore | undefined;
  let movedBytes = 0;
  const makeRoom = async (): Promise<boolean> => {
    if (store === undefined) return false;
    const collected = await collect(store, { enoughBytes: ENOUGH });
    movedBytes += collected.movedBytes;
    return collected.freedSegments > 0;
  };
  const capacityBytes = SEGMENT_COUNT * SEGMENT;
  const options = { files: files.layer, segmentBytes: SEGMENT, capacityBytes, makeRoom };
  store = await openCasStore(scratch.path, options);
  const count = Math.floor((capacityBytes * live) / 100 / BLOCK);
  const load = { ...LOAD, rangeBytes: count * BLOCK };
  const device = runner.layersOver(await store.openVolume('disk', load.rangeBytes), false);
  const overwrite = (turns: number) =>
    runner.run(device, load, Number.POSITIVE_INFINITY, count * turns);
  await runner.run(device, { ...load, access: 'seq' }, Number.POSITIVE_INFINITY, count);
  await overwrite(WARMUP_TURNS);
  const before = { written: files.writtenBytes, moved: movedBytes };
  await overwrite(MEASURED_TURNS);
  const perByte = (bytes: number) => (bytes / (count * MEASURED_TURNS * BLOCK)).toFixed(2);
  const writtenBytes = files.writtenBytes - before.written;
  console.log(
    `${live} % live: ${perByte(writtenBytes)} bytes written for each of the client's, ` +
      `${perByte(movedBytes - before.moved)} of them moved`,
  );
  await device.close();
  await store.close();
}
