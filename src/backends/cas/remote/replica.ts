/**
 * Keeps the blob store up with the local store, one round after the other: a round stores what of
 * the segments is new and durable here, then the journal entry that names it.
 *
 * Invariants:
 * - One round at a time; what it has set out to store stays on this disk until it has ended.
 * - A round is a state that a crash could have left: the newest checkpoint with all segments that
 *   it names, up to the length that it says, and the log up to a durable record.
 * - Only what is durable here is stored there: what a crash could still change must not be.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { BlockStatus } from '../../../core/block-error.ts';
import { inLanes } from '../../../core/lanes.ts';
import type { CasEngine } from '../../../native.ts';
import { BlobExistsError } from '../blob-store.ts';
import type { Catalog } from '../catalog.ts';
import type { Segment, Segments } from '../segments.ts';
import type { StoreLag } from '../store-options.ts';
import type { RecordStream } from '../stream.ts';
import type { Superblock } from '../superblock.ts';
import { FencedError, type Journal, type Part, partName } from './journal.ts';
import { type MadePart, makePart } from './part.ts';
import type { PartCache } from './part-cache.ts';
import type { RemoteOptions } from './remote-options.ts';

/** Uploads at a time; each takes a part's size of memory. */
const UPLOADS_MAX = 3;
/** Up to this size new bytes are stored together with what was stored just before them. */
const MERGED_BYTES_MAX = 1 << 20;
const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 30_000;
/** How long the last round may take when the store is closed. */
const CLOSE_MS_MAX = 60_000;

export interface ReplicaParts {
  readonly journal: Journal;
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly log: RecordStream;
  readonly cache: PartCache;
  readonly options: RemoteOptions;
  /** Nothing can be stored any more: another server has the blob store. Called once. */
  onFailed(error: Error): void;
}

interface Checkpoint {
  readonly superblock: Superblock;
  readonly catalog: Catalog;
}

interface Waiter {
  readonly sequence: number;
  readonly done: (status: BlockStatus) => void;
}

export class Replica {
  readonly #parts: ReplicaParts;
  /** What is stored of each segment; the journal may not name it yet. */
  readonly #stored: Map<number, readonly Part[]>;
  readonly #aborter = new AbortController();
  #checkpoint: Checkpoint | undefined;
  #waiters: Waiter[] = [];
  /** Records of the log below this sequence are in the blob store. */
  #sequence = 0;
  #loggedBytes = 0;
  /** Of the log, what is not in the blob store yet; the round under way may be storing some. */
  #lagBytes = 0;
  /** When the oldest of it was written, by the clock of `performance`. */
  #behindSinceMs: number | undefined;
  #isWaiting = false;
  #timer: NodeJS.Timeout | undefined;
  #due = false;
  #isRunning = false;
  /** The rounds under way, or the last ones. */
  #running: Promise<void> = Promise.resolve();
  /** Segments that the round under way reads. */
  #pinned: ReadonlyMap<number, number> = new Map();
  #failure: Error | undefined;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    this.#stored = new Map(parts.journal.image.segments);
  }

  /** Must a segment stay on this disk for now? */
  needs(segment: number): boolean {
    return this.#pinned.has(segment) || this.#parts.cache.holds(segment);
  }

  /** Takes up a checkpoint that is durable here. */
  checkpointed(superblock: Superblock, catalog: Catalog): void {
    this.#checkpoint = { superblock, catalog };
    this.#parts.cache.checkpointed(catalog);
    this.#start();
  }

  /** Takes notice of a record of the log. */
  logged(length: number): void {
    this.#loggedBytes += length;
    this.#lagBytes += length;
    this.#behindSinceMs ??= performance.now();
    const { delayBytes, delayMs } = this.#parts.options;
    if (this.#loggedBytes >= delayBytes) this.#start();
    else this.#timer ??= setTimeout(() => this.#start(), delayMs).unref();
  }

  /** What of the log is not in the blob store yet. */
  get lag(): StoreLag {
    const nowMs = performance.now();
    return { bytes: this.#lagBytes, ageMs: nowMs - (this.#behindSinceMs ?? nowMs) };
  }

  /** Must flushes wait for the blob store, whatever `durability` says? */
  get isBehind(): boolean {
    const { options } = this.#parts;
    if (this.#lagBytes <= options.lagBytesMax) return false;
    if (!this.#isWaiting) options.onLag(true);
    this.#isWaiting = true;
    return true;
  }

  /** Calls `done` when the log before `sequence`, which is durable here, is in the blob store. */
  reach(sequence: number, done: (status: BlockStatus) => void): void {
    if (this.#failure !== undefined) done(BlockStatus.ioError);
    else if (sequence <= this.#sequence) done(BlockStatus.ok);
    else {
      this.#waiters.push({ sequence, done });
      this.#start();
    }
  }

  /** Stores what is left, and leaves the blob store to anybody who wants it. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    const limit = setTimeout(() => this.#aborter.abort(), CLOSE_MS_MAX);
    this.#start();
    await this.#running;
    clearTimeout(limit);
    for (const { done } of this.#waiters.splice(0)) done(BlockStatus.ioError);
    if (this.#failure !== undefined || this.#aborter.signal.aborted) return;
    try {
      await this.#parts.journal.close();
    } catch (error) {
      this.#parts.options.onTrouble(error as Error);
    }
  }

  /** Stops at once, as a crash does. */
  async abandon(): Promise<void> {
    clearTimeout(this.#timer);
    this.#aborter.abort();
    await this.#running;
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#due = true;
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    const { signal } = this.#aborter;
    let retryMs = RETRY_MS_MIN;
    while (this.#due && this.#failure === undefined && !signal.aborted) {
      this.#due = false;
      try {
        await this.#round();
        retryMs = RETRY_MS_MIN;
      } catch (error) {
        if (error instanceof FencedError) {
          this.#fail(error);
          break;
        }
        this.#due = true;
        this.#parts.options.onTrouble(error as Error);
        await delay(retryMs, undefined, { signal }).catch(() => {});
        retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
      }
    }
    this.#isRunning = false;
  }

  #fail(error: Error): void {
    this.#failure = error;
    for (const { done } of this.#waiters.splice(0)) done(BlockStatus.ioError);
    this.#parts.onFailed(error);
  }

  async #round(): Promise<void> {
    const { journal, log, segments } = this.#parts;
    const { options } = this.#parts;
    if (this.#checkpoint === undefined) return;
    const { superblock } = this.#checkpoint;
    const { sequence } = log.durable;
    this.#loggedBytes = 0;
    const lagBytes = this.#lagBytes;
    const startMs = performance.now();
    const ends = this.#plan(this.#checkpoint);
    this.#pinned = ends;
    try {
      await inLanes(UPLOADS_MAX, ends.entries(), async ([number, end]) => {
        const segment = segments.table.get(number);
        if (segment === undefined) throw new Error(`segment ${number} is not there`);
        await this.#storeSegment(segment, end);
      });
    } finally {
      this.#pinned = new Map();
    }
    const before = journal.image.segments;
    const changed = [...this.#stored].filter(
      ([number, parts]) => ends.has(number) && before.get(number) !== parts,
    );
    const removed = [...before.keys()].filter((number) => !ends.has(number));
    const obsolete = obsoleteNames(before, new Map(changed), removed);
    if (changed.length > 0 || removed.length > 0) {
      const { segmentBytes } = segments;
      await journal.append({ superblock, segmentBytes, segments: new Map(changed), removed });
    }
    this.#sequence = sequence;
    this.#lagBytes -= lagBytes;
    this.#behindSinceMs = this.#lagBytes > 0 ? startMs : undefined;
    if (this.#isWaiting && this.#lagBytes <= options.lagBytesMax) {
      this.#isWaiting = false;
      options.onLag(false);
    }
    for (const number of this.#stored.keys()) if (!ends.has(number)) this.#stored.delete(number);
    const isDone = (waiter: Waiter) => waiter.sequence <= sequence;
    const done = this.#waiters.filter(isDone);
    this.#waiters = this.#waiters.filter((waiter) => !isDone(waiter));
    for (const waiter of done) waiter.done(BlockStatus.ok);
    this.#parts.cache.trim();
    for (const name of obsolete) await options.blobs.delete(name);
  }

  /** What is to be stored: segments, and up to where. */
  #plan({ superblock, catalog }: Checkpoint): Map<number, number> {
    const ends = new Map(catalog.segments.map(({ number, usedBytes }) => [number, usedBytes]));
    ends.set(superblock.segment, superblock.offset + superblock.length);
    const { durable } = this.#parts.log;
    for (const { number, stream, usedBytes } of this.#parts.segments.table.values()) {
      const isLog = stream === 'data' && number >= catalog.streams.data.segment;
      if (isLog && number < durable.segment) ends.set(number, usedBytes);
    }
    if (durable.segment > 0) ends.set(durable.segment, durable.offset);
    return ends;
  }

  async #storeSegment(segment: Segment, end: number): Promise<void> {
    const parts = [...(this.#stored.get(segment.number) ?? [])];
    let from = parts.at(-1)?.[1] ?? 0;
    if (from >= end) return;
    for (let last = parts.at(-1); last !== undefined; last = parts.at(-1)) {
      const isSmall = last[1] - last[0] <= end - from && end - last[0] <= MERGED_BYTES_MAX;
      if (!isSmall) break;
      from = last[0];
      parts.pop();
    }
    while (from < end) {
      const { journal, engine } = this.#parts;
      const store = (this.#checkpoint as Checkpoint).superblock.store;
      const made = await makePart({ engine, store }, segment, from, end, journal.epoch);
      await this.#put(segment.number, made);
      parts.push(made.part);
      this.#stored.set(segment.number, [...parts]);
      from = made.part[1];
    }
  }

  async #put(segment: number, { part, bytes }: MadePart): Promise<void> {
    this.#aborter.signal.throwIfAborted();
    try {
      await this.#parts.options.blobs.put(partName(segment, part), bytes);
    } catch (error) {
      // The name says whose it is and what it holds: an attempt whose answer was lost.
      if (!(error instanceof BlobExistsError)) throw error;
    }
  }
}

/** The blobs that an entry named and the next one does not. */
function obsoleteNames(
  before: ReadonlyMap<number, readonly Part[]>,
  changed: ReadonlyMap<number, readonly Part[]>,
  removed: readonly number[],
): string[] {
  const kept = new Set<string>();
  for (const [number, parts] of changed) for (const p of parts) kept.add(partName(number, p));
  const touched = [...changed.keys(), ...removed];
  return touched
    .flatMap((number) => (before.get(number) ?? []).map((part) => partName(number, part)))
    .filter((name) => !kept.has(name));
}
