/**
 * Room in the log for what is queued.
 *
 * Invariants:
 * - Whatever is queued has room reserved until its record has its place in the log, so a write
 *   that was taken is never refused for lack of space later.
 * - Reserved is what each item takes in a record of its own, and no segment is counted to its end:
 *   a record of full size may leave some of it unused.
 */
import { BLOCK_SIZE, RECORD_ALIGNMENT, recordSizeMax } from './format.ts';
import type { Segments } from './segments.ts';
import { noSpace } from './spares.ts';
import type { RecordStream } from './stream.ts';

/** What one dirty block, or a trim, may take of the log at most: a record of its own. */
const BLOCK_BYTES_MAX = recordSizeMax(1, BLOCK_SIZE);
const TRIM_BYTES_MAX = recordSizeMax(1, 0);
/** The same for a note. */
export const NOTE_BYTES_MAX = RECORD_ALIGNMENT;

export class LogRoom {
  readonly #segments: Segments;
  readonly #log: RecordStream;
  #reservedBytes = 0;

  constructor(segments: Segments, log: RecordStream) {
    this.#segments = segments;
    this.#log = log;
  }

  /** What is queued may take so much at most. */
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** Spares that the reserved room needs. */
  get promisedSpares(): number {
    const beyond = this.#reservedBytes - this.#currentBytes;
    return Math.max(0, Math.ceil(beyond / this.#segments.usableBytes));
  }

  /** Is there room for one more dirty block? */
  get hasRoomForBlock(): boolean {
    const { dataCount } = this.#segments.spares;
    return this.#reservedBytes + BLOCK_BYTES_MAX <= this.#bytesWith(dataCount);
  }

  /** Is there room for one more trim? It may have what is too little for writes: it frees some. */
  get hasRoomForTrim(): boolean {
    const { dataCount } = this.#segments.spares;
    const bytes = Math.max(this.#bytesWith(dataCount), this.#log.roomBytes);
    return this.#reservedBytes + TRIM_BYTES_MAX <= bytes;
  }

  /** A note may use what is kept for checkpoints, as one follows it. */
  get #hasRoomForNote(): boolean {
    const { count } = this.#segments.spares;
    return this.#reservedBytes + NOTE_BYTES_MAX <= this.#bytesWith(count);
  }

  reserveBlock(): void {
    this.#reservedBytes += BLOCK_BYTES_MAX;
  }

  reserveTrim(): void {
    this.#reservedBytes += TRIM_BYTES_MAX;
  }

  /** @throws there is no room, and none can be made */
  async reserveNote(): Promise<void> {
    const { spares } = this.#segments;
    if (!this.#hasRoomForNote) await spares.replenish(this.promisedSpares + 1);
    if (!this.#hasRoomForNote) throw spares.shortage ?? noSpace();
    this.#reservedBytes += NOTE_BYTES_MAX;
  }

  /** Gives back what was reserved for items that have their place, or need none. */
  release(blockCount: number, trimCount: number): void {
    this.#reservedBytes -= blockCount * BLOCK_BYTES_MAX + trimCount * TRIM_BYTES_MAX;
  }

  releaseNote(): void {
    this.#reservedBytes -= NOTE_BYTES_MAX;
  }

  /** Room for records with so many spares. */
  #bytesWith(spareCount: number): number {
    return this.#currentBytes + spareCount * this.#segments.usableBytes;
  }

  /** Of the segment that is being written. */
  get #currentBytes(): number {
    return Math.max(0, this.#log.roomBytes - this.#segments.slackBytes);
  }
}
