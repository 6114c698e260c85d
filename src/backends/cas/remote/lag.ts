/**
 * The log that is on this disk only: how much there is, for how long, and whether flushes have to
 * wait because of it.
 */
import type { Segments } from '../segments.ts';
import type { Image } from './journal.ts';
import { endOfParts } from './journal-entry.ts';
import type { RemoteOptions } from './remote-options.ts';

export class Lag {
  readonly #options: Pick<RemoteOptions, 'lagBytesMax' | 'onLag'>;
  /** What is being stored included. */
  #bytes = 0;
  /** Of that, what nobody has set out to store yet. */
  #newBytes = 0;
  /** When the oldest of all and of what is new was written, by the clock of `performance`. */
  #sinceMs: number | undefined;
  #newSinceMs: number | undefined;
  #isHoldingUp = false;

  /** @param bytes there is already */
  constructor(options: Pick<RemoteOptions, 'lagBytesMax' | 'onLag'>, bytes: number) {
    this.#options = options;
    if (bytes > 0) this.grow(bytes);
  }

  get bytes(): number {
    return this.#bytes;
  }

  get newBytes(): number {
    return this.#newBytes;
  }

  /** How long the oldest of it has been there. */
  get ms(): number {
    const nowMs = performance.now();
    return nowMs - (this.#sinceMs ?? nowMs);
  }

  grow(length: number): void {
    this.#bytes += length;
    this.#newBytes += length;
    this.#newSinceMs ??= performance.now();
    this.#sinceMs ??= this.#newSinceMs;
  }

  /** Asked for each flush: must it wait until there is less? */
  holdsUp(): boolean {
    const { lagBytesMax, onLag } = this.#options;
    if (this.#bytes <= lagBytesMax) return false;
    if (!this.#isHoldingUp) onLag(true);
    this.#isHoldingUp = true;
    return true;
  }

  /**
   * What there is by now is going to be stored.
   *
   * @param unsyncedBytes the newest of it, which cannot be stored yet
   * @returns a function to call when it is
   */
  storing(unsyncedBytes: number): () => void {
    const { lagBytesMax, onLag } = this.#options;
    const storedBytes = this.#bytes - unsyncedBytes;
    // More than is new: some of it has been there all the time.
    const unsyncedSinceMs = unsyncedBytes > this.#newBytes ? this.#sinceMs : this.#newSinceMs;
    this.#newBytes = 0;
    this.#newSinceMs = undefined;
    return () => {
      this.#bytes -= storedBytes;
      this.#sinceMs = unsyncedBytes > 0 ? unsyncedSinceMs : this.#newSinceMs;
      if (!this.#isHoldingUp || this.#bytes > lagBytesMax) return;
      this.#isHoldingUp = false;
      onLag(false);
    };
  }
}

/**
 * Log that a server before has left on this disk only. What a store had when it first came to the
 * blob store is none: it would hold up flushes until all of it is stored.
 */
export function unstoredBytes({ superblock, segments: stored }: Image, segments: Segments): number {
  if (superblock === undefined) return 0;
  let bytes = 0;
  for (const { number, stream, usedBytes, condemnedIn } of segments.table.values()) {
    if (stream !== 'data' || condemnedIn > 0) continue;
    bytes += Math.max(0, usedBytes - endOfParts(stored.get(number)));
  }
  return bytes;
}
