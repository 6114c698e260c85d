/** What `work` is to be done for, given out one at a time to whichever lane is free. */
type Items<Item> = Iterator<Item> | AsyncIterator<Item>;

/**
 * Does `work` for every item, for `count` of them at a time. After a failure no further one is
 * begun.
 *
 * @throws the first error, once nothing runs any more: what the caller does next meets no
 *     straggler; the signal's reason when it is aborted
 */
export async function inLanes<Item>(
  count: number,
  items: Items<Item>,
  work: (item: Item) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  const runLane = async (): Promise<void> => {
    for (;;) {
      signal?.throwIfAborted();
      if (failed.signal.aborted) return;
      const { value, done } = await items.next();
      if (done === true) return;
      await work(value);
    }
  };
  const lanes = Array.from({ length: count }, () =>
    runLane().catch((error) => failed.abort(error)),
  );
  await Promise.all(lanes);
  failed.signal.throwIfAborted();
}
