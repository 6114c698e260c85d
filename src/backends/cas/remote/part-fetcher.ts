/**
 * Fetches parts from the blob store: so many at a time, each once however many want it. A read waits
 * for its turn while others come, but not for long when nothing does.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BlobMissingError, type BlobStore, BlobUnreachableError } from '../blob-store.ts';

/** Requests at a time; each takes a part's size of memory. */
const FETCHES_MAX = 8;
/** How long a read waits for a blob store that does not answer before it fails. */
const FETCH_MS_MAX = 30_000;

export interface PartFetcherParts {
  readonly blobs: BlobStore;
  onTrouble(error: Error): void;
}

export class PartFetcher {
  readonly #parts: PartFetcherParts;
  readonly #msMax: number;
  readonly #fetching = new Map<string, Promise<void>>();
  readonly #queue: (() => void)[] = [];
  #count = 0;
  /** When the last part came, as `performance.now()` tells it. */
  #answeredMs = Number.NEGATIVE_INFINITY;

  /** @param msMax how long a read waits while nothing comes */
  constructor(parts: PartFetcherParts, msMax = FETCH_MS_MAX) {
    this.#parts = parts;
    this.#msMax = msMax;
  }

  /**
   * Hands the first `length` bytes of a blob to `take`, unless another call is about to: then it
   * waits for that one. A blob that is gone is handed to nobody.
   *
   * @throws {BlobUnreachableError} it cannot be fetched now, or `take` fails
   */
  fetch(name: string, length: number, take: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    let fetching = this.#fetching.get(name);
    if (fetching === undefined) {
      fetching = this.#fetch(name, length, take).finally(() => this.#fetching.delete(name));
      this.#fetching.set(name, fetching);
    }
    return fetching;
  }

  /** Waits for what is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#fetching.values());
  }

  async #fetch(
    name: string,
    length: number,
    take: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const startMs = performance.now();
    try {
      await this.#begin(startMs);
      try {
        const sinceMs = Math.max(startMs, this.#answeredMs);
        const getting = this.#parts.blobs.getRange(name, 0, length);
        const bytes = await this.#inTime(getting, () => sinceMs);
        this.#answeredMs = performance.now();
        await take(bytes);
      } finally {
        this.#end();
      }
    } catch (error) {
      this.#parts.onTrouble(error as Error);
      // One that is gone is damage; everything else may pass.
      if (error instanceof BlobMissingError) return;
      throw new BlobUnreachableError(name, error as Error);
    }
  }

  /** Waits for the turn of a request. @throws nothing has come for too long */
  async #begin(startMs: number): Promise<void> {
    if (this.#count < FETCHES_MAX) {
      this.#count++;
      return;
    }
    let isNext = () => {};
    const turn = new Promise<void>((resolve) => {
      isNext = resolve;
    });
    this.#queue.push(isNext);
    try {
      await this.#inTime(turn, () => Math.max(startMs, this.#answeredMs));
    } catch (error) {
      const index = this.#queue.indexOf(isNext);
      if (index !== -1) this.#queue.splice(index, 1);
      // It was its turn just now.
      else this.#end();
      throw error;
    }
  }

  /** Hands the turn on. */
  #end(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#count--;
    else next();
  }

  /** Waits for `work`. @throws too much time has gone since `sinceMs`, which may go on meanwhile */
  async #inTime<T>(work: Promise<T>, sinceMs: () => number): Promise<T> {
    const result = work.then((value) => ({ value }));
    for (;;) {
      const leftMs = sinceMs() + this.#msMax - performance.now();
      if (leftMs <= 0) {
        // Nobody waits for it any more.
        result.catch(() => {});
        throw new Error('the blob store does not answer');
      }
      const aborter = new AbortController();
      const late = delay(leftMs, undefined, { signal: aborter.signal, ref: false });
      late.catch(() => {});
      const first = await Promise.race([result, late]).finally(() => aborter.abort());
      if (first !== undefined) return first.value;
    }
  }
}
