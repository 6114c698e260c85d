import { performance } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';

/** How long requests may wait for a slice. */
const SLICE_MS = 1;

/**
 * Takes `items`, which are made as they are taken, and yields them in slices. Between these the
 * thread does whatever else there is to do: nobody waits for all of them.
 */
export async function* inSlices<Item>(items: Iterable<Item>): AsyncGenerator<Item[]> {
  let slice: Item[] = [];
  let startMs = performance.now();
  for (const item of items) {
    slice.push(item);
    if (performance.now() - startMs < SLICE_MS) continue;
    yield slice;
    await turn();
    slice = [];
    startMs = performance.now();
  }
  if (slice.length > 0) yield slice;
}
