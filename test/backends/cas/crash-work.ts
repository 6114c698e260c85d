/** What a store is made to do before it crashes. */
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { BLOCKS, CACHE_BYTES, type Found, knownBlock, Model, SIZE, STRIDE } from './crash-model.ts';
import { type SimFs, seededRandom } from './sim-fs.ts';
import { clientOf, openTiny } from './tiny-store.ts';

const STEPS = Number(process.env['AOE_CAS_CRASH_STEPS'] ?? 16);
/** No two lives write the same but for duplicates. */
export const SEEDS_OF_LIFE = 1_000_000;

/**
 * Random writes, duplicates, trims, flushes, checkpoints, snapshots and starts, with marks in the
 * trace.
 */
export async function work(files: SimFs, found: Found, seed: number, life: number): Promise<void> {
  const random = seededRandom(seed);
  const pick = (count: number) => Math.floor(random() * count);
  const model = new Model(found);
  files.mark(model.snapshot());
  let store = await openTiny(files, { cacheBytes: CACHE_BYTES });
  let client = clientOf(await store.openVolume('disk', SIZE));
  files.mark(model.snapshot());
  // Now and then no checkpoint comes about for a while, so that snapshots are in the log only.
  let blockedSteps = 0;
  files.fault = (op, path) =>
    blockedSteps > 0 && op === 'write' && path.endsWith('superblock') ? 'EIO' : undefined;
  const checkpoint = () =>
    store.checkpoint().catch((error) => {
      if (blockedSteps === 0) throw error;
    });
  for (let step = 0; step < STEPS; step++, blockedSteps = Math.max(0, blockedSteps - 1)) {
    // Now and then more than the cache holds, so that some is logged before anybody flushes.
    const count = pick(8) === 0 ? 40 : 1 + pick(10);
    // Records of as many blocks that do not compress are of one length.
    const isRandom = pick(2) === 0;
    for (let i = 0; i < count; i++) {
      const lba = STRIDE * pick(BLOCKS / STRIDE);
      if (pick(12) === 0) {
        model.change(lba, 0);
        files.mark(model.snapshot());
        await client.trim(lba * BLOCK_SIZE, BLOCK_SIZE);
        continue;
      }
      const newest = life * SEEDS_OF_LIFE + 1000 + step * 128 + (isRandom ? 2 * i : i);
      const content = pick(4) === 0 && !isRandom ? pick(8) : newest;
      model.change(lba, content);
      files.mark(model.snapshot());
      await client.write(lba * BLOCK_SIZE, knownBlock(content));
    }
    if (pick(8) === 0) await checkpoint();
    if (pick(8) === 0) {
      // In the middle of a checkpoint, or with none in sight.
      const running = pick(3) === 0 ? checkpoint() : undefined;
      if (pick(2) === 0) blockedSteps = 1 + pick(4);
      const name = `s${life}-${step}`;
      model.keep(name, undefined);
      files.mark(model.snapshot());
      const { root } = await store.changes.snapshot('disk', name);
      model.keep(name, root[0]);
      files.mark(model.snapshot());
      await running;
    }
    await client.flush();
    model.confirm();
    files.mark(model.snapshot());
    if (pick(step === 0 ? 2 : 12) === 0) await checkpoint();
    const { surplus } = model;
    if (blockedSteps === 0 && surplus !== undefined) {
      model.deleting(surplus);
      files.mark(model.snapshot());
      await store.changes.deleteSnapshot(surplus);
      model.deleted(surplus);
      files.mark(model.snapshot());
    }
    if (blockedSteps === 0 && pick(8) === 0) await collect(store, { liveMax: 1 });
    if (blockedSteps === 0 && pick(15) === 0) {
      await store.close();
      store = await openTiny(files, { cacheBytes: CACHE_BYTES });
      client = clientOf(await store.openVolume('disk', SIZE));
    }
  }
}
