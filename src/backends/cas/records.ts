/** Reads records of segments and checks them. */
import type { CasEngine } from '../../native.ts';
import {
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  HEAD_BYTES_MAX,
  headLength,
  hexOf,
  RECORD_ALIGNMENT,
  type RecordHeader,
  readRecordHeader,
  SEGMENT_BYTES_MAX,
  VALID,
} from './format.ts';
import type { Segment } from './segments.ts';

/** Read at once when heads are wanted that lie close to each other, or far apart. */
const NEAR_AHEAD_BYTES = 1 << 20;
const FAR_AHEAD_BYTES = 32 << 10;

export interface RecordParts {
  readonly engine: CasEngine;
  /** The store's UUID. */
  readonly store: Uint8Array;
}

/** A record as it was read; `bytes` holds all of it when frames were asked for. */
export interface FoundRecord {
  readonly header: RecordHeader;
  readonly bytes: Uint8Array;
}

/**
 * Reads the record at `offset`, but for its frames.
 *
 * @returns undefined when there is none, or none that is whole
 */
export function readRecord(
  parts: RecordParts,
  segment: Segment,
  offset: number,
): Promise<FoundRecord | undefined> {
  return new RecordScanner(parts, segment, false).read(offset, RECORD_ALIGNMENT);
}

/**
 * The records of a segment from byte `start` on, but for their frames; the offset of the first one
 * that is damaged ends it. The bytes of a record are valid until the next one is asked for.
 */
export async function* recordsOf(
  parts: RecordParts,
  segment: Segment,
  end: number,
  start = 0,
): AsyncGenerator<FoundRecord | number> {
  const scanner = new RecordScanner(parts, segment, false);
  let aheadBytes = aheadOfHeads();
  for (let offset = start; offset < end; ) {
    const found = await scanner.read(offset, Math.min(aheadBytes, end - offset));
    if (found === undefined) {
      yield offset;
      return;
    }
    yield found;
    const { length } = found.header;
    aheadBytes = aheadOfHeads(length);
    offset += length;
  }
}

/** What to read at once when heads are wanted, behind a record of this length. */
export function aheadOfHeads(length = FAR_AHEAD_BYTES): number {
  return length < FAR_AHEAD_BYTES ? NEAR_AHEAD_BYTES : FAR_AHEAD_BYTES;
}

/** For a part of a disk that cannot be read: a power cut may leave one so until it is written. */
export function unlessUnreadable(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
}

/** What was read of the disk for a record of which no frames were asked for. */
export function bytesRead({ header }: FoundRecord): number {
  return Math.min(header.length, FAR_AHEAD_BYTES);
}

/** The hashes of the frames of a record, of its entries from `first` on. */
export function frameHashes({ header, bytes }: FoundRecord, first = 0): string[] {
  const hashes: string[] = [];
  const words = entryWords(bytes, header.entryCount);
  for (let at = first * ENTRY_WORDS; at < words.length; at += ENTRY_WORDS) {
    const kind = words[at + EntryWord.kind];
    if (kind !== EntryKind.block && kind !== EntryKind.node) continue;
    hashes.push(hexOf(words, at + EntryWord.hash));
  }
  return hashes;
}

/** Does a header say that its record stands at this place? */
export function isAt(header: RecordHeader, segment: Segment, offset: number): boolean {
  return header.segment === segment.number && header.offset === offset;
}

/** Memory for one record after another: new memory for each takes longer than to read it. */
export class RecordMemory {
  #bytes = new Uint8Array(0);

  /** @returns `length` bytes, valid until the next call */
  take(length: number): Uint8Array<ArrayBuffer> {
    if (this.#bytes.length < length) this.#bytes = new Uint8Array(length);
    return this.#bytes.subarray(0, length);
  }

  /** Reads a whole record. @returns its bytes, valid until the next call */
  async read({ file }: Segment, { offset, length }: RecordHeader): Promise<Uint8Array> {
    const bytes = this.take(length);
    const count = await file.read(bytes, offset);
    // What was here before must not pass for what the file lacks.
    bytes.fill(0, count);
    return bytes;
  }
}

/** Reads the records of one segment in ascending order, many with one read. */
export class RecordScanner {
  readonly #parts: RecordParts;
  readonly #segment: Segment;
  readonly #frames: boolean;
  readonly #memory: RecordMemory;
  #chunk = new Uint8Array(0);
  #chunkStart = 0;
  #chunkLength = 0;
  /** Not where that has met what cannot be read: a disk tries that for seconds. */
  #mayReadAhead = true;

  /**
   * @param frames verify each frame, too
   * @param memory of nobody else until this is done
   */
  constructor(
    parts: RecordParts,
    segment: Segment,
    frames: boolean,
    memory: RecordMemory = new RecordMemory(),
  ) {
    this.#memory = memory;
    this.#parts = parts;
    this.#segment = segment;
    this.#frames = frames;
  }

  /**
   * Reads the record at `offset`; its bytes are valid until the next call.
   *
   * @param aheadBytes worth reading at once when a read is needed
   * @returns undefined when there is none, or none that is whole
   */
  async read(offset: number, aheadBytes: number): Promise<FoundRecord | undefined> {
    const head =
      this.#heldBytes(offset, RECORD_ALIGNMENT) ??
      (await this.#fetched(offset, RECORD_ALIGNMENT, aheadBytes));
    const header = head && this.#headerIn(head, offset);
    if (header === undefined) return undefined;
    const wanted = this.#wantedOf(header);
    const bytes =
      this.#heldBytes(offset, wanted) ?? (await this.#fetched(offset, wanted, aheadBytes));
    return bytes && this.#check(header, bytes);
  }

  /** The same, if it is in what was read before. */
  held(offset: number): FoundRecord | undefined {
    const head = this.#heldBytes(offset, RECORD_ALIGNMENT);
    const header = head && this.#headerIn(head, offset);
    const bytes = header && this.#heldBytes(offset, this.#wantedOf(header));
    return bytes && this.#check(header, bytes);
  }

  #headerIn(head: Uint8Array, offset: number): RecordHeader | undefined {
    const header = readRecordHeader(head, this.#parts.store);
    if (header === undefined || !isAt(header, this.#segment, offset)) return undefined;
    const { length, inlineLength } = header;
    const headBytes = headLength(header);
    if (headBytes > length || length % RECORD_ALIGNMENT !== 0) return undefined;
    if (length > SEGMENT_BYTES_MAX) return undefined;
    if (inlineLength === 0 && headBytes > HEAD_BYTES_MAX) return undefined;
    return header;
  }

  #wantedOf(header: RecordHeader): number {
    const isWhole = this.#frames || header.inlineLength > 0;
    return isWhole ? header.length : headLength(header);
  }

  #check(header: RecordHeader, bytes: Uint8Array): FoundRecord | undefined {
    return this.#parts.engine.check(bytes, this.#frames) === VALID ? { header, bytes } : undefined;
  }

  /** Bytes of the segment's file, if they were read before. */
  #heldBytes(offset: number, length: number): Uint8Array | undefined {
    const start = offset - this.#chunkStart;
    if (start < 0 || start + length > this.#chunkLength) return undefined;
    return this.#chunk.subarray(start, start + length);
  }

  /** Reads bytes of the segment's file. @returns undefined when it ends before */
  async #fetched(
    offset: number,
    length: number,
    aheadBytes: number,
  ): Promise<Uint8Array | undefined> {
    const isAhead = this.#mayReadAhead && aheadBytes > length;
    await this.#fill(offset, isAhead ? aheadBytes : length).catch((error) => {
      if (!isAhead) throw error;
      // What is behind may never have counted.
      unlessUnreadable(error);
      this.#mayReadAhead = false;
      return this.#fill(offset, length);
    });
    return this.#heldBytes(offset, length);
  }

  async #fill(offset: number, length: number): Promise<void> {
    this.#chunk = this.#memory.take(length);
    this.#chunkStart = offset;
    this.#chunkLength = 0;
    this.#chunkLength = await this.#segment.file.read(this.#chunk, offset);
  }
}
