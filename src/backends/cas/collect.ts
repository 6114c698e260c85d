/**
 * Garbage collection: marks what volumes and snapshots reach, moves the live rest out of segments
 * that are mostly garbage, and gives those back. Writes and reads go on meanwhile.
 *
 * Why nothing live is lost:
 * - From before the roots are taken until the end, whatever is stored or found as a duplicate is
 *   marked as well, so every block is either reachable from the roots or marked by its writer.
 * - No duplicate relies on what was moved before a catalog names its new place: a crash undoes it.
 * - A segment is condemned before its live frames are chosen; from then on no duplicate relies on
 *   it.
 * - Only segments that the log's replay does not need are touched, and they are given back after
 *   two checkpoints: whichever superblock is read after a crash, it does not need them.
 * - What cannot be read ends the collection, or keeps the segment. In place of a damaged frame an
 *   intact copy is moved, which the index finds ever after: hints lead to the damaged one.
 */
import { ENTRIES_MAX, FANOUT, HEAD_BYTES_MAX, NODE_SIZE, recordSizeMax } from './format.ts';
import { HashSet } from './hash-set.ts';
import { Pace } from './pace.ts';
import { bytesRead, RecordMemory, recordsOf } from './records.ts';
import type { Segment } from './segments.ts';
import { isNoSpace } from './spares.ts';
import type { CasStore } from './store.ts';
import { storedRoots, walkTree } from './walk.ts';

/** Memory for what was moved and is not in the index yet: about a GiB of blocks. */
const HEADS_MAX = 1024;
/** Given back at once when writes may be waiting for room; each time takes two checkpoints. */
const URGENT_SEGMENTS = 4;
/** Segments with more than this share of live bytes are not worth moving. */
const LIVE_MAX = 0.8;

export interface CollectOptions {
  /** Segments with at most this share of live bytes are emptied, 0 to 1. */
  readonly liveMax?: number;
  /**
   * So much room is enough; without it everything that is worth it is freed. The emptiest segments
   * are emptied first, and those that are left get emptier by themselves.
   */
  readonly enoughBytes?: number;
  readonly pace?: Pace;
  /** Called after each segment, with bytes of segments. */
  onProgress?(phase: 'examining' | 'moving', doneBytes: number, totalBytes: number): void;
}

type PacedOptions = CollectOptions & { readonly pace: Pace };

export interface CollectReport {
  readonly examinedBytes: number;
  readonly liveBytes: number;
  readonly movedBytes: number;
  readonly freedSegments: number;
}

/** What has each store for itself, or had it last: see {@link whileNothingIsFreed}. */
const running = new WeakMap<CasStore, Promise<unknown>>();

/**
 * Frees what no volume and no snapshot needs any more. Waits for a collection that runs.
 *
 * @throws the pace's reason, when it is cancelled; what was emptied by then is freed
 */
export function collect(store: CasStore, options: CollectOptions = {}): Promise<CollectReport> {
  const { pace = new Pace() } = options;
  return whileMarking(store, pace, () => markAndSweep(store, { ...options, pace }));
}

/**
 * Does something while no collection runs: what stored roots reach stays where it can be read.
 *
 * @throws the pace's reason, when it is cancelled before it is its turn
 */
export function whileNothingIsFreed<T>(
  store: CasStore,
  pace: Pace,
  work: () => Promise<T>,
): Promise<T> {
  const before = running.get(store) ?? Promise.resolve();
  const result = pace.whenDone(before).then(work);
  // Who gives up waiting does not make the turn of others come earlier.
  const ended = Promise.allSettled([before, result]).then(() => {});
  running.set(store, ended);
  return result;
}

/**
 * Does something with the engine's marks, beginning with none and from a checkpoint on. Waits
 * until nobody else does.
 */
export function whileMarking<T>(store: CasStore, pace: Pace, work: () => Promise<T>): Promise<T> {
  return whileNothingIsFreed(store, pace, async () => {
    await store.indexed;
    await store.engine.markBegin();
    try {
      await store.checkpoint(() => pace.isUrgent);
      return await work();
    } finally {
      store.engine.markEnd();
    }
  });
}

async function markAndSweep(store: CasStore, options: PacedOptions): Promise<CollectReport> {
  const { liveMax = LIVE_MAX, enoughBytes = Number.POSITIVE_INFINITY } = options;
  const { pace, onProgress } = options;
  const settled = settledSegments(store);
  const totalBytes = settled.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  await markRoots(store, pace);
  const report: Report = { examinedBytes: 0, liveBytes: 0, movedBytes: 0, freedSegments: 0 };
  const worthwhile: Victim[] = [];
  for (const segment of settled) {
    const liveBytes = await measure(store, segment, pace);
    report.examinedBytes += segment.usedBytes;
    onProgress?.('examining', report.examinedBytes, totalBytes);
    report.liveBytes += liveBytes;
    if (liveBytes <= liveMax * segment.usedBytes) worthwhile.push({ segment, liveBytes });
  }
  await sweep(store, chooseVictims(worthwhile, enoughBytes), options, report);
  pace.throwIfCancelled();
  return report;
}

type Report = { -readonly [Key in keyof CollectReport]: CollectReport[Key] };

/** Empties segments and gives them back. */
async function sweep(
  store: CasStore,
  victims: Victim[],
  { pace, onProgress }: PacedOptions,
  report: Report,
): Promise<void> {
  const movableBytes = victims.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
  const heads: Uint8Array[] = [];
  let emptied: Segment[] = [];
  const giveBack = async () => {
    if (emptied.length === 0 && heads.length === 0) return;
    await store.release(
      emptied,
      () => pace.isUrgent,
      () => {
        for (const head of heads.splice(0)) store.engine.addToIndex(head, false);
      },
    );
    report.freedSegments += emptied.length;
    emptied = [];
  };
  const onMoved = async (record: Uint8Array, length: number) => {
    report.movedBytes += length;
    // Index entries are made of that.
    heads.push(record.slice(0, Math.min(length, HEAD_BYTES_MAX)));
    if (heads.length >= HEADS_MAX) await giveBack();
  };
  const target = new Uint8Array(recordSizeMax(ENTRIES_MAX, NODE_SIZE));
  while (victims.length > 0 && !pace.isCancelled) {
    const { segment } = victims[0] as Victim;
    store.engine.condemn(segment.number);
    try {
      if (await empty(store, segment, target, pace, onMoved)) emptied.push(segment);
      victims.shift();
      // What clients have stored again meanwhile is moved as well.
      onProgress?.('moving', report.movedBytes, Math.max(movableBytes, report.movedBytes));
      if (emptied.length >= URGENT_SEGMENTS && store.segments.spares.isShort) await giveBack();
    } catch (error) {
      const isShort = isNoSpace(error);
      if (isShort && emptied.length === 0) break;
      await giveBack();
      if (!isShort) throw error;
    }
  }
  await giveBack().catch((error: unknown) => {
    // Nothing was emptied: what was moved is still where it was.
    if (emptied.length > 0 || !isNoSpace(error)) throw error;
  });
}

interface Victim {
  readonly segment: Segment;
  readonly liveBytes: number;
}

/** The emptiest first: when there is no room to move anything, they still make some. */
function chooseVictims(victims: readonly Victim[], enoughBytes: number): Victim[] {
  let freedBytes = 0;
  return victims
    .toSorted((a, b) => a.liveBytes - b.liveBytes)
    .filter(({ segment, liveBytes }) => {
      const isWanted = freedBytes < enoughBytes;
      freedBytes += segment.usedBytes - liveBytes;
      return isWanted;
    });
}

/** Segments to which nothing is added any more and that no replay needs. */
function settledSegments(store: CasStore): Segment[] {
  const { log, nodes, moved, segments } = store;
  const current = new Set([log, nodes, moved].map(({ segment }) => segment?.number));
  const logStart = store.logStart;
  return [...segments.table.values()].filter(
    ({ number, stream, condemnedIn }) =>
      condemnedIn === 0 && !current.has(number) && (stream !== 'data' || number < logStart.segment),
  );
}

async function markRoots(store: CasStore, pace: Pace): Promise<void> {
  const { engine, reader } = store;
  const visited = new HashSet();
  for (const root of [...storedRoots(store), ...store.heldRoots]) {
    await walkTree(reader, root, pace, {
      enter(words, index) {
        if (!visited.add(words, index)) return false;
        engine.mark(words.subarray(index), 1);
        return true;
      },
      node({ words }) {
        engine.mark(words, FANOUT);
      },
    });
  }
}

async function measure(store: CasStore, segment: Segment, pace: Pace): Promise<number> {
  const flags = new Uint8Array(ENTRIES_MAX);
  let liveBytes = 0;
  for await (const found of recordsOf(store.recordParts, segment, segment.usedBytes)) {
    // What cannot be read counts as live: the segment stays.
    if (typeof found === 'number') return segment.usedBytes;
    if (found.header.entryCount > 0) liveBytes += await store.engine.marked(found.bytes, flags);
    await pace.spend(bytesRead(found));
  }
  return liveBytes;
}

/**
 * Moves the live frames of a segment.
 *
 * @param target memory for the largest record
 * @param onMoved called for each record, with its length
 * @returns whether it is empty; it is not when something cannot be read
 * @throws ENOSPC there is no room for all that is alive in it
 */
async function empty(
  store: CasStore,
  segment: Segment,
  target: Uint8Array,
  pace: Pace,
  onMoved: (record: Uint8Array, length: number) => Promise<void>,
): Promise<boolean> {
  const { engine, moved, reader, segments } = store;
  const flags = new Uint8Array(ENTRIES_MAX);
  const memory = new RecordMemory();
  for await (const found of recordsOf(store.recordParts, segment, segment.usedBytes)) {
    if (typeof found === 'number') return false;
    const { header, bytes } = found;
    if (header.entryCount === 0 || (await engine.marked(bytes, flags)) === 0) continue;
    if (!moved.fits(header.length)) {
      // Takes a spare only when clients have theirs: they would have to wait for one to be made.
      await segments.spares.replenish();
      await moved.advance();
      void segments.spares.replenish();
    }
    moved.prepare(target);
    const move = async () => engine.move(await memory.read(segment, header), flags, target);
    const length =
      (await move()) || (await reader.frames?.restored(segment.number, header.offset, move)) || 0;
    if (length === 0) return false;
    await moved.write(target, length);
    await onMoved(target, length);
    await pace.wait(header.length + length);
  }
  return true;
}
