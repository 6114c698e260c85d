/** A blob store that cannot be reached holds writes up; it does not lose them. */
import { setTimeout as delay } from 'node:timers/promises';
import { BlobUnreachableError } from './blob-store.ts';
import { isNoSpace } from './spares.ts';

const RETRY_MS = 1000;
/** Linux gives a target up after three minutes without an answer; an error is better than that. */
export const ROOM_WAIT_MS_MAX = 90_000;
/** How long a store waits that nobody uses any more: a try may take half of the minute of a stop. */
export const UNUSED_WAIT_MS_MAX = 20_000;

/**
 * Does something that may need the blob store, again and again until it can be reached.
 *
 * @param isLate asked while this disk has no room for what comes from there
 * @throws {BlobUnreachableError} nothing is worth waiting for any more
 * @throws ENOSPC it is late
 */
export type Patience = <T>(work: () => Promise<T>, isLate?: () => boolean) => Promise<T>;

/** @param isOver nothing is worth waiting for any more */
export function newPatience(isOver: () => boolean): Patience {
  return async (work, isLate = () => false) => {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof BlobUnreachableError) || isOver()) throw error;
        if (isNoSpace(error.cause) && isLate()) throw error.cause;
        await delay(RETRY_MS);
      }
    }
  };
}
