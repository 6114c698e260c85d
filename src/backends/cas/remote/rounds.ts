/**
 * Rounds of work: when the next one begins, and again and again until it succeeds.
 *
 * Invariants:
 * - One round at a time.
 * - Each `start` is followed by a round that begins after it, unless all is stopped.
 */
import { setTimeout as delay } from 'node:timers/promises';

const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 30_000;

export interface RoundsParts {
  /** How long {@link Rounds.startLater} waits. */
  readonly delayMs: number;
  round(): Promise<void>;
  /** Called when a round has failed. @returns whether to try again */
  onFailed(error: Error): boolean;
  /** Called when no round follows for now: none is due, or it will not be tried again. */
  onIdle(): void;
}

export class Rounds {
  readonly #parts: RoundsParts;
  readonly #aborter = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isDue = false;
  #isRunning = false;
  #isFinishing = false;
  /** Settles when the rounds under way have ended, or the last ones. */
  #running: Promise<void> = Promise.resolve();

  constructor(parts: RoundsParts) {
    this.#parts = parts;
  }

  /** Aborted by {@link stop}, for the round under way. */
  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  /** Has what was asked for last not been done yet? */
  get isDue(): boolean {
    return this.#isDue;
  }

  /** Is nothing begun by itself any more? */
  get isFinishing(): boolean {
    return this.#isFinishing;
  }

  /** Begins one; if one is under way, another one follows it. */
  start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isDue = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#run();
  }

  /** Begins one some time later, if none begins before. */
  startLater(): void {
    if (this.#isFinishing) return;
    this.#timer ??= setTimeout(() => this.start(), this.#parts.delayMs).unref();
  }

  /** Makes the last one, and waits for it. */
  async finish(): Promise<void> {
    this.#isFinishing = true;
    this.start();
    await this.#running;
  }

  /** Begins none any more. */
  stop(): void {
    this.#isFinishing = true;
    clearTimeout(this.#timer);
    this.#aborter.abort();
  }

  /** Waits for what is under way. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { round, onFailed, onIdle } = this.#parts;
    const { signal } = this;
    let retryMs = RETRY_MS_MIN;
    while (this.#isDue && !signal.aborted) {
      this.#isDue = false;
      try {
        await round();
        retryMs = RETRY_MS_MIN;
      } catch (error) {
        this.#isDue = true;
        if (!onFailed(error as Error)) break;
        await delay(retryMs, undefined, { signal }).catch(() => {});
        retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
      }
    }
    this.#isRunning = false;
    onIdle();
  }
}
