/**
 * How targets are divided among threads: by address, so that all frames of one target meet in one
 * thread. The kernel's packet filter applies the same rule.
 */

export interface Share {
  /** 0-based. */
  readonly index: number;
  readonly count: number;
}

/**
 * Does the target with this address belong to `share`?
 *
 * The sum of shelf and slot decides: it spreads ascending slots of one shelf as well as ascending
 * shelves with one slot. Of the address as one number a `count` that divides 256 leaves the slot.
 */
export function takes({ index, count }: Share, address: number): boolean {
  return ((address >> 8) + (address & 0xff)) % count === index;
}
