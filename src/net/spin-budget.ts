/**
 * Decides whether to spin for the next frame before sleeping. A spin that finds a frame saves a
 * trip through the event loop, several times its own length; a spin in vain only burns the core.
 * So spinning goes on while it pays, and is tried now and then while it does not.
 */
const CREDIT_MAX = 16;
/** Without credit, one of this many chances is taken. */
const TRIAL_INTERVAL = 16;

export class SpinBudget {
  readonly #spinUs: number;
  #credit = CREDIT_MAX;
  #skipped = 0;

  /** @param spinUs length of a spin in microseconds, 0 to never spin */
  constructor(spinUs: number) {
    this.#spinUs = spinUs;
  }

  /** How long to spin now, in microseconds. */
  nextUs(): number {
    if (this.#credit > 0) return this.#spinUs;
    if (++this.#skipped < TRIAL_INTERVAL) return 0;
    this.#skipped = 0;
    return this.#spinUs;
  }

  /** Tells how the last spin ended. */
  report(found: boolean): void {
    if (found) this.#credit = Math.min(CREDIT_MAX, this.#credit + 2);
    else if (this.#credit > 0) this.#credit--;
  }
}
