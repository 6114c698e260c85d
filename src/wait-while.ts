import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

const WAIT_MS_MAX = 10_000;
const POLL_MS = 5;

/** Waits for requests in flight to end. @returns false when some still are after 10 s */
export async function waitWhile(isBusy: () => boolean): Promise<boolean> {
  const end = performance.now() + WAIT_MS_MAX;
  while (isBusy() && performance.now() < end) await sleep(POLL_MS);
  return !isBusy();
}

/** Waits until all `work` has ended, also when some failed. @throws what the first such threw */
export async function allEnded(work: Iterable<Promise<unknown>>): Promise<void> {
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** Waits for `work`, which goes on nevertheless. @returns whether it has ended in time */
export async function endsWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController();
  return await Promise.race([
    work.then(() => true),
    sleep(ms, false, { signal: timer.signal }).catch(() => false),
  ]).finally(() => timer.abort());
}
