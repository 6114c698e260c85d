/**
 * Writes finished records of the log to their segments, in order, and syncs when somebody waits
 * for it. All flushes that wait when a sync starts share it.
 *
 * Invariants:
 * - One write or sync is in flight at a time; what is written ahead of the log with a record lies
 *   behind all records so far.
 * - A slot of a record stays in memory until the record is in its segment and the maps point to it;
 *   no flush that covers the record ends before.
 */
import { BlockStatus } from '../../core/block-error.ts';
import type { CasEngine } from '../../native.ts';
import { type BlockCache, SlotState } from './block-cache.ts';
import { BLOCK_SIZE, recordSizeMax } from './format.ts';
import type { Segment } from './segments.ts';
import type { RecordStream } from './stream.ts';

const BUFFER_COUNT = 4;
/**
 * A sync of less than that takes half the time where the file has been written before than where
 * its room was only reserved; of more, writing it twice costs more than that saves.
 */
const LITTLE_BYTES = 128 << 10;
/** What is written beforehand: so much that fewer than one of a hundred syncs bear it. */
const AHEAD_BYTES = 512 << 10;

async function nothing(): Promise<void> {}

interface PendingRecord {
  readonly buffer: Uint8Array;
  readonly length: number;
  readonly segment: Segment;
  readonly offset: number;
  readonly sequence: number;
  /** Slots whose blocks it holds; negative for what is no block. */
  readonly slots: Int32Array;
  /** Settles when the maps point to it. */
  mapped: Promise<void>;
}

interface Flush {
  /** Items queued before it. */
  readonly ticket: number;
  /** Records below this sequence must be durable; undefined until all items are ingested. */
  sequence: number | undefined;
  readonly done: (status: BlockStatus) => void;
}

export interface LogWriterParts {
  readonly engine: CasEngine;
  readonly cache: BlockCache;
  readonly log: RecordStream;
  readonly batchBlocks: number;
  onFailed(error: Error): void;
}

export class LogWriter {
  readonly #parts: LogWriterParts;
  readonly #onProgress: () => void;
  readonly #free: Uint8Array[] = [];
  readonly #forBuffer: ((buffer: Uint8Array) => void)[] = [];
  /** Who waits for records to be written, and for which one last. */
  readonly #forWritten: { readonly sequence: number; readonly resolve: () => void }[] = [];
  #bufferCount = 0;
  #pending: PendingRecord[] = [];
  #flushes: Flush[] = [];
  #running = false;
  /** Settles when the last run has ended. */
  #lastRun: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  /** Up to where the log's segment was written ahead. */
  #ahead: { readonly segment: Segment; readonly end: number } | undefined;

  /** @param onProgress called when slots have become evictable, or everything has failed */
  constructor(parts: LogWriterParts, onProgress: () => void) {
    this.#parts = parts;
    this.#onProgress = onProgress;
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Why nothing more is written, if so. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  get isBusy(): boolean {
    return this.#running;
  }

  takeBuffer(): Uint8Array | undefined {
    if (this.#free.length === 0 && this.#bufferCount < BUFFER_COUNT) {
      this.#bufferCount++;
      return this.#newBuffer();
    }
    return this.#free.pop();
  }

  nextBuffer(): Promise<Uint8Array> {
    return new Promise((resolve) => {
      this.#forBuffer.push(resolve);
    });
  }

  giveBuffer(buffer: Uint8Array): void {
    const waiter = this.#forBuffer.shift();
    if (waiter === undefined) this.#free.push(buffer);
    else waiter(buffer);
  }

  /**
   * Takes a finished record, and has the maps pointed to it while it is being written. Its buffer
   * comes back when both are done.
   *
   * @param ingestedCount items that are in records now
   * @returns when the maps are done; rejects if they cannot be
   */
  write(
    buffer: Uint8Array,
    length: number,
    slots: Int32Array,
    ingestedCount: number,
    pointMaps: () => Promise<void> = nothing,
  ): Promise<void> {
    const place = this.#parts.log.append(length);
    const record = { buffer, length, ...place, slots, mapped: Promise.resolve() };
    this.#pending.push(record);
    this.ingested(ingestedCount);
    record.mapped = pointMaps();
    return record.mapped;
  }

  /** @param ticket items queued so far, of which `ingestedCount` are in records */
  flush(ticket: number, ingestedCount: number, done: (status: BlockStatus) => void): void {
    const { log } = this.#parts;
    const sequence = ingestedCount >= ticket ? log.sequence : undefined;
    if (sequence !== undefined && sequence <= log.durableSequence) {
      done(BlockStatus.ok);
      return;
    }
    this.#flushes.push({ ticket, sequence, done });
    if (sequence !== undefined) this.#start();
  }

  /** Tells how many items are in records now, or need none. */
  ingested(count: number): void {
    for (const flush of this.#flushes) {
      if (flush.ticket <= count) flush.sequence ??= this.#parts.log.sequence;
    }
    this.#start();
  }

  /** Waits until the records so far are written, or never will be. */
  async written(): Promise<void> {
    const last = this.#pending.at(-1);
    if (last === undefined || this.failed) return;
    const { sequence } = last;
    await new Promise<void>((resolve) => {
      this.#forWritten.push({ sequence, resolve });
    });
  }

  /** Waits until all records are written. @throws why they cannot be */
  async drain(): Promise<void> {
    await this.#lastRun;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits for the write or sync under way. After a failure none follows. */
  async settled(): Promise<void> {
    await this.#lastRun;
  }

  /** Gives up: nothing more is begun; see {@link settled}. */
  fail(error: Error): void {
    if (this.failed) return;
    this.#failure = error;
    this.#parts.onFailed(error);
    for (const { done } of this.#flushes.splice(0)) done(BlockStatus.ioError);
    // Whoever waits for a buffer goes on and sees that everything has failed.
    for (const resolve of this.#forBuffer.splice(0)) resolve(this.#newBuffer());
    for (const { resolve } of this.#forWritten.splice(0)) resolve();
    this.#onProgress();
  }

  #newBuffer(): Uint8Array {
    return new Uint8Array(recordSizeMax(this.#parts.batchBlocks, BLOCK_SIZE));
  }

  #start(): void {
    if (this.#running || this.failed) return;
    if (this.#pending.length === 0 && !this.#mustSync()) return;
    this.#running = true;
    this.#lastRun = this.#run();
  }

  async #run(): Promise<void> {
    const { log } = this.#parts;
    try {
      while (!this.failed && (this.#pending.length > 0 || this.#mustSync())) {
        // It stays there until it is written: duplicates are looked for in its buffer.
        const record = this.#pending[0];
        if (record === undefined) {
          await log.sync();
        } else {
          const sync = this.#pending.length === 1 && this.#mustSync();
          const { buffer, length, offset, segment, sequence } = record;
          const start = { segment: segment.number, offset, sequence };
          const aheadBytes = sync ? this.#prepareAhead(record) : 0;
          await segment.file.write(buffer, length + aheadBytes, offset, sync);
          // Who needs no more than what was before it does not wait for its maps.
          if (sync) log.confirm(start);
          this.#finishFlushes();
          await record.mapped;
          this.#pending.shift();
          this.#written(record);
          if (sync) log.confirm({ ...start, offset: offset + length, sequence: sequence + 1 });
        }
        this.#finishFlushes();
      }
    } catch (error) {
      this.fail(error as Error);
    }
    this.#running = false;
  }

  /**
   * Puts zeroes behind a little record that is the last so far.
   *
   * @returns how many bytes
   */
  #prepareAhead({ buffer, length, offset, segment }: PendingRecord): number {
    const { log } = this.#parts;
    const recordEnd = offset + length;
    const isAhead = this.#ahead?.segment === segment && recordEnd <= this.#ahead.end;
    if (isAhead || recordEnd - log.durableBytesOf(segment) > LITTLE_BYTES) return 0;
    const aheadBytes = Math.min(AHEAD_BYTES, buffer.length - length, log.roomBytes);
    buffer.fill(0, length, length + aheadBytes);
    this.#ahead = { segment, end: recordEnd + aheadBytes };
    return aheadBytes;
  }

  #mustSync(): boolean {
    return this.#flushes.some(({ sequence }) => sequence !== undefined);
  }

  #written(record: PendingRecord): void {
    const { engine, cache } = this.#parts;
    engine.written(record.buffer);
    for (let [first] = this.#forWritten; first !== undefined; [first] = this.#forWritten) {
      if (first.sequence > record.sequence) break;
      this.#forWritten.shift();
      first.resolve();
    }
    for (const slot of record.slots) {
      if (slot < 0 || cache.state[slot] !== SlotState.writing) continue;
      // Written again and logged again meanwhile: a later record will tell.
      if (cache.sequence[slot] !== record.sequence) continue;
      if (cache.isOrphan(slot)) cache.release(slot);
      else cache.state[slot] = SlotState.clean;
    }
    this.giveBuffer(record.buffer);
    this.#onProgress();
  }

  #finishFlushes(): void {
    const { durableSequence } = this.#parts.log;
    const isDone = ({ sequence }: Flush) => sequence !== undefined && sequence <= durableSequence;
    if (!this.#flushes.some(isDone)) return;
    const done = this.#flushes.filter(isDone);
    this.#flushes = this.#flushes.filter((flush) => !isDone(flush));
    for (const flush of done) flush.done(BlockStatus.ok);
  }
}
