/**
 * Fetches parts from the blob store: so many at a time, each once however many want it, and none
 * for longer than a read may wait.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BlobMissingError, type BlobStore, BlobUnreachableError } from '../blob-store.ts';

/** Requests at a time; each takes a part's size of memory. */
const FETCHES_MAX = 8;
/** How long a read waits for the blob store before it fails. */
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

  /** @param msMax how long a read waits */
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
  async ended(): Promise<void> {
    await Promise.allSettled(this.#fetching.values());
  }

  async #fetch(
    name: string,
    length: number,
    take: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const aborter = new AbortController();
    const tooLate = this.#tooLate(aborter.signal);
    try {
      await this.#begin(tooLate);
      try {
        const getting = this.#parts.blobs.getRange(name, 0, length);
        await take(await Promise.race([getting, tooLate]));
      } finally {
        this.#count--;
        this.#queue.shift()?.();
      }
    } catch (error) {
      this.#parts.onTrouble(error as Error);
      // One that is gone is damage; everything else may pass.
      if (error instanceof BlobMissingError) return;
      throw new BlobUnreachableError(name, error as Error);
    } finally {
      aborter.abort();
    }
  }

  /** Waits for the turn of a request. @throws what `tooLate` does */
  async #begin(tooLate: Promise<never>): Promise<void> {
    if (this.#count >= FETCHES_MAX) {
      let isNext = () => {};
      const turn = new Promise<void>((resolve) => {
        isNext = resolve;
      });
      this.#queue.push(isNext);
      try {
        await Promise.race([turn, tooLate]);
      } catch (error) {
        const index = this.#queue.indexOf(isNext);
        if (index !== -1) this.#queue.splice(index, 1);
        // It was its turn just now.
        else this.#queue.shift()?.();
        throw error;
      }
    }
    this.#count++;
  }

  /** Fails when a read has waited for long enough, its turn included. */
  #tooLate(signal: AbortSignal): Promise<never> {
    const tooLate = delay(this.#msMax, undefined, { signal, ref: false }).then(() => {
      throw new Error('the blob store does not answer');
    });
    // Nobody waits for it any more.
    tooLate.catch(() => {});
    return tooLate;
  }
}
