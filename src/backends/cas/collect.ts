/**
 * Garbage collection: marks what volumes and snapshots reach, moves the live rest out of segments
 * that are mostly garbage, and gives those back. Writes and reads go on meanwhile.
 *
 * Why nothing live is lost:
 * - From before the roots are taken until the end, whatever is stored or found as a duplicate is
 *   marked as well, so every block is either reachable from the roots or marked by its writer.
 * - A segment is condemned before its live frames are chosen; from then on no duplicate relies on
 *   it.
 * - Only segments that the log's replay does not need are touched, and they are given back after
 *   two checkpoints: whichever superblock is read after a crash, it does not need them.
 * - What cannot be read ends the collection, or keeps the segment.
 */
import { ENTRIES_MAX, FANOUT, NODE_SIZE, recordSizeMax } from './format.ts';
import { readRecord, recordsOf } from './recovery.ts';
import type { Segment } from './segments.ts';
import type { CasStore } from './store.ts';
import { storedRoots, walkTree } from './walk.ts';

export interface CollectOptions {
  /** Segments with at most this share of live bytes are emptied, 0 to 1. */
  readonly liveMax: number;
}

export interface CollectReport {
  readonly examinedBytes: number;
  readonly liveBytes: number;
  readonly movedBytes: number;
  readonly freedSegments: number;
}

/** Who uses the marks of each store, or did last. */
const running = new WeakMap<CasStore, Promise<unknown>>();

/** Frees what no volume and no snapshot needs any more. Waits for a collection that runs. */
export function collect(store: CasStore, options: CollectOptions): Promise<CollectReport> {
  return whileMarking(store, () => markAndSweep(store, options));
}

/**
 * Does something with the engine's marks, beginning with none and from a checkpoint on. Waits
 * until nobody else does.
 */
export function whileMarking<T>(store: CasStore, work: () => Promise<T>): Promise<T> {
  const before = running.get(store) ?? Promise.resolve();
  const result = before.then(async () => {
    await store.indexed;
    store.engine.markBegin();
    try {
      await store.checkpoint();
      return await work();
    } finally {
      store.engine.markEnd();
    }
  });
  running.set(
    store,
    result.catch(() => {}),
  );
  return result;
}

async function markAndSweep(store: CasStore, { liveMax }: CollectOptions): Promise<CollectReport> {
  const settled = settledSegments(store);
  await markRoots(store);
  const report = { examinedBytes: 0, liveBytes: 0, movedBytes: 0, freedSegments: 0 };
  const victims: Victim[] = [];
  for (const segment of settled) {
    const liveBytes = await measure(store, segment);
    report.examinedBytes += segment.usedBytes;
    report.liveBytes += liveBytes;
    if (liveBytes <= liveMax * segment.usedBytes) victims.push({ segment, liveBytes });
  }
  const emptied: Segment[] = [];
  // The emptiest first: when there is no room to move anything, they still make some.
  for (const { segment } of victims.sort((a, b) => a.liveBytes - b.liveBytes)) {
    store.engine.condemn(segment.number);
    try {
      const movedBytes = await empty(store, segment);
      if (movedBytes === undefined) continue;
      report.movedBytes += movedBytes;
      emptied.push(segment);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') break;
      throw error;
    }
  }
  await store.release(emptied);
  report.freedSegments = emptied.length;
  return report;
}

interface Victim {
  readonly segment: Segment;
  readonly liveBytes: number;
}

/** Segments to which nothing is added any more and that no replay needs. */
function settledSegments(store: CasStore): Segment[] {
  const { log, nodes, moved, segments } = store;
  const current = new Set([log, nodes, moved].map(({ segment }) => segment?.number));
  const logStart = store.logStart;
  return [...segments.table.values()].filter(
    ({ number, stream, condemnedIn }) =>
      condemnedIn === 0 &&
      !current.has(number) &&
      (stream !== 'data' || number < logStart.segment) &&
      number < segments.nextNumber,
  );
}

async function markRoots(store: CasStore): Promise<void> {
  const { engine, reader } = store;
  const visited = new Set<string>();
  for (const root of storedRoots(store)) {
    await walkTree(reader, root, {
      enter(hash, words, index) {
        if (visited.has(hash)) return false;
        visited.add(hash);
        engine.mark(words.subarray(index), 1);
        return true;
      },
      node({ words }) {
        engine.mark(words, FANOUT);
      },
      damaged(error) {
        throw error;
      },
    });
  }
}

async function measure(store: CasStore, segment: Segment): Promise<number> {
  const flags = new Uint8Array(ENTRIES_MAX);
  let liveBytes = 0;
  const parts = { engine: store.engine, store: store.storeId };
  for await (const found of recordsOf(parts, segment, segment.usedBytes, false)) {
    // What cannot be read counts as live: the segment stays.
    if (typeof found === 'number') return segment.usedBytes;
    if (found.header.entryCount > 0) liveBytes += store.engine.marked(found.bytes, flags);
  }
  return liveBytes;
}

/** Moves the live frames of a segment. @returns bytes moved, undefined when some cannot be */
async function empty(store: CasStore, segment: Segment): Promise<number | undefined> {
  const { engine, moved, reader } = store;
  const flags = new Uint8Array(ENTRIES_MAX);
  const target = new Uint8Array(recordSizeMax(ENTRIES_MAX, NODE_SIZE));
  const parts = { engine, store: store.storeId };
  let movedBytes = 0;
  for await (const found of recordsOf(parts, segment, segment.usedBytes, false)) {
    if (typeof found === 'number') return undefined;
    const { header, bytes } = found;
    if (header.entryCount === 0 || engine.marked(bytes, flags) === 0) continue;
    const read = () => readRecord(parts, segment, header.offset, true);
    const whole =
      (await read()) ?? (await reader.frames?.restored(segment.number, header.offset, read));
    if (whole === undefined) return undefined;
    if (!moved.fits(header.length)) await moved.advance();
    moved.prepare(target);
    const length = await engine.move(whole.bytes, flags, target);
    if (length === 0) return undefined;
    const at = moved.append(length);
    await at.segment.file.write(target, length, at.offset, false);
    engine.addToIndex(target);
    movedBytes += length;
  }
  return movedBytes;
}
