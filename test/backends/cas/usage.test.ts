import { describe, expect, it } from 'vitest';
import {
  BLOCK_SIZE,
  FANOUT,
  HASH_WORDS,
  hexOf,
  storedSize,
} from '../../../src/backends/cas/format.ts';
import { HashTable } from '../../../src/backends/cas/hash-table.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { measureUsage } from '../../../src/backends/cas/usage.ts';
import { storedRoots, walkTree } from '../../../src/backends/cas/walk.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blocksOf, clientOf, openTiny } from './tiny-store.ts';

/** Stored size by hash of every block and node below each root. */
async function contentOf(store: CasStore): Promise<Map<string, number>[]> {
  const contents: Map<string, number>[] = [];
  for (const root of storedRoots(store)) {
    const content = new Map([[root.root[0], storedSize(root.root[2])]]);
    await walkTree(store.reader, root, new Pace(), {
      enter: () => true,
      node({ words }) {
        for (let child = 0; child < FANOUT; child++) {
          const place = words[FANOUT * HASH_WORDS + child * 2 + 1] as number;
          content.set(hexOf(words, child * HASH_WORDS), storedSize(place));
        }
      },
    });
    content.delete('0'.repeat(64));
    contents.push(content);
  }
  return contents;
}

describe('the usage of volumes and snapshots', () => {
  it('is exclusive for what a comparison of all of them finds in one alone', async () => {
    const random = seededRandom(17);
    const store = await openTiny(new SimFs());
    const blockCount = 2 * FANOUT + 9;
    const client = clientOf(await store.openVolume('disk', blockCount * BLOCK_SIZE));
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 12; i++) {
        const lba = Math.floor(random() * (blockCount - 4));
        await client.write(lba * BLOCK_SIZE, blocksOf(Math.floor(random() * 90), 4));
      }
      await store.changes.snapshot('disk', `s${round}`);
    }
    await store.changes.clone('s2', 'copy');
    await store.openVolume('empty', blockCount * BLOCK_SIZE);
    const usages = await measureUsage(store);
    const contents = await contentOf(store);
    const names = usages.map(({ name }) => name);
    expect(names).toEqual(['disk', 'copy', 'empty', 's0', 's1', 's2', 's3', 's4', 's5']);
    for (const [number, content] of contents.entries()) {
      const others = contents.filter((other) => other !== content);
      let exclusiveBytes = 0;
      for (const [hash, sizeBytes] of content) {
        if (others.every((other) => !other.has(hash))) exclusiveBytes += sizeBytes;
      }
      expect(usages[number]).toMatchObject({ exclusiveBytes });
    }
    expect(usages[2]).toMatchObject({ logicalBytes: 0, referencedBytes: 0, exclusiveBytes: 0 });
    expect(usages.filter(({ exclusiveBytes }) => exclusiveBytes > 0).length).toBeGreaterThan(2);
    await abandon(store);
  });
});

describe('a hash table', () => {
  it('keeps what a map keeps, however many there are', () => {
    const random = seededRandom(4);
    const table = new HashTable();
    const model = new Map<string, number>();
    for (let round = 0; round < 3000; round++) {
      const words = Uint32Array.from({ length: 9 }, (_, word) => {
        // Hashes that differ late, and many in one row.
        return word < 4 ? Math.floor(random() * 8) * 1024 : Math.floor(random() * 9000);
      });
      words[4] = Math.floor(random() * 2 ** 32);
      const value = 1 + Math.floor(random() * 2 ** 52);
      table.set(words, 1, value);
      model.set(words.subarray(1, 5).join(), value);
      expect(table.get(words, 1)).toBe(value);
    }
    expect(table.count).toBe(model.size);
    for (const [key, value] of model) {
      expect(table.get(Uint32Array.from(key.split(',').map(Number)), 0)).toBe(value);
    }
    expect(table.get(new Uint32Array(4).fill(7), 0)).toBe(0);
  });
});
