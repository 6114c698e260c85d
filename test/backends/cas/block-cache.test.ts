import { describe, expect, it } from 'vitest';
import { BlockCache, SlotState } from '../../../src/backends/cas/block-cache.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { REFERENCE_WORDS } from '../../../src/backends/cas/tree.ts';
import { Volume } from '../../../src/backends/cas/volume.ts';
import { seededRandom } from './sim-fs.ts';

const STATES = [SlotState.clean, SlotState.dirty, SlotState.kept, SlotState.writing] as const;

function newVolume(id: number): Volume {
  const load = () => Promise.reject(new Error('nothing is stored'));
  const identity = { id, name: `v${id}`, sizeBytes: 2 ** 50 };
  return new Volume(identity, new Uint32Array(REFERENCE_WORDS), undefined, load);
}

describe('the block cache', () => {
  it.each([1, 2, 3, 24, 100])('of %i blocks finds what it holds, and nothing else', (count) => {
    const random = seededRandom(count);
    const below = (end: number) => Math.floor(random() * end);
    const cache = new BlockCache(count * BLOCK_SIZE);
    const volumes = [newVolume(1), newVolume(2), newVolume(3)] as const;
    const model = new Map<string, number>();
    const keyOf = (volume: Volume, lba: number) => `${volume.id} ${lba}`;
    const slotsOf = (volume: Volume, first: number, end: number) =>
      [...model]
        .filter(([key]) => key.startsWith(`${volume.id} `))
        .filter(([key]) => Number(key.slice(2)) >= first && Number(key.slice(2)) < end)
        .map(([, slot]) => slot)
        .sort();
    /** Blocks side by side, a power of two apart, and at the end of a large volume. */
    const lbas = [0, 1, 2, 3, 2 ** 15, 2 ** 16, 2 ** 17, 2 ** 32, 2 ** 32 + 1, 2 ** 38 - 1];
    for (let step = 0; step < 5000; step++) {
      const volume = volumes[below(3)] as Volume;
      const lba = lbas[below(lbas.length)] as number;
      const slot = cache.find(volume, lba);
      expect(slot).toBe(model.get(keyOf(volume, lba)) ?? -1);
      const change = below(4);
      if (change === 0 || slot === -1) {
        const taken = cache.take(volume, lba, SlotState.dirty);
        if (taken === -1) continue;
        // What was there before was evicted.
        for (const [key, other] of model) if (other === taken) model.delete(key);
        model.set(keyOf(volume, lba), taken);
        cache.state[taken] = STATES[below(STATES.length)] as SlotState;
        if (slot === -1 || slot === taken) continue;
        expect(cache.isOrphan(slot)).toBe(true);
        // An orphan's turn comes, and it becomes free.
        if (below(2) === 0) cache.release(slot);
      } else {
        model.delete(keyOf(volume, lba));
        if (change === 1) cache.release(slot);
        else if (change === 2) cache.retire(slot);
        else cache.drop(slot);
      }
      const [first, length] = [below(4), below(2) === 0 ? below(4) : 2 ** 39];
      const found = [...cache.within(volume, first, length)].sort();
      expect(found).toEqual(slotsOf(volume, first, first + length));
      expect(volume.cachedCount).toBe(slotsOf(volume, 0, 2 ** 40).length);
      // Whatever nobody finds must become free some time, or nothing can be taken any more.
      for (let other = 0; other < count; other++) {
        const isLeft = cache.state[other] !== SlotState.free && cache.isOrphan(other);
        if (isLeft && below(4) === 0) cache.release(other);
      }
    }
  });

  it('lets slots be dropped on the way through them', () => {
    const cache = new BlockCache(8 * BLOCK_SIZE);
    const volume = newVolume(1);
    for (let lba = 0; lba < 8; lba++) cache.take(volume, lba, SlotState.clean);
    for (const slot of cache.within(volume, 1, 2)) cache.drop(slot);
    expect([...cache.within(volume, 0, 2)].length).toBe(1);
    for (const slot of cache.within(volume, 0, Number.POSITIVE_INFINITY)) cache.drop(slot);
    expect([...cache.within(volume, 0, Number.POSITIVE_INFINITY)]).toEqual([]);
    expect([...cache.state].every((state) => state === SlotState.free)).toBe(true);
  });

  it('lets nothing be logged that was dropped or lost', () => {
    const cache = new BlockCache(4 * BLOCK_SIZE);
    const volume = newVolume(1);
    for (const state of [SlotState.dirty, SlotState.kept]) {
      const dropped = cache.take(volume, 1, state);
      cache.drop(dropped);
      const lost = cache.take(volume, 2, state);
      cache.lose(lost);
      expect([dropped, lost].map((slot) => cache.isQueued(slot))).toEqual([false, false]);
      expect([dropped, lost].map((slot) => cache.state[slot])).not.toContain(SlotState.free);
    }
    // They are free at their turn only.
    expect(cache.take(volume, 3, SlotState.dirty)).toBe(-1);
  });
});
