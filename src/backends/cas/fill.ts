/** Completes dirty blocks before they are logged: their place in the map, sectors that they lack. */
import { SECTOR_SIZE } from '../../core/block-device.ts';
import { type BlockCache, MASK_FULL, sectorMask } from './block-cache.ts';
import { BLOCK_SIZE } from './format.ts';
import { type Patience, ROOM_WAIT_MS_MAX } from './patience.ts';
import { type BlockReader, DamageError } from './reader.ts';
import { isNoSpace } from './spares.ts';
import type { Volume } from './volume.ts';

export interface FillParts {
  readonly cache: BlockCache;
  readonly reader: BlockReader;
}

const SCRATCH = new Uint8Array(BLOCK_SIZE);

/** Fills what takes no waiting of some items of the queue. @returns slots that need some */
export function fillNow(parts: FillParts, items: readonly number[]): number[] {
  const { cache } = parts;
  const cold: number[] = [];
  for (const slot of items) {
    if (slot < 0 || !cache.isQueued(slot)) continue;
    const partial = cache.mask[slot] !== MASK_FULL;
    const volume = cache.owner[slot] as Volume;
    const mapped = volume.tree.peek(cache.lba[slot] as number) !== undefined;
    if (!mapped || (partial && !fillFromMemory(parts, slot))) cold.push(slot);
  }
  return cold;
}

function fillFromMemory({ cache, reader }: FillParts, slot: number): boolean {
  const volume = cache.owner[slot] as Volume;
  if (!reader.readNow(volume, cache.lba[slot] as number, SCRATCH, 0)) return false;
  mergeSectors(cache, slot, SCRATCH);
  return true;
}

/**
 * Brings in what a dirty block needs: its place in the map, and the sectors that it lacks. When
 * they are damaged, or this disk has had no room for them for long, the write is lost, and its
 * volume says so at every flush from now on.
 */
export async function fill(
  { cache, reader }: FillParts,
  slot: number,
  patiently: Patience,
): Promise<void> {
  const base = new Uint8Array(BLOCK_SIZE);
  const lba = cache.lba[slot] as number;
  const volume = cache.owner[slot] as Volume;
  const endMs = performance.now() + ROOM_WAIT_MS_MAX;
  const isLate = () => volume.lostWrite !== undefined || performance.now() > endMs;
  try {
    await patiently(() => volume.tree.fetch(lba), isLate);
    if (cache.mask[slot] === MASK_FULL) return;
    await patiently(() => reader.read(volume, lba, base, 0), isLate);
    // It is nobody else's meanwhile: what is given up is free only at its turn.
    mergeSectors(cache, slot, base);
  } catch (error) {
    if (!(error instanceof DamageError) && !isNoSpace(error)) throw error;
    volume.lostWrite = error;
    cache.lose(slot);
  }
}

/** Puts the sectors of `base` where the slot has none. */
function mergeSectors(cache: BlockCache, slot: number, base: Uint8Array): void {
  const mask = cache.mask[slot] as number;
  for (let start = 0; start < BLOCK_SIZE; start += SECTOR_SIZE) {
    if ((mask & sectorMask(start, SECTOR_SIZE)) !== 0) continue;
    cache.slab.set(base.subarray(start, start + SECTOR_SIZE), slot * BLOCK_SIZE + start);
  }
  cache.mask[slot] = MASK_FULL;
}
