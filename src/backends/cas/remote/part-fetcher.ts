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
  readonly #fetching = new Map<string, Promise<void>>();
  readonly #queue: (() => void)[] = [];
  #count = 0;

  constructor(parts: PartFetcherParts) {
    this.#parts = parts;
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
    if (this.#count >= FETCHES_MAX) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    this.#count++;
    try {
      await take(await this.#get(name, length));
    } catch (error) {
      this.#parts.onTrouble(error as Error);
      // One that is gone is damage; everything else may pass.
      if (error instanceof BlobMissingError) return;
      throw new BlobUnreachableError(name, error as Error);
    } finally {
      this.#count--;
      this.#queue.shift()?.();
    }
  }

  async #get(name: string, length: number): Promise<Uint8Array> {
    const aborter = new AbortController();
    const tooLate = delay(FETCH_MS_MAX, undefined, { signal: aborter.signal, ref: false });
    try {
      return await Promise.race([
        this.#parts.blobs.getRange(name, 0, length),
        tooLate.then(() => Promise.reject(new Error('the blob store does not answer'))),
      ]);
    } finally {
      aborter.abort();
    }
  }
}
