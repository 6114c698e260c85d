import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { BLOCK_COUNT, openVolume, readSeeds } from './remote/remote-store.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, openTiny } from './tiny-store.ts';

describe('a collection that fails', () => {
  it('gives back what it has emptied by then, and the next one does the rest', async () => {
    const files = new SimFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = await openVolume(store);
    const seeds: number[] = [];
    for (let round = 0; round < 6; round++) {
      for (let lba = 2 * round; lba < BLOCK_COUNT; lba++) {
        const seed = 1000 * (round + 1) + 2 * lba;
        seeds[lba] = seed;
        await client.write(lba * BLOCK_SIZE, blockOf(seed));
      }
      await client.flush();
    }
    await store.checkpoint();
    const before = new Set(store.segments.table.keys());
    let emptied = 0;
    const failing = collect(store, {
      onProgress: (phase) => {
        if (phase !== 'moving' || ++emptied < 3) return;
        files.fault = (op, path) => (op === 'read' && path.endsWith('.seg') ? 'EIO' : undefined);
      },
    });
    await expect(failing).rejects.toThrow('EIO');
    files.fault = () => undefined;
    expect(store.failure).toBeUndefined();
    const freed = () => [...before].filter((number) => !store.segments.table.has(number)).length;
    expect(freed()).toBe(emptied);
    expect(await readSeeds(store)).toEqual(seeds);
    expect((await collect(store)).freedSegments).toBeGreaterThan(0);
    expect(freed()).toBeGreaterThan(emptied);
    expect((await scrub(store)).damage).toEqual([]);
    await store.close();

    const again = await openTiny(files);
    expect(await readSeeds(again)).toEqual(seeds);
    await again.close();
  });
});
