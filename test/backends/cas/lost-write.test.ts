import { expect, it } from 'vitest';
import { Batch } from '../../../src/backends/cas/batch.ts';
import { BlockCache, SlotState } from '../../../src/backends/cas/block-cache.ts';
import { fill } from '../../../src/backends/cas/fill.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { type BlockReader, DamageError } from '../../../src/backends/cas/reader.ts';
import { REFERENCE_WORDS } from '../../../src/backends/cas/tree.ts';
import { Volume } from '../../../src/backends/cas/volume.ts';

it('is given up where it is in the queue: nothing else takes its place there', async () => {
  const cache = new BlockCache(BLOCK_SIZE);
  const identity = { id: 1, name: 'disk', sizeBytes: 4 * BLOCK_SIZE };
  const load = () => Promise.reject(new Error('nothing is stored'));
  const volume = new Volume(identity, new Uint32Array(REFERENCE_WORDS), undefined, load);
  const slot = cache.take(volume, 0, SlotState.dirty);
  const damage = new DamageError('a hash');
  const reader = { read: () => Promise.reject(damage) } as Partial<BlockReader> as BlockReader;
  await fill({ cache, reader }, slot, (work) => work());
  expect(volume.lostWrite).toBe(damage);
  expect(cache.find(volume, 0)).toBe(-1);
  expect(cache.take(volume, 1, SlotState.dirty)).toBe(-1);
  const batch = new Batch(cache, 1);
  batch.gather([slot]);
  expect(batch.count).toBe(0);
  expect(cache.take(volume, 1, SlotState.dirty)).toBe(slot);
});
