/**
 * What a store writes besides the blocks themselves, for each block that is written: headers and
 * entries of the log, nodes of the volume's map, catalogs. Written at random over a full volume, it
 * is most: then every checkpoint has to write nearly all leaves of the map.
 */
import { openCasStore } from '../src/backends/cas/index.ts';
import { CountingFiles } from './counting-files.ts';
import { ScratchDirectory } from './scratch.ts';
import { BLOCK, LoadRunner, type StoreLoad } from './store-load.ts';

const GIB = 2 ** 30;
/** Of the log between two checkpoints, so that whole ones are counted. */
const CHECKPOINTS = 3;

const LOAD: Omit<StoreLoad, 'rangeBytes'> = {
  ...{ name: 'overwrite', op: 'write', access: 'rand', content: 'unique', durable: false },
  ...{ requestBytes: BLOCK, depth: 64 },
};

export interface MetadataOptions {
  /** Where the store is made. */
  readonly disk: string;
  /** Size of the volume. */
  readonly gib: number;
}

export async function benchMetadata({ disk, gib }: MetadataOptions): Promise<void> {
  await using scratch = await ScratchDirectory.create(disk);
  using runner = new LoadRunner();
  const files = new CountingFiles();
  const store = await openCasStore(scratch.path, { files: files.layer });
  const load = { ...LOAD, rangeBytes: gib * GIB };
  const device = runner.layersOver(await store.openVolume('disk', load.rangeBytes), false);
  const measure = async (name: string, write: () => Promise<number>) => {
    await store.checkpoint();
    const before = files.writtenBytes;
    const blocks = await write();
    await store.checkpoint();
    const bytes = (files.writtenBytes - before) / blocks - BLOCK;
    console.log(`${name}: ${bytes.toFixed(1)} bytes a block, ${(bytes / BLOCK).toFixed(3)} of it`);
  };
  await measure('in order', async () => {
    await runner.fill(device, load.rangeBytes);
    return load.rangeBytes / BLOCK;
  });
  await measure('at random', async () => {
    const blocks = (CHECKPOINTS * store.options.checkpointBytes) / BLOCK;
    await runner.run(device, load, Number.POSITIVE_INFINITY, blocks);
    return blocks;
  });
  await device.close();
  await store.close();
}
