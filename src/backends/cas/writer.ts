/**
 * From dirty blocks to durable records: gathers, lets the engine hash, deduplicate, compress and
 * lay out, points the maps to the result, writes, syncs.
 *
 *     queue -> ingest (one batch at a time) -> maps -> write queue -> segment -> sync -> flushes
 *
 * While one record is written or synced the next batch is ingested.
 *
 * Invariants:
 * - Maps are changed in the order of the log, between two batches of the ingest stage; at that
 *   boundary they say exactly what the log up to there says.
 * - Whatever is dirty has room reserved, so a write that was taken is never refused for lack of
 *   space later.
 * - A flush ends well only after a sync that started after everything queued before it was written.
 * - After a failed write or sync nothing is written any more: the log would have a gap.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BlockStatus } from '../../core/block-error.ts';
import type { CasEngine } from '../../native.ts';
import { BlobUnreachableError } from './blob-store.ts';
import { type BlockCache, MASK_FULL, SlotState } from './block-cache.ts';
import {
  BLOCK_SIZE,
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  recordSizeMax,
} from './format.ts';
import { LogWriter } from './log-writer.ts';
import { type BlockReader, DamageError } from './reader.ts';
import type { Segments } from './segments.ts';
import type { RecordStream } from './stream.ts';
import type { Volume } from './volume.ts';

const ROW_LENGTH = 6;
/** Up to here handing a batch to another thread takes longer than doing it. */
const INLINE_MAX = 8;
/** While a record is being written, so many blocks are worth a batch before anybody asks for it. */
const EAGER_COUNT = 64;
const RETRY_MS = 1000;
/** What one dirty block may take of the log at most: a record of its own. */
const RESERVED_BYTES = recordSizeMax(1, BLOCK_SIZE);

export interface Trim {
  readonly volume: Volume;
  readonly lba: number;
  readonly count: number;
  done(status: BlockStatus): void;
}

export interface WriterParts {
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly cache: BlockCache;
  readonly reader: BlockReader;
  readonly log: RecordStream;
  /** Blocks in a record at most. */
  readonly batchBlocks: number;
  readonly compress: boolean;
  /** Called for each record of the log, with its length in bytes. */
  onRecord(length: number): void;
  /** Called once. */
  onFailed(error: Error): void;
}

export class Writer {
  readonly log: LogWriter;
  readonly #parts: WriterParts;
  readonly #rows: Int32Array;
  readonly #slots: Int32Array;
  readonly #trims = new Map<number, Trim>();
  /** Slots, and trims as negative numbers, in the order in which they were queued. */
  #queue: number[] = [];
  #trimSerial = 0;
  #queuedCount = 0;
  #takenCount = 0;
  /** Of what was queued, how much is in records or needs none. */
  #ingestedCount = 0;
  #reservedBytes = 0;
  #running = false;
  /** Everything queued before this count must be ingested without waiting for more. */
  #demand = 0;
  readonly #atBoundary: (() => void)[] = [];
  readonly #onRoom = new Set<() => void>();

  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.#rows = new Int32Array(parts.batchBlocks * ROW_LENGTH);
    this.#slots = new Int32Array(parts.batchBlocks);
    this.log = new LogWriter(parts, () => this.#roomChanged());
  }

  get failed(): boolean {
    return this.log.failed;
  }

  /** Spares that the reserved room needs. */
  get promisedSpares(): number {
    const { segments, log } = this.#parts;
    const beyond = this.#reservedBytes - Math.max(0, log.roomBytes - segments.slackBytes);
    return Math.max(0, Math.ceil(beyond / (segments.segmentBytes - segments.slackBytes)));
  }

  /** Room that dirty blocks may need at most. */
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** Is there room for one more dirty block? */
  get hasRoom(): boolean {
    const { segments, log } = this.#parts;
    const usable = segments.segmentBytes - segments.slackBytes;
    const spare = segments.dataSpareCount * usable;
    const room = Math.max(0, log.roomBytes - segments.slackBytes) + spare;
    return this.#reservedBytes + RESERVED_BYTES <= room;
  }

  /** Takes a block that has just become dirty. */
  queue(slot: number): void {
    this.#reservedBytes += RESERVED_BYTES;
    this.#queue.push(slot);
    this.#queuedCount++;
  }

  trim(trim: Trim): void {
    const serial = --this.#trimSerial;
    this.#trims.set(serial, trim);
    this.#queue.push(serial);
    this.#demand = ++this.#queuedCount;
  }

  /** Calls `retry` when there may be more room, or more free slots. */
  whenRoom(retry: () => void): void {
    this.#onRoom.add(retry);
    this.#demand = this.#queuedCount;
  }

  /** Makes everything queued so far durable. `done` may be called before this returns. */
  flush(done: (status: BlockStatus) => void): void {
    if (this.failed) {
      done(BlockStatus.ioError);
      return;
    }
    this.#demand = this.#queuedCount;
    this.log.flush(this.#queuedCount, this.#ingestedCount, done);
  }

  /** Starts what is worth starting. */
  kick(): void {
    if (this.#running || this.failed) return;
    if (!this.#isWorthwhile) return;
    this.#running = true;
    void this.#run();
  }

  /** Calls `look`, which must not wait, when maps and log agree. */
  atBoundary(look: () => void): void {
    if (this.#running) this.#atBoundary.push(look);
    else look();
  }

  /** When nothing is being written a flush may follow at once: it should find everything here. */
  get #isWorthwhile(): boolean {
    if (this.#demand > this.#ingestedCount) return true;
    return this.#queue.length >= (this.log.isBusy ? EAGER_COUNT : this.#parts.batchBlocks);
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
    if (this.failed) this.#abandonTrims();
    this.#roomChanged();
  }

  #reachBoundary(): void {
    for (const look of this.#atBoundary.splice(0)) look();
  }

  async #ingestBatch(): Promise<void> {
    const { cache, batchBlocks } = this.#parts;
    if (!this.#parts.log.fits(recordSizeMax(batchBlocks, BLOCK_SIZE))) {
      await this.log.drain();
      await this.#parts.log.advance();
      void this.#parts.segments.replenish();
    }
    const buffer = this.log.takeBuffer() ?? (await this.log.nextBuffer());
    for (;;) {
      const cold = this.#fillNow(batchBlocks);
      if (cold.length === 0) break;
      await Promise.all(cold.map((slot) => this.#fill(slot)));
    }
    const count = this.#gather(batchBlocks);
    if (count === 0) {
      this.log.giveBuffer(buffer);
      this.log.ingested(this.#takenCount);
    } else {
      const length = await this.#ingest(cache.slab, count, buffer);
      await this.#point(buffer, count);
      this.log.write(buffer, length, this.#slots.slice(0, count), this.#takenCount);
      this.#parts.onRecord(length);
    }
    this.#ingestedCount = this.#takenCount;
  }

  #ingest(slab: Uint8Array, count: number, buffer: Uint8Array): number | Promise<number> {
    const { engine, log, compress } = this.#parts;
    log.prepare(buffer);
    if (count <= INLINE_MAX) {
      const length = engine.ingestNow(slab, this.#rows, count, buffer, compress);
      if (length !== 0) return length;
    }
    return engine.ingest(slab, this.#rows, count, buffer, compress);
  }

  /** Completes partly written blocks from what they replace. @returns slots that need waiting */
  #fillNow(max: number): number[] {
    const { cache } = this.#parts;
    const cold: number[] = [];
    for (let i = 0; i < this.#queue.length && i < max; i++) {
      const slot = this.#queue[i] as number;
      if (slot < 0 || cache.state[slot] !== SlotState.dirty) continue;
      const partial = cache.mask[slot] !== MASK_FULL;
      const volume = cache.owner[slot] as Volume;
      const mapped = volume.tree.peek(cache.lba[slot] as number) !== undefined;
      if (!mapped || (partial && !this.#fillFromMemory(slot))) cold.push(slot);
    }
    return cold;
  }

  #fillFromMemory(slot: number): boolean {
    const { cache, reader } = this.#parts;
    const volume = cache.owner[slot] as Volume;
    if (!reader.readNow(volume, cache.lba[slot] as number, SCRATCH, 0)) return false;
    mergeSectors(cache, slot, SCRATCH);
    return true;
  }

  /**
   * Brings in what a dirty block needs: its place in the map, and the sectors that it lacks. When
   * they are damaged the write is lost, and its volume says so at every flush from now on.
   */
  async #fill(slot: number): Promise<void> {
    const { cache, reader } = this.#parts;
    const base = new Uint8Array(BLOCK_SIZE);
    const lba = cache.lba[slot] as number;
    const volume = cache.owner[slot] as Volume;
    const isSame = () =>
      cache.state[slot] === SlotState.dirty &&
      cache.lba[slot] === lba &&
      cache.owner[slot] === volume;
    try {
      await this.#patiently(() => volume.tree.fetch(lba));
      if (cache.mask[slot] === MASK_FULL) return;
      await this.#patiently(() => reader.read(volume, lba, base, 0));
      if (isSame()) mergeSectors(cache, slot, base);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      volume.lostWrite = error;
      if (isSame()) cache.release(slot);
    }
  }

  /** Moves the head of the queue to the rows of a batch. */
  #gather(max: number): number {
    const { cache } = this.#parts;
    let count = 0;
    let taken = 0;
    for (; taken < this.#queue.length && taken < max; taken++) {
      const item = this.#queue[taken] as number;
      const row = count * ROW_LENGTH;
      if (item < 0) {
        const trim = this.#trims.get(item) as Trim;
        this.#setRow(row, EntryKind.trim, trim.volume, trim.lba, 0, trim.count);
      } else {
        this.#reservedBytes -= RESERVED_BYTES;
        if (cache.state[item] !== SlotState.dirty) continue;
        cache.state[item] = SlotState.sealed;
        const volume = cache.owner[item] as Volume;
        const lba = cache.lba[item] as number;
        this.#setRow(row, EntryKind.block, volume, lba, item * BLOCK_SIZE, 1);
      }
      this.#slots[count++] = item;
    }
    this.#queue = this.#queue.slice(taken);
    this.#takenCount += taken;
    return count;
  }

  #setRow(
    row: number,
    kind: number,
    volume: Volume,
    lba: number,
    memory: number,
    count: number,
  ): void {
    const rows = this.#rows;
    rows[row] = kind;
    rows[row + 1] = volume.id;
    rows[row + 2] = lba % 2 ** 32;
    rows[row + 3] = Math.floor(lba / 2 ** 32);
    rows[row + 4] = memory;
    rows[row + 5] = count;
  }

  /** Points the maps to what a record says. */
  async #point(record: Uint8Array, count: number): Promise<void> {
    const { cache, log } = this.#parts;
    const words = entryWords(record, count);
    for (let i = 0; i < count; i++) {
      const item = this.#slots[i] as number;
      const at = i * ENTRY_WORDS;
      if (item < 0) {
        const trim = this.#trims.get(item) as Trim;
        const status = await this.#patiently(() => clear(trim));
        this.#trims.delete(item);
        trim.done(status);
        continue;
      }
      const volume = cache.owner[item] as Volume;
      const { tree } = volume;
      volume.changeCount++;
      const lba = cache.lba[item] as number;
      const source = words[at + EntryWord.kind] === EntryKind.zero ? undefined : words;
      while (!tree.set(lba, source, at + EntryWord.hash)) {
        await this.#patiently(() => tree.fetch(lba));
      }
      cache.state[item] = SlotState.writing;
      cache.sequence[item] = log.sequence;
    }
  }

  /** A blob store that cannot be reached holds writes up; it does not lose them. */
  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof BlobUnreachableError) || this.failed) throw error;
        await delay(RETRY_MS);
      }
    }
  }

  #abandonTrims(): void {
    for (const trim of this.#trims.values()) trim.done(BlockStatus.ioError);
    this.#trims.clear();
  }

  #roomChanged(): void {
    const retries = [...this.#onRoom];
    this.#onRoom.clear();
    for (const retry of retries) retry();
  }
}

async function clear(trim: Trim): Promise<BlockStatus> {
  try {
    await trim.volume.tree.clear(trim.lba, trim.count);
    return BlockStatus.ok;
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    return BlockStatus.ioError;
  }
}

const SCRATCH = new Uint8Array(BLOCK_SIZE);

/** Puts the sectors of `base` where the slot has none. */
function mergeSectors(cache: BlockCache, slot: number, base: Uint8Array): void {
  const mask = cache.mask[slot] as number;
  for (let sector = 0; sector < 8; sector++) {
    if ((mask & (1 << sector)) !== 0) continue;
    const start = sector * 512;
    cache.slab.set(base.subarray(start, start + 512), slot * BLOCK_SIZE + start);
  }
  cache.mask[slot] = MASK_FULL;
}
