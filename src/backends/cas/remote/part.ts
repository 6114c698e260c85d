/**
 * A part: a stretch of whole records of one segment, as it is kept in a blob.
 *
 *     | the bytes of the segment | the heads of its records: header, entries, inline data;
 *                                  each padded with zeroes to a multiple of 64 |
 *
 * The heads, a fiftieth of the rest, are what must be known of a segment whose frames stay away.
 */
import type { CasEngine } from '../../../native.ts';
import { alignUp, ENTRY_SIZE, RECORD_HEADER_SIZE, readRecordHeader } from '../format.ts';
import type { Segment } from '../segments.ts';
import type { Part } from './journal.ts';

/** A part is cut before it is larger. */
const PART_BYTES_MAX = 16 << 20;
const HEAD_ALIGNMENT = 64;
const VALID = -1;

export interface MadePart {
  readonly part: Part;
  readonly bytes: Uint8Array;
}

/**
 * Reads records from byte `from` up to `end` at most, and checks that they are what they should
 * be: nothing damaged leaves this machine.
 *
 * @throws when they are not
 */
export async function makePart(
  { engine, store }: { readonly engine: CasEngine; readonly store: Uint8Array },
  segment: Segment,
  from: number,
  end: number,
  epoch: number,
): Promise<MadePart> {
  const bytes = new Uint8Array(Math.min(end - from, PART_BYTES_MAX));
  await segment.file.read(bytes, from);
  const heads: Uint8Array[] = [];
  let headBytes = 0;
  let length = 0;
  while (length < bytes.length) {
    const rest = bytes.subarray(length);
    const header = readRecordHeader(rest, store);
    const isPlaced = header?.segment === segment.number && header.offset === from + length;
    if (header === undefined || !isPlaced) throw damaged(segment, from + length);
    if (header.length > rest.length) break;
    const { entryCount, inlineLength } = header;
    const head = rest.subarray(0, RECORD_HEADER_SIZE + entryCount * ENTRY_SIZE + inlineLength);
    if (engine.check(head, false) !== VALID) throw damaged(segment, from + length);
    heads.push(head);
    headBytes += alignUp(head.length, HEAD_ALIGNMENT);
    length += header.length;
  }
  if (length === 0) throw damaged(segment, from);
  const blob = new Uint8Array(length + headBytes);
  blob.set(bytes.subarray(0, length));
  let at = length;
  for (const head of heads) {
    blob.set(head, at);
    at += alignUp(head.length, HEAD_ALIGNMENT);
  }
  return { part: [from, from + length, epoch, headBytes], bytes: blob };
}

function damaged({ number }: Segment, offset: number): Error {
  return new Error(`segment ${number} is damaged at byte ${offset}: it cannot be stored`);
}
