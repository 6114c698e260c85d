/**
 * A stream of records: where the next one goes, and what of it is durable. The data stream is the
 * log: it is replayed after a crash. The streams of nodes and of moved frames are not; what counts
 * of them is named by a catalog.
 *
 * Invariants:
 * - Records are numbered without a gap and written in that order.
 * - Everything before a segment's first record is durable before that record is written.
 */
import { RecordType, writeRecordHeader } from './format.ts';
import type { Segment, Segments, StreamName } from './segments.ts';

/** Synced at the latest after so much: a larger sync would hold up those of clients. */
const UNSYNCED_BYTES_MAX = 4 << 20;

/** Where a stream ends. */
export interface StreamPosition {
  /** 0: no segment yet. */
  readonly segment: number;
  readonly offset: number;
  /** Of the next record. */
  readonly sequence: number;
}

export interface RecordPlace {
  readonly segment: Segment;
  readonly offset: number;
  readonly sequence: number;
}

export class RecordStream {
  readonly name: StreamName;
  /** The sequence of the next record. */
  sequence: number;
  #durable: StreamPosition;
  readonly #segments: Segments;
  readonly #identity: { readonly store: Uint8Array; readonly epoch: number };
  readonly #onBroken: (error: Error) => void;
  #segment: Segment | undefined;
  /** The record that {@link write} writes, or wrote last. */
  #writing: Promise<void> = Promise.resolve();

  /**
   * @param end where the stream ended when the store was last open
   * @param onBroken called when what is behind could not be found any more: nothing may follow
   */
  constructor(
    name: StreamName,
    segments: Segments,
    identity: { readonly store: Uint8Array; readonly epoch: number },
    end: StreamPosition,
    onBroken: (error: Error) => void,
  ) {
    this.name = name;
    this.#segments = segments;
    this.#identity = identity;
    this.#onBroken = onBroken;
    this.sequence = end.sequence;
    this.#durable = end;
    this.#segment = segments.table.get(end.segment);
    if (this.#segment !== undefined) this.#segment.usedBytes = end.offset;
  }

  get segment(): Segment | undefined {
    return this.#segment;
  }

  /** Up to here everything is durable. */
  get durable(): StreamPosition {
    return this.#durable;
  }

  /** Records below this sequence are durable. */
  get durableSequence(): number {
    return this.#durable.sequence;
  }

  get position(): StreamPosition {
    return {
      segment: this.#segment?.number ?? 0,
      offset: this.#segment?.usedBytes ?? 0,
      sequence: this.sequence,
    };
  }

  /** Bytes of a segment that are durable: of one that this stream still fills, what was synced. */
  durableBytesOf(segment: Segment): number {
    if (this.#segment !== segment) return segment.usedBytes;
    return this.#durable.segment === segment.number ? this.#durable.offset : 0;
  }

  /**
   * Makes the end durable that was found when the store was opened: a server that was killed may
   * not have synced it. Nothing may rely on it before.
   */
  async syncFound(): Promise<void> {
    await this.#segment?.file.sync();
  }

  /** Bytes left in the current segment; none when there is no segment yet. */
  get roomBytes(): number {
    if (this.#segment === undefined) return 0;
    return this.#segments.segmentBytes - this.#segment.usedBytes;
  }

  /** Is there room for a record of `sizeBytes`? */
  fits(sizeBytes: number): boolean {
    return this.roomBytes >= sizeBytes;
  }

  /** Goes on to a new segment. All records so far must have been written. */
  async advance(): Promise<void> {
    await this.sync();
    const next = await this.#segments.activate(this.name);
    if (this.#segment !== undefined) this.#segment.sealed = true;
    this.#segment = next;
  }

  /** Prepares the header of the next record. */
  prepare(record: Uint8Array, type: RecordType = DEFAULT_TYPES[this.name]): void {
    const segment = this.#segment as Segment;
    writeRecordHeader(record, this.#identity.store, {
      type,
      segment: segment.number,
      offset: segment.usedBytes,
      sequence: this.sequence,
      epoch: this.#identity.epoch,
      durableSequence: this.durableSequence,
    });
  }

  /**
   * Takes up a finished record of `length` bytes: the next one follows it.
   *
   * @returns where to write it
   */
  append(length: number): RecordPlace {
    const segment = this.#segment as Segment;
    const offset = segment.usedBytes;
    segment.usedBytes += length;
    return { segment, offset, sequence: this.sequence++ };
  }

  /**
   * Takes up a finished record, and writes it, when those before it are written.
   *
   * @throws the disk's error; the stream is broken then
   */
  async write(record: Uint8Array, length: number, mustSync = false): Promise<RecordPlace> {
    const place = this.append(length);
    const { segment, offset } = place;
    const unsyncedBytes = segment.usedBytes - this.durableBytesOf(segment);
    const sync = mustSync || unsyncedBytes >= UNSYNCED_BYTES_MAX;
    const { position } = this;
    this.#writing = segment.file.write(record, length, offset, sync);
    await this.#orBreak(this.#writing);
    if (sync) this.confirm(position);
    return place;
  }

  /** Makes everything written so far durable. @throws the disk's error; the stream is broken then */
  async sync(): Promise<void> {
    if (this.durableSequence === this.sequence || this.#segment === undefined) return;
    const { position } = this;
    const { file } = this.#segment;
    // A sync that starts while a record is being written may miss it: another one may be at that.
    await this.#orBreak(this.#writing.then(() => file.sync()));
    this.confirm(position);
  }

  async #orBreak(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#onBroken(error as Error);
      throw error;
    }
  }

  /** Tells that everything before a position is durable. */
  confirm(position: StreamPosition): void {
    if (position.sequence > this.#durable.sequence) this.#durable = position;
  }
}

const DEFAULT_TYPES: Readonly<Record<StreamName, RecordType>> = {
  data: RecordType.data,
  node: RecordType.node,
  moved: RecordType.moved,
};
