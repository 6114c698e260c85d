/** Tries again what a network or a busy service fails at. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  BlobConditionError,
  BlobExistsError,
  type BlobInfo,
  BlobMissingError,
  type BlobStore,
} from '../blob-store.ts';

const ANSWERS = [BlobConditionError, BlobExistsError, BlobMissingError];
const ATTEMPTS_MAX = 5;
const RETRY_MS = 100;

/**
 * A put whose answer was lost ends with BlobExistsError when it is tried again: whoever puts has
 * to know its own blobs.
 */
export class PersistentBlobs implements BlobStore {
  readonly #below: BlobStore;

  constructor(below: BlobStore) {
    this.#below = below;
  }

  put(name: string, bytes: Uint8Array, isUnique = false): Promise<void> {
    return persistently(() => this.#below.put(name, bytes, isUnique));
  }

  getRange(name: string, offset: number, length: number): Promise<Uint8Array> {
    return persistently(() => this.#below.getRange(name, offset, length));
  }

  async *list(prefix: string): AsyncIterable<BlobInfo> {
    yield* await persistently(async () => {
      const found: BlobInfo[] = [];
      for await (const info of this.#below.list(prefix)) found.push(info);
      return found;
    });
  }

  delete(name: string): Promise<void> {
    return persistently(() => this.#below.delete(name));
  }
}

async function persistently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const isAnswer = ANSWERS.some((kind) => error instanceof kind);
      if (isAnswer || attempt === ATTEMPTS_MAX) throw error;
      await delay(RETRY_MS * 2 ** attempt);
    }
  }
}
