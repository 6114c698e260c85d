/**
 * Keeps long work on a store from hindering its clients: bounds how much is read and written in a
 * second, lets others have their turn, and can be cancelled.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';

/** After so long without a turn of the event loop, requests of clients have waited enough. */
const TURN_MS_MAX = 1;
/** For work in the background that is not told how fast to go. */
export const BACKGROUND_BYTES_PER_SECOND = 64 << 20;
/** What was not used for a while can be caught up on, but no more than this. */
const CATCH_UP_MS_MAX = 100;

export interface PaceOptions {
  readonly bytesPerSecondMax?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Is there a reason for going as fast as possible? */
  readonly isUrgent?: (() => boolean) | undefined;
}

export class Pace {
  readonly #bytesPerMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #isUrgent: () => boolean;
  /** When what was spent so far is paid for. */
  #dueMs = performance.now();
  #turnMs = performance.now();

  constructor({ bytesPerSecondMax, signal, isUrgent = () => false }: PaceOptions = {}) {
    this.#bytesPerMs = (bytesPerSecondMax ?? Number.MAX_SAFE_INTEGER) / 1000;
    this.#signal = signal;
    this.#isUrgent = bytesPerSecondMax === undefined ? () => true : isUrgent;
  }

  get isCancelled(): boolean {
    return this.#signal?.aborted ?? false;
  }

  /** Is nothing to be waited for? */
  get isUrgent(): boolean {
    return this.isCancelled || this.#isUrgent();
  }

  /** @throws the reason, when it is cancelled */
  throwIfCancelled(): void {
    this.#signal?.throwIfAborted();
  }

  /** Call after each piece of work. @throws the reason, when it is cancelled */
  async spend(bytes: number): Promise<void> {
    await this.wait(bytes);
    this.throwIfCancelled();
  }

  /** The same for work that must not end here. */
  async wait(bytes: number): Promise<void> {
    const nowMs = performance.now();
    const { isUrgent } = this;
    // What was done in haste is not made up for.
    if (isUrgent) this.#dueMs = nowMs;
    else this.#dueMs = Math.max(this.#dueMs, nowMs - CATCH_UP_MS_MAX) + bytes / this.#bytesPerMs;
    const aheadMs = this.#dueMs - nowMs;
    if (aheadMs > 1) {
      await delay(aheadMs, undefined, { signal: this.#signal }).catch(() => {});
    } else if (nowMs - this.#turnMs > TURN_MS_MAX) {
      await nextTurn();
    } else {
      return;
    }
    this.#turnMs = performance.now();
  }

  /** Waits for what somebody else does. @throws the reason, when it is cancelled */
  async whenDone(work: Promise<unknown>): Promise<void> {
    this.throwIfCancelled();
    const over = new AbortController();
    const cancelled = new Promise<void>((resolve) => {
      this.#signal?.addEventListener('abort', () => resolve(), { signal: over.signal });
    });
    await Promise.race([work, cancelled]).finally(() => over.abort());
    this.throwIfCancelled();
  }
}
