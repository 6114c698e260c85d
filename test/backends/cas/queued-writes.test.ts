/** Writes that were taken and wait to be logged, and what is asked for meanwhile. */
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { DeviceClient } from '../../../src/core/device-client.ts';
import { CrashWalk, SimFs, seededRandom } from './sim-fs.ts';
import { blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = BLOCKS * BLOCK_SIZE;
const SLOT = 4 * BLOCK_SIZE;
const BEFORE = blocksOf(2, BLOCKS, 2);
/** Written in part, so that it must be read before it is logged, with all behind it. */
const PART = 30;

/** Opens a store with a volume whose requests may be in flight together. */
async function openWritten() {
  const files = new SimFs();
  const options = { checkpointBytes: 1 << 30, spareCount: 16, cacheBytes: 128 * BLOCK_SIZE };
  const store = await openTiny(files, options);
  const device = await store.openVolume('disk', SIZE);
  const client = new DeviceClient(device, { bytes: Buffer.alloc(16 * SLOT), region: 0 }, SLOT, 0);
  await client.write(0, BEFORE);
  await client.flush();
  return { files, store, client };
}

/** Lets the disk answer no read. @returns what lets it go on */
function holdReads({ reader }: CasStore): () => void {
  const { read } = reader;
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  reader.readNow = () => false;
  reader.read = async (...args) => {
    await held;
    await read.apply(reader, args);
  };
  return letGo;
}

describe('a write that waits to be logged', () => {
  it('is durable when a flush says so, though it was trimmed meanwhile', async () => {
    const { files, store, client } = await openWritten();
    const letGo = holdReads(store);
    const written = client.write(0, blocksOf(1002, 20, 2));
    const flushed = client.flush();
    // The trim is behind it, so that it is not logged yet.
    const part = client.write(PART * BLOCK_SIZE, Buffer.alloc(512, 7));
    const trimmed = client.trim(10 * BLOCK_SIZE, BLOCK_SIZE);
    await Promise.all([written, flushed]);
    const walk = new CrashWalk(files.base, seededRandom(1));
    for (const entry of files.trace) walk.step(entry);
    const again = await openTiny(new SimFs(walk.crash('none')));
    const found = await clientOf(await again.openVolume('disk', SIZE)).read(0, 20 * BLOCK_SIZE);
    expect(found.equals(blocksOf(1002, 20, 2))).toBe(true);
    await again.close();
    letGo();
    await Promise.all([part, trimmed]);
    const block = await client.read(10 * BLOCK_SIZE, BLOCK_SIZE);
    expect(block.equals(blockOf(0))).toBe(true);
    await store.close();
  });
});
