import { beforeEach, describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { DeviceClient } from '../../../src/core/device-client.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const SEGMENT_BYTES = 4 << 20;
const AHEAD_BYTES = 512 << 10;
/** A record of one block, at most. */
const LITTLE_BYTES = 2 * BLOCK_SIZE;
const LITTLE_COUNT = 150;
const BLOCKS = 256;

describe('writing ahead of the log', () => {
  let files: SimFs;
  let store: CasStore;
  let client: DeviceClient;

  beforeEach(async () => {
    files = new SimFs();
    const options = { segmentBytes: SEGMENT_BYTES, batchBlocks: 256, checkpointBytes: 1 << 30 };
    store = await openTiny(files, options);
    client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
    files.trace.length = 0;
  });

  /** Makes data durable. @returns sizes of what was written for it */
  async function writeDurably(lba: number, data: Buffer): Promise<number[]> {
    const before = files.trace.length;
    await client.write(lba * BLOCK_SIZE, data);
    await client.flush();
    return files.trace
      .slice(before)
      .flatMap((entry) => (entry.op === 'write' ? [entry.bytes.length] : []));
  }

  it('happens with a little record, once for many, and leaves what is durable as it is', async () => {
    const [first] = await writeDurably(0, blockOf(1));
    expect(first).toBeGreaterThan(AHEAD_BYTES);
    const sizes: number[] = [];
    for (let lba = 1; lba < LITTLE_COUNT; lba++) {
      sizes.push(...(await writeDurably(lba, blockOf(1 + lba))));
    }
    const isLittle = (size: number) => size <= LITTLE_BYTES;
    const littleBytes = sizes.filter(isLittle).reduce((sum, size) => sum + size, 0);
    const aheadCount = sizes.filter((size) => !isLittle(size)).length;
    expect(aheadCount).toBeGreaterThan(0);
    expect(aheadCount).toBeLessThanOrEqual(Math.ceil(littleBytes / AHEAD_BYTES));
    await store.close();
    const again = await openTiny(files, { segmentBytes: SEGMENT_BYTES, batchBlocks: 256 });
    const reader = clientOf(await again.openVolume('disk', BLOCKS * BLOCK_SIZE));
    expect(await reader.read(0, LITTLE_COUNT * BLOCK_SIZE)).toEqual(blocksOf(1, LITTLE_COUNT));
    await again.close();
  });

  it('does not happen when much becomes durable at once', async () => {
    const sizes = await writeDurably(0, blocksOf(1, 128));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(store.log.position.offset);
    await store.close();
  });

  it('ends with the segment', async () => {
    for (let lba = 0; files.trace.length === 0 || store.log.roomBytes > 300 << 10; lba += 16) {
      await writeDurably(lba % 256, blocksOf(lba, 16));
    }
    await writeDurably(0, blockOf(9999));
    const ends = files.trace.flatMap((entry) =>
      entry.op === 'write' ? [entry.at + entry.bytes.length] : [],
    );
    expect(Math.max(...ends)).toBe(SEGMENT_BYTES);
    await store.close();
  });
});
