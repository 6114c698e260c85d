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
import { StartupError } from '../../../core/startup-error.ts';
import type { CasEngine } from '../../../native.ts';
import type { Catalog } from '../catalog.ts';
import type { Segments } from '../segments.ts';
import type { RecordStream } from '../stream.ts';
import type { Superblock } from '../superblock.ts';
import type { Journal } from './journal.ts';
import { FencedError, type Part } from './journal-entry.ts';
import { ObsoleteBlobs } from './obsolete-blobs.ts';
import { LocalDamageError } from './part.ts';
import type { PartCache } from './part-cache.ts';
import { PartUploads } from './part-uploads.ts';
import type { RemoteOptions } from './remote-options.ts';

/** Uploads at a time; each takes a part's size of memory. */
const UPLOADS_MAX = 3;
const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 30_000;
/** How long a change of volumes waits: less than who has asked for it. */
const CHANGE_MS_MAX = 20_000;
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

/** How the blob store keeps up. */
export interface ReplicaState {
  /** Log that is on this disk only. */
  readonly lagBytes: number;
  /** How long the oldest of it has been. */
  readonly lagMs: number;
  /** Why the last attempt to store something failed, when the blob store was to blame. */
  readonly unreachable: Error | undefined;
  /** The same, when this disk was. */
  readonly damage: LocalDamageError | undefined;
}

interface Checkpoint {
  readonly superblock: Superblock;
  readonly catalog: Catalog;
}

/** Waits for the log before a sequence, and for the checkpoint of a generation. */
interface Waiter {
  readonly sequence: number;
  readonly generation: number;
  readonly done: (status: BlockStatus) => void;
}

/** What a round does before anything else; it has come about when the round ends well. */
interface Repair {
  readonly work: () => Promise<boolean>;
  readonly done: (isRepaired: boolean) => void;
}

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #uploads: PartUploads;
  readonly #obsolete: ObsoleteBlobs;
  readonly #aborter = new AbortController();
  #checkpoint: Checkpoint | undefined;
  #waiters: Waiter[] = [];
  readonly #repairs: Repair[] = [];
  /** Records of the log below this sequence are in the blob store. */
  #sequence = 0;
  /** The checkpoint that is there, as a generation. */
  #generation = 0;
  #loggedBytes = 0;
  /** Of the log, what is not in the blob store yet; the round under way may be storing some. */
  #lagBytes = 0;
  /** When the oldest of it was written, by the clock of `performance`. */
  #behindSinceMs: number | undefined;
  #isWaiting = false;
  #timer: NodeJS.Timeout | undefined;
  #due = false;
  #isRunning = false;
  /** Nothing more is begun by itself. */
  #isClosing = false;
  /** The rounds under way, or the last ones. */
  #running: Promise<void> = Promise.resolve();
  /** Segments that the round under way reads. */
  #pinned: ReadonlyMap<number, number> = new Map();
  /** Why the last round did not succeed. */
  #trouble: Error | undefined;
  #failure: Error | undefined;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    const { journal, engine, cache, options } = parts;
    const { blobs, onTrouble } = options;
    const { signal } = this.#aborter;
    this.#uploads = new PartUploads({ journal, engine, cache, blobs, signal });
    this.#obsolete = new ObsoleteBlobs({ journal, blobs, onTrouble });
  }

  get state(): ReplicaState {
    const trouble = this.#trouble;
    const damage = trouble instanceof LocalDamageError ? trouble : undefined;
    const unreachable = damage === undefined ? trouble : undefined;
    const nowMs = performance.now();
    const lagMs = nowMs - (this.#behindSinceMs ?? nowMs);
    return { lagBytes: this.#lagBytes, lagMs, unreachable, damage };
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
    if (this.#loggedBytes >= this.#parts.options.delayBytes) this.#start();
    else this.#startLater();
  }

  /** Must what is confirmed be in the blob store? */
  get mustConfirm(): boolean {
    const { options } = this.#parts;
    if (options.durability === 'remote') return true;
    if (this.#lagBytes <= options.lagBytesMax) return false;
    if (!this.#isWaiting) options.onLag(true);
    this.#isWaiting = true;
    return true;
  }

  /** Calls `done` when the log before `sequence`, which is durable here, is in the blob store. */
  reach(sequence: number, done: (status: BlockStatus) => void): void {
    this.#wait({ sequence, generation: 0, done });
  }

  /**
   * Waits until all that is durable here by now, with the newest checkpoint, is in the blob store.
   *
   * @throws {StartupError} it is not, or not soon; it will be, unless another server has the blob store
   */
  reachAll(): Promise<void> {
    const { log } = this.#parts;
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        sequence: log.durableSequence,
        generation: this.#checkpoint?.superblock.generation ?? 0,
        done: (status) => {
          clearTimeout(limit);
          if (status === BlockStatus.ok) resolve();
          else reject(this.#explainDelay());
        },
      };
      const limit = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        waiter.done(BlockStatus.ioError);
      }, CHANGE_MS_MAX);
      this.#wait(waiter);
    });
  }

  /**
   * Stores a part anew whose blob is damaged, under another name.
   *
   * @returns false when it is not whole on this disk, or cannot be stored now
   */
  renew(number: number, part: Part): Promise<boolean> {
    return this.#repair(async () => {
      const segment = this.#parts.segments.table.get(number);
      const store = this.#checkpoint?.superblock.store;
      if (segment === undefined || store === undefined) return false;
      return await this.#uploads.renew(segment, part, store);
    });
  }

  /** Stores an entry that says all that a damaged one has said. @returns as {@link renew} does */
  renewJournal(): Promise<boolean> {
    return this.#repair(async () => {
      this.#parts.journal.sayAll();
      return true;
    });
  }

  /** Stores what is left, and leaves the blob store to anybody who wants it. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const limit = setTimeout(() => this.#abort(), CLOSE_MS_MAX);
    this.#start();
    await this.#running;
    await this.#obsolete.removed();
    clearTimeout(limit);
    this.#refuseWaiters();
    // Not all of it is stored: nobody else may go on from there.
    if (this.#failure !== undefined || this.#due) return;
    try {
      await this.#parts.journal.close();
    } catch (error) {
      this.#parts.options.onTrouble(error as Error);
    }
  }

  /** Stops at once, as a crash does. */
  async abandon(): Promise<void> {
    this.#isClosing = true;
    clearTimeout(this.#timer);
    this.#abort();
    await this.#running;
    await this.#obsolete.stop();
  }

  #wait(waiter: Waiter): void {
    if (this.#failure !== undefined) waiter.done(BlockStatus.ioError);
    else if (this.#hasReached(waiter)) waiter.done(BlockStatus.ok);
    else if (this.state.damage !== undefined) waiter.done(BlockStatus.ioError);
    else {
      this.#waiters.push(waiter);
      this.#start();
    }
  }

  #hasReached({ sequence, generation }: Waiter): boolean {
    return sequence <= this.#sequence && generation <= this.#generation;
  }

  #explainDelay(): StartupError {
    const cause = this.#failure ?? this.#trouble;
    const reason = cause?.message ?? 'that takes long';
    return new StartupError(
      `it is done on the local disk, but not in the blob store yet: ${reason}`,
      'see with aoe-server status when the blob store has caught up: it is durable there then',
      { cause },
    );
  }

  #abort(): void {
    this.#aborter.abort();
    void this.#obsolete.stop();
  }

  #startLater(): void {
    if (this.#isClosing) return;
    this.#timer ??= setTimeout(() => this.#start(), this.#parts.options.delayMs).unref();
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
        this.#trouble = undefined;
        retryMs = RETRY_MS_MIN;
        // What was logged and not durable yet had its timer: it would wait for the next record.
        if (this.#sequence < this.#parts.log.sequence) this.#startLater();
      } catch (error) {
        if (error instanceof FencedError) {
          this.#fail(error);
          break;
        }
        this.#due = true;
        this.#report(error as Error);
        if (this.#isClosing && error instanceof LocalDamageError) break;
        await delay(retryMs, undefined, { signal }).catch(() => {});
        retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
      }
    }
    this.#isRunning = false;
    for (const { done } of this.#repairs.splice(0)) done(false);
  }

  #repair(work: Repair['work']): Promise<boolean> {
    return new Promise((done) => {
      this.#repairs.push({ work, done });
      this.#start();
    });
  }

  #report(error: Error): void {
    const { options } = this.#parts;
    const isNew = this.#trouble?.message !== error.message;
    this.#trouble = error;
    if (!(error instanceof LocalDamageError)) {
      options.onTrouble(error);
      return;
    }
    // Unlike a network, a disk seldom comes round: whoever waits must learn of it.
    this.#refuseWaiters();
    if (isNew) options.onLocalDamage(error);
  }

  #refuseWaiters(): void {
    for (const { done } of this.#waiters.splice(0)) done(BlockStatus.ioError);
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#refuseWaiters();
    this.#parts.onFailed(error);
  }

  async #round(): Promise<void> {
    const repairs = this.#repairs.splice(0);
    const outcomes: boolean[] = [];
    let isDone = false;
    try {
      for (const { work } of repairs) outcomes.push(await work());
      await this.#replicate();
      isDone = true;
    } finally {
      repairs.forEach(({ done }, i) => {
        done(isDone && outcomes[i] === true);
      });
    }
  }

  async #replicate(): Promise<void> {
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
        if (segment === undefined) throw new LocalDamageError(number, 0, new Error('no file'));
        await this.#uploads.store(segment, end, superblock.store);
      });
    } finally {
      this.#pinned = new Map();
    }
    const changes = this.#uploads.changes(ends);
    if (changes.segments.size > 0 || changes.removed.length > 0 || journal.isDue) {
      await journal.append({ superblock, segmentBytes: segments.segmentBytes, ...changes });
    }
    this.#obsolete.add(this.#uploads.settle(ends));
    this.#obsolete.remove();
    this.#sequence = sequence;
    this.#generation = superblock.generation;
    this.#lagBytes -= lagBytes;
    this.#behindSinceMs = this.#lagBytes > 0 ? startMs : undefined;
    if (this.#isWaiting && this.#lagBytes <= options.lagBytesMax) {
      this.#isWaiting = false;
      options.onLag(false);
    }
    const done = this.#waiters.filter((waiter) => this.#hasReached(waiter));
    this.#waiters = this.#waiters.filter((waiter) => !this.#hasReached(waiter));
    for (const waiter of done) waiter.done(BlockStatus.ok);
    this.#parts.cache.trim();
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
}
