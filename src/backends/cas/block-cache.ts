/**
 * Blocks in memory: those that wait to be logged and those that were used lately, in one slab of
 * slots. Every slot in use is found by its volume and block number, but for orphans and lost ones.
 *
 * States of a slot:
 * - free: nobody's.
 * - clean: the same as what the volume's map points to, which can be read; may be evicted.
 * - dirty: newer than the map; waits in the writer's queue. Sectors not in `mask` are unknown.
 * - kept: dirty, and a snapshot that was asked for since has it as it is; must not be changed.
 * - sealed: handed to the engine; must not be changed until it is in the map.
 * - writing: in the map, but its record may not be in its segment yet.
 * - loading: reserved for a read under way.
 * - lost: was dirty or kept, and will not be logged; becomes free at its turn in the writer's queue.
 *   As a block of something else it would be logged too early there.
 *
 * An orphan is a kept, sealed or writing slot that was overwritten or trimmed meanwhile, or a dirty one
 * that was trimmed: it is not found any more, and it becomes free instead of clean.
 */
import { SECTOR_SIZE } from '../../core/block-device.ts';
import { native } from '../../native.ts';
import { BLOCK_SIZE } from './format.ts';
import type { Volume } from './volume.ts';

export const SlotState = {
  free: 0,
  clean: 1,
  dirty: 2,
  sealed: 3,
  writing: 4,
  loading: 5,
  kept: 6,
  lost: 7,
} as const;
export type SlotState = (typeof SlotState)[keyof typeof SlotState];

const NONE = -1;
/** 2^32 divided by the golden ratio. */
const SPREAD = 0x9e3779b1;

/** All eight sectors of a block are known. */
export const MASK_FULL = 0xff;

/** A bit for each sector from byte `start` of a block on. */
export function sectorMask(start: number, length: number): number {
  return ((1 << (length / SECTOR_SIZE)) - 1) << (start / SECTOR_SIZE);
}

export class BlockCache {
  readonly slab: Buffer;
  readonly count: number;
  readonly state: Uint8Array;
  /** A bit for each sector whose content is in the slot. */
  readonly mask: Uint8Array;
  readonly lba: Float64Array;
  /** The record of the log that holds a slot in state writing. */
  readonly sequence: Float64Array;
  readonly owner: (Volume | undefined)[];
  /**
   * Slots by volume and block number: the first of each bucket, and the one after each slot; -1 for
   * none. A `Map` of as many blocks halts the server 12 ms whenever it puts itself in order.
   */
  readonly #buckets: Int32Array;
  readonly #next: Int32Array;
  readonly #bucketShift: number;
  readonly #used: Uint8Array;
  #hand = 0;

  constructor(sizeBytes: number) {
    this.count = Math.floor(sizeBytes / BLOCK_SIZE);
    const memory = new ArrayBuffer(this.count * BLOCK_SIZE);
    native.preferLargePages(memory);
    this.slab = Buffer.from(memory);
    this.state = new Uint8Array(this.count);
    this.mask = new Uint8Array(this.count);
    this.lba = new Float64Array(this.count);
    this.sequence = new Float64Array(this.count);
    this.owner = new Array(this.count);
    const bucketBits = Math.max(1, Math.ceil(Math.log2(this.count)));
    this.#buckets = new Int32Array(2 ** bucketBits).fill(NONE);
    this.#next = new Int32Array(this.count).fill(NONE);
    this.#bucketShift = 32 - bucketBits;
    this.#used = new Uint8Array(this.count);
  }

  /** @returns the slot that holds a block as it is now; -1 when it is not in memory */
  find(volume: Volume, lba: number): number {
    let slot = this.#buckets[this.#bucketOf(volume, lba)] as number;
    while (slot !== NONE && !this.#holds(slot, volume, lba)) slot = this.#next[slot] as number;
    return slot;
  }

  /** The slots of a volume's blocks from `first` on. They may be dropped on the way. */
  *within(volume: Volume, first: number, count: number): Generator<number> {
    // Most of what is trimmed was not used lately.
    if (volume.cachedCount === 0) return;
    if (count < this.count) {
      for (let lba = first; lba < first + count; lba++) {
        const slot = this.find(volume, lba);
        if (slot !== NONE) yield slot;
      }
      return;
    }
    for (let slot = 0; slot < this.count; slot++) {
      const lba = this.lba[slot] as number;
      const isInside = this.owner[slot] === volume && lba >= first && lba < first + count;
      if (isInside && !this.isOrphan(slot)) yield slot;
    }
  }

  /** Does a slot wait in the writer's queue? */
  isQueued(slot: number): boolean {
    const state = this.state[slot];
    return state === SlotState.dirty || state === SlotState.kept;
  }

  /** Remembers that a slot was used: it is evicted later than others. */
  touch(slot: number): void {
    this.#used[slot] = 1;
  }

  /**
   * Takes a slot for a block, evicting a clean one if need be; it is found from now on, and what
   * held the block before is an orphan.
   *
   * @returns -1 when all slots are dirty or in use
   */
  take(volume: Volume, lba: number, state: SlotState): number {
    const slot = this.#findVictim();
    if (slot === NONE) return NONE;
    if (this.state[slot] === SlotState.clean) this.#forget(slot);
    const former = this.find(volume, lba);
    if (former !== NONE) this.#forget(former);
    this.state[slot] = state;
    this.mask[slot] = 0;
    this.lba[slot] = lba;
    this.owner[slot] = volume;
    this.#used[slot] = 1;
    const bucket = this.#bucketOf(volume, lba);
    this.#next[slot] = this.#buckets[bucket] as number;
    this.#buckets[bucket] = slot;
    volume.cachedCount++;
    return slot;
  }

  /** Frees a slot. */
  release(slot: number): void {
    this.#forget(slot);
    this.state[slot] = SlotState.free;
    this.owner[slot] = undefined;
  }

  /** Takes a block that is being trimmed from its volume's sight. A flush may wait for its write. */
  retire(slot: number): void {
    if (this.state[slot] === SlotState.clean) this.release(slot);
    else this.#forget(slot);
  }

  /** Forgets what a slot holds: it is not the volume's content any more. */
  drop(slot: number): void {
    if (this.state[slot] === SlotState.clean) this.release(slot);
    else if (this.isQueued(slot)) this.lose(slot);
    else this.#forget(slot);
  }

  /** Gives up a block that waits in the writer's queue. */
  lose(slot: number): void {
    this.#forget(slot);
    this.state[slot] = SlotState.lost;
  }

  isOrphan(slot: number): boolean {
    const volume = this.owner[slot];
    return volume === undefined || this.find(volume, this.lba[slot] as number) !== slot;
  }

  /** Lets a slot not be found any more, if it is: one that is not free or clean is an orphan then. */
  #forget(slot: number): void {
    const volume = this.owner[slot];
    if (volume === undefined) return;
    const bucket = this.#bucketOf(volume, this.lba[slot] as number);
    let before = NONE;
    let other = this.#buckets[bucket] as number;
    while (other !== NONE && other !== slot) {
      before = other;
      other = this.#next[other] as number;
    }
    if (other === NONE) return;
    const next = this.#next[slot] as number;
    if (before === NONE) this.#buckets[bucket] = next;
    else this.#next[before] = next;
    volume.cachedCount--;
  }

  #holds(slot: number, volume: Volume, lba: number): boolean {
    return this.lba[slot] === lba && this.owner[slot] === volume;
  }

  /** Neighbours, and blocks that lie a power of two apart, shall be in different buckets. */
  #bucketOf(volume: Volume, lba: number): number {
    return Math.imul((lba | 0) + Math.imul(volume.id, SPREAD), SPREAD) >>> this.#bucketShift;
  }

  #findVictim(): number {
    const { state, count } = this;
    for (let tries = 2 * count; tries > 0; tries--) {
      const slot = this.#hand;
      this.#hand = slot + 1 === count ? 0 : slot + 1;
      if (state[slot] === SlotState.free) return slot;
      if (state[slot] !== SlotState.clean) continue;
      if (this.#used[slot] === 0) return slot;
      this.#used[slot] = 0;
    }
    return NONE;
  }
}
