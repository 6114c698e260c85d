/**
 * From dirty blocks to durable records: gathers, lets the engine hash, deduplicate, compress and
 * lay out, points the maps to the result, writes, syncs.
 *
 *     queue -> ingest (one batch at a time) -> maps
 *                                           -> write queue -> segment -> sync -> flushes
 *
 * While one record is written or synced the maps are pointed to it, and the next batch is ingested.
 *
 * Invariants:
 * - Maps are changed in the order of the log, between two batches of the ingest stage; at that
 *   boundary they say exactly what the log up to there says.
 * - Whatever is queued has its room in the log reserved; see {@link LogRoom}.
 * - A flush ends well only after a sync that started after everything queued before it was written.
 * - After a failed write or sync nothing is written any more: the log would have a gap.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BlockStatus } from '../../core/block-error.ts';
import type { CasEngine } from '../../native.ts';
import { Batch, batchBytesMax, type Trim } from './batch.ts';
import { type BlockCache, SlotState } from './block-cache.ts';
import { fill, fillNow } from './fill.ts';
import { RecordType, writeInlineData } from './format.ts';
import { ItemQueue, type Note } from './item-queue.ts';
import { LogRoom, NOTE_BYTES_MAX } from './log-room.ts';
import { LogWriter } from './log-writer.ts';
import { newPatience } from './patience.ts';
import type { BlockReader } from './reader.ts';
import type { Segments } from './segments.ts';
import type { RecordStream } from './stream.ts';

/** Up to here handing a batch to another thread takes longer than doing it. */
const INLINE_MAX = 8;
/**
 * The same where somebody waits, counting the time until that thread and this one wake up; it takes
 * 0.25 ms. Otherwise this thread has more to do than that one.
 */
const AWAITED_INLINE_MAX = 64;
/** While a record is being written, so many blocks are worth a batch before anybody asks for it. */
const EAGER_COUNT = 64;
const NO_SLOTS = new Int32Array(0);

export interface WriterParts {
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly cache: BlockCache;
  readonly reader: BlockReader;
  readonly log: RecordStream;
  /** Blocks in a record at most. */
  readonly batchBlocks: number;
  readonly queuedMax: number;
  readonly compress: boolean;
  /** Could a checkpoint store all maps, with the changes of so many more blocks? */
  hasRoomForMaps(queuedCount: number): boolean;
  /** Has nobody been left for long who could wait for what cannot be read now? */
  isGivenUp(): boolean;
  /** Called for each record of the log, with its length in bytes. */
  onRecord(length: number): void;
  /** Called once. */
  onFailed(error: Error): void;
}

export class Writer {
  readonly log: LogWriter;
  readonly room: LogRoom;
  readonly #parts: WriterParts;
  readonly #batch: Batch;
  readonly #patiently = newPatience(() => this.failed || this.#parts.isGivenUp());
  readonly #queue = new ItemQueue();
  /** Of what has left the queue, how much is in records or needs none. */
  #ingestedCount = 0;
  /** Of that, how much the maps say. */
  #mappedCount = 0;
  #running = false;
  /** Settles when the last run has ended. */
  #lastRun: Promise<void> = Promise.resolve();
  /** The length of the record that the engine makes, or made last. */
  #ingesting: number | Promise<number> = 0;
  /** Everything queued before this count must be ingested without waiting for more. */
  #demand = 0;
  readonly #atBoundary: (() => void)[] = [];
  readonly #onRoom = new Set<() => void>();

  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.room = new LogRoom(parts.segments, parts.log);
    this.#batch = new Batch(parts.cache, parts.batchBlocks);
    this.log = new LogWriter(parts, () => this.#progressed());
  }

  get failed(): boolean {
    return this.log.failed;
  }

  /** Why nothing can be written any more, if so. */
  get failure(): Error | undefined {
    return this.log.failure;
  }

  /** Is there room for one more dirty block, in the log and for its map? */
  get hasRoom(): boolean {
    const unmappedCount = this.#queue.queuedCount - this.#mappedCount;
    return this.room.hasRoomForBlock && this.#parts.hasRoomForMaps(unmappedCount + 1);
  }

  /** Does so much wait that a flush takes long? More has to wait, whatever memory there is. */
  get isFull(): boolean {
    return this.#queue.count >= this.#parts.queuedMax;
  }

  /** Takes a block that has just become dirty. */
  queue(slot: number): void {
    this.room.reserveBlock();
    this.#queue.push(slot);
  }

  trim(trim: Trim): void {
    this.room.reserveTrim();
    this.#queue.push(this.#batch.add(trim));
    this.#demandAll();
  }

  /**
   * Logs a snapshot, behind everything queued so far, where room is reserved for it.
   *
   * @param text what its record says
   * @param logged called when it has its place in the log: maps say exactly what is before it
   */
  note(text: Uint8Array, logged: () => void): void {
    const { cache } = this.#parts;
    // What is written from now on is not for the record's snapshot.
    for (const item of this.#queue.all()) {
      if (item >= 0 && cache.state[item] === SlotState.dirty) cache.state[item] = SlotState.kept;
    }
    this.#queue.pushNote({ text, logged });
    this.#demandAll();
  }

  /** Calls `retry` when there may be more room, or more free slots. */
  whenRoom(retry: () => void): void {
    this.#onRoom.add(retry);
    this.#demandAll();
  }

  /** Makes everything queued so far durable. `done` may be called before this returns. */
  flush(done: (status: BlockStatus) => void): void {
    if (this.failed) {
      done(BlockStatus.ioError);
      return;
    }
    this.#demandAll();
    this.log.flush(this.#queue.queuedCount, this.#ingestedCount, done);
  }

  /** Makes everything queued so far durable. @throws why it cannot be */
  flushed(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.flush((status) => {
        if (status === BlockStatus.ok) resolve();
        else reject(this.failure ?? new Error('the log cannot be written'));
      });
      this.kick();
    });
  }

  /** Starts what is worth starting. */
  kick(): void {
    if (this.#running || this.failed || !this.#isWorthwhile) return;
    this.#running = true;
    this.#lastRun = this.#run();
  }

  /** Waits until what the engine knows of the log by now can be read from its segments. */
  async written(): Promise<void> {
    await this.#ingesting;
    // By then it is handed on.
    await nextTurn();
    await this.log.written();
  }

  /** Waits for what is under way. After a failure nothing follows. */
  async settled(): Promise<void> {
    await this.#lastRun;
    await this.log.settled();
  }

  /** Calls `look`, which must not wait, when maps and log agree. */
  atBoundary(look: () => void): void {
    if (this.#running) this.#atBoundary.push(look);
    else look();
  }

  #demandAll(): void {
    this.#demand = this.#queue.queuedCount;
  }

  /** When nothing is being written a flush may follow at once: it should find everything here. */
  get #isWorthwhile(): boolean {
    if (this.#demand > this.#ingestedCount) return true;
    return this.#queue.count >= (this.log.isBusy ? EAGER_COUNT : this.#parts.batchBlocks);
  }

  async #run(): Promise<void> {
    try {
      while (!this.failed && this.#isWorthwhile) {
        await this.#ingestBatch();
        this.#reachBoundary();
      }
    } catch (error) {
      this.log.fail(error as Error);
    }
    this.#running = false;
    this.#reachBoundary();
    this.#progressed();
  }

  #reachBoundary(): void {
    for (const look of this.#atBoundary.splice(0)) look();
  }

  async #ingestBatch(): Promise<void> {
    const batch = this.#batch;
    const buffer = this.log.takeBuffer() ?? (await this.log.nextBuffer());
    const note = this.#queue.takeNote();
    if (note !== undefined) return this.#logNote(note, buffer);
    let next: number[];
    for (;;) {
      next = this.#queue.first(this.#parts.batchBlocks);
      const cold = fillNow(this.#parts, next);
      if (cold.length > 0) {
        await Promise.all(cold.map((slot) => fill(this.#parts, slot, this.#patiently)));
      } else if (!this.#parts.log.fits(batchBytesMax(next))) {
        await this.#advance();
      } else {
        break;
      }
    }
    batch.gather(next);
    const { slotCount } = batch;
    const taken = next.length;
    this.#queue.takeFirst(taken);
    const { takenCount } = this.#queue;
    let mapped: Promise<void> | undefined;
    if (batch.count === 0) {
      this.log.giveBuffer(buffer);
      this.log.ingested(takenCount);
    } else {
      this.#ingesting = this.#ingest(buffer);
      const length = await this.#ingesting;
      const { sequence } = this.#parts.log;
      const pointMaps = () => batch.pointMaps(buffer, sequence, this.#patiently);
      mapped = this.log.write(buffer, length, batch.items(), takenCount, pointMaps);
      this.#parts.onRecord(length);
    }
    this.#ingestedCount = takenCount;
    await mapped;
    // Only now: while something is reserved nobody takes the room that there is for the last.
    this.room.release(slotCount, taken - slotCount);
    this.#mappedCount = takenCount;
  }

  async #advance(): Promise<void> {
    await this.log.drain();
    await this.#parts.log.advance();
    void this.#parts.segments.spares.replenish();
  }

  async #logNote({ text, logged }: Note, buffer: Uint8Array): Promise<void> {
    const { log, engine, onRecord } = this.#parts;
    if (!log.fits(NOTE_BYTES_MAX)) await this.#advance();
    log.prepare(buffer, RecordType.snapshot);
    const length = writeInlineData(buffer, text);
    engine.seal(buffer);
    const { takenCount } = this.#queue;
    this.#ingestedCount = takenCount;
    this.#mappedCount = takenCount;
    void this.log.write(buffer, length, NO_SLOTS, takenCount);
    this.room.releaseNote();
    onRecord(length);
    logged();
  }

  #ingest(record: Uint8Array): number | Promise<number> {
    const { engine, cache, log, compress } = this.#parts;
    const { rows, count } = this.#batch;
    log.prepare(record);
    const isAwaited = this.#demand > this.#ingestedCount;
    if (count <= (isAwaited ? AWAITED_INLINE_MAX : INLINE_MAX)) {
      const length = engine.ingestNow(cache.slab, rows, count, record, compress);
      if (length !== 0) return length;
    }
    return engine.ingest(cache.slab, rows, count, record, compress);
  }

  #progressed(): void {
    // Those of a batch under way are not left yet: it may end them.
    if (this.failed && !this.#running) this.#batch.abandon();
    const retries = [...this.#onRoom];
    this.#onRoom.clear();
    for (const retry of retries) retry();
  }
}
