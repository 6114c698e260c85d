/** Where segments were read lately, told by regions of 1 MiB. */
import { frameOffset, SEGMENT_BYTES_MAX } from '../format.ts';

const REGION_BYTES = 1 << 20;
const REGIONS_MAX = SEGMENT_BYTES_MAX / REGION_BYTES;

export class RecentReads {
  readonly #regions = new Set<number>();

  /** Takes notice of a read of the frame at `place`. */
  note(segment: number, place: number): void {
    this.#regions.add(regionOf(segment, frameOffset(place)));
  }

  /** Was a region with bytes from `from` up to `to` read? It is forgotten then. */
  take(segment: number, from: number, to: number): boolean {
    let isFound = false;
    const last = regionOf(segment, to - 1);
    for (let region = regionOf(segment, from); region <= last; region++) {
      isFound = this.#regions.delete(region) || isFound;
    }
    return isFound;
  }
}

function regionOf(segment: number, offset: number): number {
  return segment * REGIONS_MAX + Math.floor(offset / REGION_BYTES);
}
