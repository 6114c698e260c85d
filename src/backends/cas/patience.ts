/** A blob store that cannot be reached holds writes up; it does not lose them. */
import { setTimeout as delay } from 'node:timers/promises';
import { BlobUnreachableError } from './blob-store.ts';

const RETRY_MS = 1000;

/** Does something that may need the blob store, again and again until it can be reached. */
export type Patience = <T>(work: () => Promise<T>) => Promise<T>;

/** @param hasFailed nothing is worth waiting for any more */
export function newPatience(hasFailed: () => boolean): Patience {
  return async (work) => {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof BlobUnreachableError) || hasFailed()) throw error;
        await delay(RETRY_MS);
      }
    }
  };
}
