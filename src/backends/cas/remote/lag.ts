/**
 * The log that is on this disk only: how much there is, for how long, and whether flushes have to
 * wait because of it.
 */
import type { RemoteOptions } from './remote-options.ts';

export class Lag {
  readonly #options: Pick<RemoteOptions, 'lagBytesMax' | 'onLag'>;
  /** What is being stored included. */
  #bytes = 0;
  /** Of that, what nobody has set out to store yet. */
  #newBytes = 0;
  /** When the oldest of it was written, by the clock of `performance`. */
  #sinceMs: number | undefined;
  #isHoldingUp = false;

  constructor(options: Pick<RemoteOptions, 'lagBytesMax' | 'onLag'>) {
    this.#options = options;
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
    this.#sinceMs ??= performance.now();
  }

  /** Asked for each flush: must it wait until there is less? */
  holdsUp(): boolean {
    const { lagBytesMax, onLag } = this.#options;
    if (this.#bytes <= lagBytesMax) return false;
    if (!this.#isHoldingUp) onLag(true);
    this.#isHoldingUp = true;
    return true;
  }

  /** What there is by now is going to be stored. @returns a function to call when it is */
  storing(): () => void {
    const { lagBytesMax, onLag } = this.#options;
    const storedBytes = this.#bytes;
    const startMs = performance.now();
    this.#newBytes = 0;
    return () => {
      this.#bytes -= storedBytes;
      this.#sinceMs = this.#bytes > 0 ? startMs : undefined;
      if (!this.#isHoldingUp || this.#bytes > lagBytesMax) return;
      this.#isHoldingUp = false;
      onLag(false);
    };
  }
}
