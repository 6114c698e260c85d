import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, FANOUT } from '../../../src/backends/cas/format.ts';
import { SimFs } from './sim-fs.ts';
import { blocksOf, clientOf, openTiny } from './tiny-store.ts';

const LEAVES = 16;
const LEAF_BYTES = FANOUT * BLOCK_SIZE;

describe('what is written again when a collection has freed it', () => {
  it('is found by a small index, though a map of it from before is still stored', async () => {
    const files = new SimFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await store.openVolume('disk', LEAVES * LEAF_BYTES));
    const writeFrom = async (firstLeaf: number, firstSeed: number) => {
      for (let leaf = firstLeaf; leaf < LEAVES; leaf++) {
        await client.write(leaf * LEAF_BYTES, blocksOf(firstSeed + 1000 * leaf, FANOUT, 2));
      }
    };
    const content = blocksOf(1000, FANOUT, 2);
    await client.write(0, content);
    // Their maps stay, and so does the segment in which the first one is, too.
    await writeFrom(1, 20_001);
    await store.checkpoint();
    await client.trim(0, LEAF_BYTES);
    await store.checkpoint();
    const { freedSegments } = await collect(store, { liveMax: 0.1 });
    expect(freedSegments).toBeGreaterThan(5);
    await client.write(0, content);
    await store.checkpoint();
    // In newer segments, which an index keeps longer.
    await writeFrom(8, 50_001);
    await store.close();

    const again = await openTiny(files, { indexBytesMax: 1 });
    await again.indexed;
    const disk = clientOf(await again.openVolume('disk', LEAVES * LEAF_BYTES));
    expect((await disk.read(0, LEAF_BYTES)).equals(content)).toBe(true);
    await again.close();
  });
});
