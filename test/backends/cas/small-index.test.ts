import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, blocksOf, clientOf, makeGarbage, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = 4 * BLOCKS * BLOCK_SIZE;

/** A store whose index is always too large, so that everything is dropped that may be. */
async function open(files: SimFs) {
  const store = await openTiny(files, { indexBytesMax: 1, checkpointBytes: 1 << 30 });
  expect(store.problems).toEqual([]);
  return { store, client: clientOf(await store.openVolume('disk', SIZE)) };
}

describe('a store whose dedup index is too small', () => {
  it('finds what collections have moved, also after a start', async () => {
    const files = new SimFs();
    const { store, client } = await open(files);
    const seeds = await makeGarbage(client, BLOCKS, 4);
    const rewritten = [...seeds];
    for (let round = 0; round < 3; round++) {
      await store.checkpoint();
      expect((await collect(store, { liveMax: 1 })).movedBytes).toBeGreaterThan(0);
      // The same again, which is stored anew, and much else.
      for (let lba = 0; lba < BLOCKS; lba += 3) {
        const seed = seeds[lba + round] ?? 0;
        await client.write((BLOCKS + lba) * BLOCK_SIZE, blockOf(seed));
        rewritten[BLOCKS + lba] = seed;
      }
      await client.write(2 * BLOCKS * BLOCK_SIZE, blocksOf(10_000 * (round + 1), 2 * BLOCKS, 2));
      await client.flush();
    }
    const verify = async (reader: typeof client) => {
      for (const [lba, seed] of rewritten.entries()) {
        if (seed === undefined) continue;
        const block = await reader.read(lba * BLOCK_SIZE, BLOCK_SIZE);
        expect(block.equals(blockOf(seed)), `block ${lba}`).toBe(true);
      }
    };
    await verify(client);
    await store.close();
    const again = await open(files);
    await again.store.indexed;
    await verify(again.client);
    await again.store.close();
  });
});
