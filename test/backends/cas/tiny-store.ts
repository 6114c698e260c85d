/** Small stores on a simulated disk, and content for them. */
import { cpSync } from 'node:fs';
import type { CasDevice } from '../../../src/backends/cas/cas-device.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { openCasStore } from '../../../src/backends/cas/open.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { StoreOptions } from '../../../src/backends/cas/store-options.ts';
import { CommittedDevice } from '../../../src/core/committed-device.ts';
import { DeviceClient } from '../../../src/core/device-client.ts';
import { OrderedDevice } from '../../../src/core/ordered-device.ts';
import { type SimFs, seededRandom } from './sim-fs.ts';

export const TINY: Partial<StoreOptions> = {
  segmentBytes: 64 << 10,
  cacheBytes: 24 * BLOCK_SIZE,
  spareCount: 1,
  batchBlocks: 4,
  checkpointMs: 0,
  checkpointBytes: 96 << 10,
};

/** A block's content is its seed; 0 is a block of zeroes. Odd ones compress. */
export function blockOf(seed: number): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE);
  if (seed === 0) return block;
  const random = seededRandom(seed);
  const words = new Uint32Array(block.buffer);
  const count = seed % 2 === 0 ? words.length : 150;
  for (let i = 0; i < count; i++) words[i] = random() * 2 ** 32;
  words[0] = seed;
  return block;
}

export function blocksOf(firstSeed: number, count: number, step = 1): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => blockOf(firstSeed + i * step)));
}

export function clientOf(device: CasDevice): DeviceClient {
  return new DeviceClient(device, { bytes: Buffer.alloc(16 * 8192), region: 0 }, 8192, 0);
}

/** A client as the server has one: requests that overlap take effect in their order. */
export function orderedClient(
  device: CasDevice,
  writeCache: boolean,
  slotCount: number,
  slotBytes: number,
): DeviceClient {
  const committed = new CommittedDevice(device, writeCache, slotCount, () => {});
  const memory = { bytes: Buffer.alloc(slotCount * slotBytes), region: 0 };
  return new DeviceClient(new OrderedDevice(committed), memory, slotBytes, 0);
}

export function openTiny(files: SimFs, options: Partial<StoreOptions> = {}): Promise<CasStore> {
  return openCasStore('/store', { ...TINY, files, ...options });
}

/** Copies the directory of a store that is open, and that is at rest but for the spares it makes. */
export async function copyOpen(store: CasStore, to: string): Promise<void> {
  // A file that gets its name under the copier's hands would be missed.
  await store.segments.spares.replenish();
  cpSync(store.path, to, { recursive: true });
}

/** Overwrites blocks again and again but for a few of each round. @returns their seeds */
export async function makeGarbage(
  client: DeviceClient,
  blockCount: number,
  rounds: number,
): Promise<number[]> {
  const seeds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (let lba = 2 * round; lba < blockCount; lba++) {
      const seed = 1000 * (round + 1) + 2 * lba;
      seeds[lba] = seed;
      await client.write(lba * BLOCK_SIZE, blockOf(seed));
    }
    await client.flush();
  }
  return seeds;
}

/** Lets go of a store as a crash does: nothing is written out. */
export async function abandon(store: CasStore): Promise<void> {
  await store.abandonRemote();
  await store.closeFiles();
}
