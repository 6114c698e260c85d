/**
 * Remembers when writes arrived that were let through, to tell which of those that come later they
 * have overtaken: an initiator has resent them since by another way, and may have written newer
 * data.
 *
 * Invariants:
 * - `#lastUs` holds, for each place, the arrival of the newest write or trim of a sector of it. Far
 *   apart sectors share a place: what is not older than its places is not overtaken, anything else
 *   may be.
 * - The newest writes are known exactly, in `#start`, `#end` and `#arrivalUs`, so that writes which
 *   come out of order by the length of a batch, as those of two interfaces always do, are overtaken
 *   by none of other sectors. `#forgottenUs` is the newest arrival of those that are known no more.
 */
import { isOvertaken } from './arrival.ts';
import { SECTOR_SIZE } from './block-device.ts';

/** Places of {@link WriteHistory.#lastUs}; sectors this far apart share one. */
const SECTOR_COUNT = 1 << 15;
const SECTOR_MASK = SECTOR_COUNT - 1;
/** More than one interface brings while another one waits for its turn. */
const KNOWN_COUNT = 1024;

export class WriteHistory {
  readonly #sinceUs: number;
  readonly #lastUs: Float64Array;
  readonly #start: Float64Array;
  readonly #end: Float64Array;
  readonly #arrivalUs: Float64Array;
  #next = 0;
  #forgottenUs = 0;

  /** @param sinceUs writes that arrived earlier are overtaken, in microseconds since the epoch */
  constructor(sinceUs: number) {
    // Not in the table: an idle target would take memory for all of it.
    this.#sinceUs = sinceUs;
    // In one piece, which is so large that it takes memory only where it is used.
    const all = new Float64Array(SECTOR_COUNT + 3 * KNOWN_COUNT);
    const known = (index: number) => {
      const start = SECTOR_COUNT + index * KNOWN_COUNT;
      return all.subarray(start, start + KNOWN_COUNT);
    };
    this.#lastUs = all.subarray(0, SECTOR_COUNT);
    [this.#start, this.#end, this.#arrivalUs] = [known(0), known(1), known(2)];
  }

  /**
   * Lets a write of `length` bytes at `offset` through, unless one is known that has overtaken it,
   * or may have.
   *
   * @returns whether it goes through
   */
  admit(offset: number, length: number, arrivalUs: number): boolean {
    if (isOvertaken(arrivalUs, this.#sinceUs)) return false;
    const first = (offset / SECTOR_SIZE) & SECTOR_MASK;
    const end = first + Math.min(SECTOR_COUNT, length / SECTOR_SIZE);
    if (this.#mayBeOvertaken(first, end, arrivalUs)) {
      if (isOvertaken(arrivalUs, this.#forgottenUs)) return false;
      if (this.#isKnownOvertaken(offset, offset + length, arrivalUs)) return false;
    }
    this.#note(first, end, arrivalUs);
    this.#know(offset, offset + length, arrivalUs);
    return true;
  }

  #mayBeOvertaken(first: number, end: number, arrivalUs: number): boolean {
    const lastUs = this.#lastUs;
    for (let sector = first; sector < end; sector++) {
      if (isOvertaken(arrivalUs, lastUs[sector & SECTOR_MASK] as number)) return true;
    }
    return false;
  }

  #isKnownOvertaken(start: number, end: number, arrivalUs: number): boolean {
    for (let index = 0; index < KNOWN_COUNT; index++) {
      const overlaps = start < (this.#end[index] as number) && (this.#start[index] as number) < end;
      if (overlaps && isOvertaken(arrivalUs, this.#arrivalUs[index] as number)) return true;
    }
    return false;
  }

  #note(first: number, end: number, arrivalUs: number): void {
    const lastUs = this.#lastUs;
    for (let sector = first; sector < end; sector++) {
      const place = sector & SECTOR_MASK;
      // Another sector's may be newer.
      if (!isOvertaken(arrivalUs, lastUs[place] as number)) lastUs[place] = arrivalUs;
    }
  }

  #know(start: number, end: number, arrivalUs: number): void {
    const index = this.#next;
    this.#next = (index + 1) % KNOWN_COUNT;
    const forgottenUs = this.#arrivalUs[index] as number;
    if (!isOvertaken(forgottenUs, this.#forgottenUs)) this.#forgottenUs = forgottenUs;
    this.#start[index] = start;
    this.#end[index] = end;
    this.#arrivalUs[index] = arrivalUs;
  }
}
