/**
 * Keeps the blob store up with the local store, one round after the other: a round stores what of
 * the segments is new and durable here, then the journal entry that names it.
 *
 * Invariants:
 * - One round at a time; what it has set out to store stays on this disk until it has ended.
 * - A round is a state that a crash could have left; see `planRound`.
 * - Only what is durable here is stored there: what a crash could still change must not be.
 */
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
import { Lag, unstoredBytes } from './lag.ts';
import { ObsoleteBlobs } from './obsolete-blobs.ts';
import { LocalDamageError } from './part.ts';
import type { PartCache } from './part-cache.ts';
import { PartUploads } from './part-uploads.ts';
import { type Milestone, Progress } from './progress.ts';
import type { RemoteOptions } from './remote-options.ts';
import { Repairs } from './repairs.ts';
import { type Checkpoint, planRound } from './round-plan.ts';
import { Rounds } from './rounds.ts';

/** Uploads at a time; each takes a part's size of memory. */
const UPLOADS_MAX = 3;
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

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #uploads: PartUploads;
  readonly #obsolete: ObsoleteBlobs;
  readonly #rounds: Rounds;
  readonly #progress = new Progress();
  readonly #lag: Lag;
  readonly #repairs = new Repairs();
  #checkpoint: Checkpoint | undefined;
  /** Segments that the round under way reads. */
  #pinned: ReadonlyMap<number, number> = new Map();
  /** Why the last round did not succeed. */
  #trouble: Error | undefined;
  #failure: Error | undefined;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    const { journal, engine, segments, cache, options } = parts;
    const { blobs, onTrouble, delayMs } = options;
    this.#lag = new Lag(options, unstoredBytes(journal.image, segments));
    this.#rounds = new Rounds({
      delayMs,
      round: () => this.#round(),
      onFailed: (error) => this.#failed(error),
      onIdle: () => this.#repairs.refuse(),
    });
    const { signal } = this.#rounds;
    this.#uploads = new PartUploads({ journal, engine, cache, blobs, signal });
    this.#obsolete = new ObsoleteBlobs({ journal, blobs, onTrouble });
  }

  get state(): ReplicaState {
    const trouble = this.#trouble;
    const damage = trouble instanceof LocalDamageError ? trouble : undefined;
    const unreachable = damage === undefined ? trouble : undefined;
    return { lagBytes: this.#lag.bytes, lagMs: this.#lag.ms, unreachable, damage };
  }

  /** Must a segment stay on this disk for now? */
  needs(segment: number): boolean {
    return this.#pinned.has(segment) || this.#parts.cache.holds(segment);
  }

  /** Takes up a checkpoint that is durable here. */
  checkpointed(superblock: Superblock, catalog: Catalog): void {
    this.#checkpoint = { superblock, catalog };
    this.#parts.cache.checkpointed(catalog);
    this.#rounds.start();
  }

  /** Takes notice of a record of the log. */
  logged(length: number): void {
    this.#lag.grow(length);
    if (this.#lag.newBytes >= this.#parts.options.delayBytes) this.#rounds.start();
    else this.#rounds.startLater();
  }

  /** Asked for whatever is confirmed: must it be in the blob store? */
  mustConfirm(): boolean {
    return this.#parts.options.durability === 'remote' || this.#lag.holdsUp();
  }

  /** Calls `done` when the log before `sequence`, which is durable here, is in the blob store. */
  reach(sequence: number, done: (status: BlockStatus) => void): void {
    this.#wait({ sequence, generation: 0 }, done);
  }

  /**
   * Waits until all that is durable here by now, with the newest checkpoint, is in the blob store.
   *
   * @throws {StartupError} it is not, or not soon; it will be, unless another server has the blob store
   */
  reachAll(): Promise<void> {
    const { log } = this.#parts;
    const generation = this.#checkpoint?.superblock.generation ?? 0;
    return new Promise((resolve, reject) => {
      let giveUp = () => {};
      const limit = setTimeout(() => giveUp(), CHANGE_MS_MAX);
      giveUp = this.#wait({ sequence: log.durableSequence, generation }, (status) => {
        clearTimeout(limit);
        if (status === BlockStatus.ok) resolve();
        else reject(this.#explainDelay());
      });
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
    const limit = setTimeout(() => this.#abort(), CLOSE_MS_MAX);
    await this.#rounds.finish();
    await this.#obsolete.settled();
    clearTimeout(limit);
    this.#progress.refuse();
    // Not all of it is stored: nobody else may go on from there.
    if (this.#rounds.isDue) return;
    try {
      await this.#parts.journal.close();
    } catch (error) {
      this.#parts.options.onTrouble(error as Error);
    }
  }

  /** Stops at once, as a crash does. */
  async abandon(): Promise<void> {
    this.#abort();
    await this.#rounds.settled();
    await this.#obsolete.stop();
  }

  /** @returns a function that ends the waiting */
  #wait(milestone: Milestone, done: (status: BlockStatus) => void): () => void {
    if (this.#failure !== undefined) done(BlockStatus.ioError);
    else if (this.#progress.has(milestone)) done(BlockStatus.ok);
    else if (this.state.damage !== undefined) done(BlockStatus.ioError);
    else {
      const giveUp = this.#progress.wait(milestone, done);
      this.#rounds.start();
      return giveUp;
    }
    return () => {};
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
    this.#rounds.stop();
    void this.#obsolete.stop();
  }

  #repair(work: () => Promise<boolean>): Promise<boolean> {
    const repaired = this.#repairs.add(work);
    this.#rounds.start();
    return repaired;
  }

  /** @returns whether another round may succeed */
  #failed(error: Error): boolean {
    const { onTrouble, onLocalDamage } = this.#parts.options;
    if (error instanceof FencedError) {
      this.#failure = error;
      this.#rounds.stop();
      this.#progress.refuse();
      this.#parts.onFailed(error);
      return false;
    }
    const isNew = this.#trouble?.message !== error.message;
    this.#trouble = error;
    if (!(error instanceof LocalDamageError)) {
      onTrouble(error);
      return true;
    }
    // Unlike a network, a disk seldom comes round: whoever waits must learn of it.
    this.#progress.refuse();
    if (isNew) onLocalDamage(error);
    return !this.#rounds.isFinishing;
  }

  async #round(): Promise<void> {
    await this.#repairs.before(() => this.#replicate());
    this.#trouble = undefined;
    // What was logged and not durable yet had its timer: it would wait for the next record.
    if (this.#progress.sequence < this.#parts.log.sequence) this.#rounds.startLater();
  }

  async #replicate(): Promise<void> {
    const { journal, log, segments } = this.#parts;
    if (this.#checkpoint === undefined) return;
    const { superblock } = this.#checkpoint;
    const { segment: last, durableSequence: sequence } = log;
    // Whatever is in a segment before the last one is durable.
    const unsyncedBytes = last === undefined ? 0 : last.usedBytes - log.durableBytesOf(last);
    const stored = this.#lag.storing(unsyncedBytes);
    const ends = planRound(this.#checkpoint, log, segments);
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
    this.#obsolete.add(this.#uploads.journaled(ends));
    this.#obsolete.remove();
    stored();
    this.#progress.advance({ sequence, generation: superblock.generation });
    this.#parts.cache.trim();
  }
}
