import { describe, expect, it, vi } from 'vitest';
import { collect, whileNothingIsFreed } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, HASH_WORDS, HINT_WORD } from '../../../src/backends/cas/format.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import type { TreeNode } from '../../../src/backends/cas/tree.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { blockNow } from './block-probe.ts';
import { BLOCK_COUNT, openVolume, readSeeds } from './remote/remote-store.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blockOf, clientOf, makeGarbage, openTiny } from './tiny-store.ts';

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

  it('is not taken for the place of what was written while it was looked for', async () => {
    const store = await openTiny(new SimFs());
    await makeGarbage(await openVolume(store), BLOCK_COUNT, 6);
    await store.checkpoint();
    await collect(store, { liveMax: 1 });
    const { tree } = store.findVolume('v') as Volume;
    const { words } = (await tree.fetch(0)) as TreeNode;
    expect(store.segments.table.has(words[HINT_WORD] as number)).toBe(false);
    const reading = store.reader.readChild(words, 0, Buffer.alloc(BLOCK_SIZE), 0);
    words.fill(7, 0, HASH_WORDS).fill(7, HINT_WORD, HINT_WORD + 2);
    await reading;
    expect([...words.subarray(HINT_WORD, HINT_WORD + 2)]).toEqual([7, 7]);
    await abandon(store);
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

it('work waits for what runs before it, though who is between gives up', async () => {
  const store = await openTiny(new SimFs());
  const done: string[] = [];
  const aborter = new AbortController();
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const run = (name: string, pace: Pace, until: Promise<void> = Promise.resolve()) =>
    whileNothingIsFreed(store, pace, () => until.then(() => done.push(name)));
  const first = run('first', new Pace(), held);
  const second = run('second', new Pace({ signal: aborter.signal }));
  const third = run('third', new Pace());
  aborter.abort(new Error('enough'));
  await expect(second).rejects.toThrow('enough');
  await new Promise(setImmediate);
  letGo();
  await Promise.all([first, third]);
  expect(done).toEqual(['first', 'third']);
  await store.close();
});
