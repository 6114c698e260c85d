/**
 * Decides when a store is collected without being asked. A collection walks all trees and the head
 * of every record, so it must be worth that: enough was written since the last one, or a survey
 * has found enough garbage.
 */
import type { StoreReport } from './contract.ts';

/** Less garbage than this is not worth a collection while there is room. */
const GARBAGE_BYTES_MIN = 1 << 30;
/** Garbage for a live byte that is worth one. */
const GARBAGE_SHARE = 0.5;
/** With less room than this, or a tenth of what the store takes, room is scarce. */
const SCARCE_BYTES = 1 << 30;
const SCARCE_SHARE = 0.1;
/** Of scarce room, what may be written between two collections, and what at least. */
const GROWTH_SHARE = 0.25;
const GROWTH_BYTES_MIN = 64 << 20;
/** What is freed at least when room is scarce, and of what the store takes. */
const ENOUGH_BYTES_MIN = 1 << 30;
const ENOUGH_SHARE = 1 / 16;
/** When a collection has freed nothing, writes wait for no other one so soon. */
const VAIN_MS = 30_000;

/** What a store takes, and what it could take. */
export interface StoreRoom {
  /** Bytes of records. */
  readonly usedBytes: number;
  /** Bytes of the filesystem that nobody has. */
  readonly freeBytes: number;
}

export class CollectPolicy {
  #found: Pick<StoreReport, 'liveBytes' | 'garbageBytes'> = { liveBytes: 0, garbageBytes: 0 };
  /** Records when a collection was asked for, or had ended, last. */
  #usedBytes = 0;
  #vainUntilMs = 0;

  /** Takes notice of a survey. */
  surveyed({ liveBytes, garbageBytes }: StoreReport): void {
    this.#found = { liveBytes, garbageBytes };
  }

  /** Takes notice of a collection that was asked for, or has ended, with whatever result. */
  collected(usedBytes: number): void {
    this.#found = { liveBytes: 0, garbageBytes: 0 };
    this.#usedBytes = usedBytes;
  }

  /** Takes notice of writes that a collection could not help. */
  wasVain(nowMs: number): void {
    this.#vainUntilMs = nowMs + VAIN_MS;
  }

  /** Is there so much garbage that all of it should go? */
  isWasteful(): boolean {
    const { liveBytes, garbageBytes } = this.#found;
    return garbageBytes > Math.max(GARBAGE_BYTES_MIN, liveBytes * GARBAGE_SHARE);
  }

  /** Should some room be made, before writes have to wait for it? */
  isScarce({ usedBytes, freeBytes }: StoreRoom): boolean {
    const isScarce = freeBytes < Math.max(SCARCE_BYTES, usedBytes * SCARCE_SHARE);
    const grownBytes = usedBytes - this.#usedBytes;
    return isScarce && grownBytes > Math.max(GROWTH_BYTES_MIN, freeBytes * GROWTH_SHARE);
  }

  /**
   * What to free when room is scarce. More would have to be moved for it: segments that are left
   * become emptier by themselves.
   */
  enoughBytes(usedBytes: number): number {
    return Math.max(ENOUGH_BYTES_MIN, usedBytes * ENOUGH_SHARE);
  }

  /** Writes wait: may a collection help them? */
  isHopeful(nowMs: number): boolean {
    return nowMs >= this.#vainUntilMs;
  }
}
