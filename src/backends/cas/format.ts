/**
 * The byte layout of log records and the superblock; docs/CAS-FORMAT.md is the description, and
 * native/cas/format.h the native side of it. Integers are little-endian.
 */

/** Of records; superblocks have their own, see {@link SUPERBLOCK_VERSIONS}. */
export const RECORD_VERSION = 1;
/** What a superblock may have; the last one is written. Version 1 knew no snapshot records. */
export const SUPERBLOCK_VERSIONS: readonly number[] = [1, 2];
export const BLOCK_SIZE = 4096;
/** Children of a tree node. */
export const FANOUT = 128;
export const HASH_WORDS = 8;
/** A node: 128 hashes, then 128 location hints of two words, as 32-bit words. */
export const NODE_WORDS = FANOUT * (HASH_WORDS + 2);
export const NODE_SIZE = NODE_WORDS * 4;
/** Where the hints begin in a node, in words. */
export const HINT_WORD = FANOUT * HASH_WORDS;

export const RECORD_ALIGNMENT = 4096;
export const RECORD_HEADER_SIZE = 128;
export const ENTRY_SIZE = 64;
export const ENTRY_WORDS = ENTRY_SIZE / 4;
export const ENTRIES_MAX = 256;
/** The most that the head of a record without inline data takes. */
export const HEAD_BYTES_MAX = RECORD_HEADER_SIZE + ENTRIES_MAX * ENTRY_SIZE;
export const SEGMENT_BYTES_MAX = 64 << 20;
const RECORD_MAGIC = 0x52434f41;

export const RecordType = { data: 1, node: 2, moved: 3, catalog: 4, snapshot: 5 } as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** Is a record of this type a part of the log? */
export function isLogType(type: number): boolean {
  return type === RecordType.data || type === RecordType.snapshot;
}

export const EntryKind = { block: 1, duplicate: 2, zero: 3, trim: 4, node: 5 } as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/** Words of an entry. */
export const EntryWord = {
  kind: 0,
  volume: 1,
  lbaLow: 2,
  lbaHigh: 3,
  hash: 4,
  segment: 12,
  place: 13,
  count: 14,
} as const;

/** Numbers of {@link CasEngine.hash}. */
export const HashDomain = { block: 0, node: 1, record: 2 } as const;
/** What {@link CasEngine.check} and {@link CasEngine.verify} return for a record that is right. */
export const VALID = -1;

/** What a record's header says; `offset` in bytes. */
export interface RecordHeader {
  readonly type: RecordType;
  readonly segment: number;
  readonly offset: number;
  readonly sequence: number;
  /** How often the store had been opened when this was written. */
  readonly epoch: number;
  /** Records of the stream below this sequence were durable when this was written. */
  readonly durableSequence: number;
  readonly entryCount: number;
  /** Of the whole record, in bytes. */
  readonly length: number;
  /** Bytes after the entries that the checksum covers. */
  readonly inlineLength: number;
}

type WrittenHeader = Omit<RecordHeader, 'entryCount' | 'length' | 'inlineLength'>;

/** Fills in a header but for counts, lengths and checksum. `store` is the store's UUID. */
export function writeRecordHeader(
  record: Uint8Array,
  store: Uint8Array,
  header: WrittenHeader,
): void {
  record.fill(0, 0, RECORD_HEADER_SIZE);
  const view = viewOf(record);
  view.setUint32(0, RECORD_MAGIC, true);
  view.setUint16(4, RECORD_VERSION, true);
  view.setUint16(6, header.type, true);
  record.set(store, 8);
  view.setUint32(24, header.segment, true);
  view.setUint32(28, header.offset / RECORD_ALIGNMENT, true);
  setUint53(view, 32, header.sequence);
  setUint53(view, 40, header.epoch);
  setUint53(view, 48, header.durableSequence);
}

/**
 * Completes a record that has inline data and no entries, but for its checksum.
 *
 * @returns its length
 */
export function writeInlineData(record: Uint8Array, data: Uint8Array): number {
  const length = inlineRecordSize(data);
  const view = viewOf(record);
  view.setUint32(60, length, true);
  view.setUint32(64, data.length, true);
  record.set(data, RECORD_HEADER_SIZE);
  record.fill(0, RECORD_HEADER_SIZE + data.length, length);
  return length;
}

/** What a record takes that has inline data and no entries. */
export function inlineRecordSize(data: Uint8Array): number {
  return alignUp(RECORD_HEADER_SIZE + data.length, RECORD_ALIGNMENT);
}

/** The inline data of a record without entries, as text. */
export function inlineText(record: Uint8Array, { inlineLength }: RecordHeader): string {
  const data = record.subarray(RECORD_HEADER_SIZE, RECORD_HEADER_SIZE + inlineLength);
  return new TextDecoder().decode(data);
}

/** Bytes of a record's head: header, entries and inline data, which its checksum covers. */
export function headLength({ entryCount, inlineLength }: RecordHeader): number {
  return RECORD_HEADER_SIZE + entryCount * ENTRY_SIZE + inlineLength;
}

/** Reads a header without judging it, but for the magic and the store. */
export function readRecordHeader(
  record: Uint8Array,
  store: Uint8Array | undefined,
): RecordHeader | undefined {
  const view = viewOf(record);
  if (view.getUint32(0, true) !== RECORD_MAGIC) return undefined;
  if (view.getUint16(4, true) !== RECORD_VERSION) return undefined;
  if (store?.some((byte, index) => record[8 + index] !== byte)) return undefined;
  return {
    type: view.getUint16(6, true) as RecordType,
    segment: view.getUint32(24, true),
    offset: view.getUint32(28, true) * RECORD_ALIGNMENT,
    sequence: getUint53(view, 32),
    epoch: getUint53(view, 40),
    durableSequence: getUint53(view, 48),
    entryCount: view.getUint32(56, true),
    length: view.getUint32(60, true),
    inlineLength: view.getUint32(64, true),
  };
}

/** The entries of a record as words; `record` must be aligned to 4 bytes. */
export function entryWords(record: Uint8Array, count: number): Uint32Array {
  const offset = record.byteOffset + RECORD_HEADER_SIZE;
  return new Uint32Array(record.buffer, offset, count * ENTRY_WORDS);
}

/** The most that a record of `count` frames of `rawSize` bytes can take. */
export function recordSizeMax(count: number, rawSize: number): number {
  return alignUp(RECORD_HEADER_SIZE + count * (ENTRY_SIZE + rawSize), RECORD_ALIGNMENT);
}

/** Where a frame begins in its segment, by its place. */
export function frameOffset(place: number): number {
  return Math.floor(place / 512) * 16;
}

/** How many bytes a frame takes in its segment. */
export function storedSize(place: number): number {
  return (place & 511) * 16;
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function setUint53(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

export function getUint53(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

export function hexOf(words: Uint32Array, index: number): string {
  const bytes = new Uint8Array(words.buffer, words.byteOffset + index * 4, HASH_WORDS * 4);
  return Buffer.from(bytes).toString('hex');
}

/** @returns a hash's words */
export function wordsOfHex(hex: string): Uint32Array {
  const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
  return new Uint32Array(bytes.buffer);
}
