import { describe, expect, it, vi } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { blockNow } from './block-probe.ts';
import { BLOCK_COUNT, openVolume, readSeeds } from './remote/remote-store.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, clientOf, makeGarbage, openTiny } from './tiny-store.ts';

describe('a collection that fails', () => {
  it('gives back what it has emptied by then, and the next one does the rest', async () => {
    const files = new SimFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const seeds = await makeGarbage(await openVolume(store), BLOCK_COUNT, 6);
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

describe('what a collection has moved', () => {
  it('is read as soon as what stands where the map says', async () => {
    const store = await openTiny(new SimFs(), { cacheBytes: 2 * BLOCK_SIZE });
    const device = await store.openVolume('disk', BLOCK_COUNT * BLOCK_SIZE);
    const seeds = await makeGarbage(clientOf(device), BLOCK_COUNT, 6);
    await store.checkpoint();
    expect((await collect(store, { liveMax: 1 })).movedBytes).toBeGreaterThan(0);
    for (const [lba, seed] of seeds.entries()) {
      expect(blockNow(device, lba)?.equals(blockOf(seed)), `block ${lba}`).toBe(true);
    }
    await store.close();
  });
});

it('a collection keeps what a write finds as a duplicate while its first checkpoint is made', async () => {
  const files = new SimFs();
  const store = await openTiny(files, { checkpointBytes: 1 << 30 });
  const client = await openVolume(store);
  const lba = BLOCK_COUNT - 1;
  const garbage = blockOf(5000);
  await client.write(lba * BLOCK_SIZE, garbage);
  const seeds = await makeGarbage(client, BLOCK_COUNT, 4);
  await store.checkpoint();
  const checkpoint = store.checkpoint.bind(store);
  const { sequence } = store.log;
  vi.spyOn(store, 'checkpoint').mockImplementationOnce(async (isUrgent) => {
    await checkpoint(isUrgent);
    await client.write(lba * BLOCK_SIZE, garbage);
    await client.flush();
  });
  expect((await collect(store, { liveMax: 1 })).freedSegments).toBeGreaterThan(0);
  expect(store.log.sequence).toBe(sequence + 1);
  await store.close();

  const again = await openTiny(files);
  seeds[lba] = 5000;
  expect(await readSeeds(again)).toEqual(seeds);
  await again.close();
});
