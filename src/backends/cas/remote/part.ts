/**
 * A part: a stretch of whole records of one segment, as it is kept in a blob.
 *
 *     | the bytes of the segment | the heads of its records: header, entries, inline data;
 *                                  each padded with zeroes to a multiple of 64 |
 *
 * The heads, a fiftieth of the rest, are what must be known of a segment whose frames stay away.
 */
import {
  alignUp,
  headLength,
  RECORD_HEADER_SIZE,
  type RecordHeader,
  readRecordHeader,
  VALID,
} from '../format.ts';
import type { RecordParts } from '../records.ts';
import type { Segment } from '../segments.ts';
import type { Part } from './journal-entry.ts';

/** A part is cut before it is larger: it is what a read fetches that misses on this disk. */
const PART_BYTES_MAX = 4 << 20;
const HEAD_ALIGNMENT = 64;

export interface MadePart {
  readonly part: Part;
  readonly bytes: Uint8Array;
}

/** What is to be stored is damaged on this disk, or cannot be read from it. */
export class LocalDamageError extends Error {
  readonly code = 'AOE_CAS_LOCAL_DAMAGE';
  readonly segment: number;
  /** Of the record, in bytes. */
  readonly offset: number;

  constructor(segment: number, offset: number, cause?: Error) {
    const what = cause === undefined ? 'is damaged' : `cannot be read (${cause.message})`;
    super(
      `segment ${segment} ${what} at byte ${offset} on the local disk and cannot be stored: ` +
        'aoe-server cas scrub tells what that affects',
      { cause },
    );
    this.name = 'LocalDamageError';
    this.segment = segment;
    this.offset = offset;
  }
}

/**
 * Reads records from byte `from` up to `end` at most, and verifies them, frames included, on a
 * worker thread: nothing damaged leaves this machine. A damaged record ends the part before it.
 *
 * @throws {LocalDamageError} the first record is damaged, or they cannot be read
 */
export async function makePart(
  { engine, store }: RecordParts,
  { number, file }: Segment,
  from: number,
  end: number,
  epoch: number,
): Promise<MadePart> {
  const read = async (sizeBytes: number) => {
    const wanted = new Uint8Array(Math.min(end - from, sizeBytes));
    await file.read(wanted, from).catch((error: Error) => {
      throw new LocalDamageError(number, from, error);
    });
    return wanted;
  };
  let bytes = await read(PART_BYTES_MAX);
  const first = readRecordHeader(bytes, store);
  // The catalog of a store with very many segments.
  if (first !== undefined && first.length > bytes.length) bytes = await read(first.length);
  const heads: Uint8Array[] = [];
  let headBytes = 0;
  let length = 0;
  for (const { record, header } of recordsIn(bytes, store, number, from)) {
    if ((await engine.verify(record)) !== VALID) break;
    const head = record.subarray(0, headLength(header));
    heads.push(head);
    headBytes += alignUp(head.length, HEAD_ALIGNMENT);
    length += record.length;
  }
  if (length === 0) throw new LocalDamageError(number, from);
  const blob = new Uint8Array(length + headBytes);
  blob.set(bytes.subarray(0, length));
  let at = length;
  for (const head of heads) {
    blob.set(head, at);
    at += alignUp(head.length, HEAD_ALIGNMENT);
  }
  return { part: [from, from + length, epoch, headBytes], bytes: blob };
}

/**
 * The records in bytes of a segment, as far as their headers look right; nothing else is checked.
 *
 * @param from of the first byte in the segment
 */
export function* recordsIn(
  bytes: Uint8Array,
  store: Uint8Array | undefined,
  segment: number,
  from: number,
): Generator<{ readonly record: Uint8Array; readonly header: RecordHeader }> {
  for (let at = 0; at + RECORD_HEADER_SIZE <= bytes.length; ) {
    const header = readRecordHeader(bytes.subarray(at), store);
    if (header?.segment !== segment || header.offset !== from + at) return;
    if (header.length === 0 || header.length > bytes.length - at) return;
    yield { record: bytes.subarray(at, at + header.length), header };
    at += header.length;
  }
}

/** Bytes of a segment, from one record's beginning to another's. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

/**
 * Compares a blob with what it should be.
 *
 * @returns what is wrong of its records; an empty list when that is the heads behind them only;
 *   undefined for nothing
 */
export async function verifyPart(
  { engine, store }: RecordParts,
  segment: number,
  [from, to, , headBytes]: Part,
  blob: Uint8Array,
): Promise<Stretch[] | undefined> {
  const damaged: Stretch[] = [];
  const heads = blob.subarray(to - from);
  let headsEnd = 0;
  let areHeadsRight = heads.length === headBytes;
  /** Records are right up to here, or up to the damage that begins here. */
  let end = from;
  for (const { record, header } of recordsIn(blob.subarray(0, to - from), store, segment, from)) {
    if ((await engine.verify(record)) !== VALID) continue;
    // A length that is damaged may have led past some.
    if (header.offset > end) damaged.push({ from: end, to: header.offset });
    end = header.offset + header.length;
    const length = headLength(header);
    const head = heads.subarray(headsEnd, headsEnd + length);
    areHeadsRight &&= Buffer.compare(head, record.subarray(0, length)) === 0;
    headsEnd += alignUp(length, HEAD_ALIGNMENT);
  }
  if (end < to) damaged.push({ from: end, to });
  return damaged.length === 0 && areHeadsRight ? undefined : damaged;
}

export interface FoundHead {
  readonly head: Uint8Array;
  /** Of the record in the segment. */
  readonly offset: number;
  /** Of the record. */
  readonly length: number;
}

/** The heads of a part's records, from behind its bytes, up to one that is none. */
export function* headsIn(bytes: Uint8Array, store: Uint8Array): Generator<FoundHead> {
  for (let at = 0; at + RECORD_HEADER_SIZE <= bytes.length; ) {
    const header = readRecordHeader(bytes.subarray(at), store);
    if (header === undefined) return;
    const length = headLength(header);
    const head = bytes.subarray(at, at + length);
    yield { head, offset: header.offset, length: header.length };
    at += alignUp(length, HEAD_ALIGNMENT);
  }
}
