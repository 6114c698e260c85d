/** Takes records apart, trusting nothing: every number is checked before it is used. */
import {
  ENTRIES_MAX,
  ENTRY_SIZE,
  RECORD_ALIGNMENT,
  RECORD_HEADER_SIZE,
  RECORD_VERSION,
} from '../format.ts';
import { CHECKSUM_START, checksumOf } from './hash.ts';

const MAGIC = 0x52434f41;

export interface ReadEntry {
  readonly kind: number;
  readonly volume: number;
  readonly lba: number;
  readonly hash: Buffer;
  readonly segment: number;
  readonly place: number;
  readonly count: number;
}

export interface ReadRecord {
  readonly type: number;
  readonly sequence: number;
  readonly epoch: number;
  readonly durableSequence: number;
  readonly length: number;
  readonly entries: readonly ReadEntry[];
  readonly inlineEnd: number;
  readonly inlineText: string;
}

/** What is wrong with a record of which only the beginning was read. */
export const CUT_OFF = 'is cut off';

/**
 * @param bytes from the start of the record on; frames need not be among them
 * @param offset of the record in its segment
 * @returns what is wrong
 */
export function parseRecord(
  bytes: Buffer,
  store: Buffer,
  segment: number,
  offset: number,
): ReadRecord | string {
  if (bytes.length < RECORD_HEADER_SIZE) return 'is missing';
  if (bytes.readUInt32LE(0) !== MAGIC) return 'is none';
  if (bytes.readUInt16LE(4) !== RECORD_VERSION) return `has version ${bytes.readUInt16LE(4)}`;
  if (!bytes.subarray(8, 24).equals(store)) return 'belongs to another store';
  if (bytes.readUInt32LE(24) !== segment) return 'belongs to another segment';
  if (bytes.readUInt32LE(28) * RECORD_ALIGNMENT !== offset) return 'belongs elsewhere';
  const [entryCount, length] = [bytes.readUInt32LE(56), bytes.readUInt32LE(60)];
  const inlineStart = RECORD_HEADER_SIZE + entryCount * ENTRY_SIZE;
  const inlineEnd = inlineStart + bytes.readUInt32LE(64);
  if (entryCount > ENTRIES_MAX || length % RECORD_ALIGNMENT !== 0 || inlineEnd > length) {
    return 'has lengths that do not fit';
  }
  if (inlineEnd > bytes.length) return CUT_OFF;
  const stored = bytes.subarray(CHECKSUM_START, RECORD_HEADER_SIZE);
  if (!stored.equals(checksumOf(bytes.subarray(0, inlineEnd)))) return 'has a wrong checksum';
  return {
    type: bytes.readUInt16LE(6),
    sequence: Number(bytes.readBigUInt64LE(32)),
    epoch: Number(bytes.readBigUInt64LE(40)),
    durableSequence: Number(bytes.readBigUInt64LE(48)),
    length,
    entries: Array.from({ length: entryCount }, (_, index) =>
      parseEntry(bytes.subarray(RECORD_HEADER_SIZE + index * ENTRY_SIZE)),
    ),
    inlineEnd,
    inlineText: bytes.toString('utf8', inlineStart, inlineEnd),
  };
}

function parseEntry(bytes: Buffer): ReadEntry {
  return {
    kind: bytes.readUInt32LE(0),
    volume: bytes.readUInt32LE(4),
    lba: Number(bytes.readBigUInt64LE(8)),
    hash: Buffer.from(bytes.subarray(16, 48)),
    segment: bytes.readUInt32LE(48),
    place: bytes.readUInt32LE(52),
    count: bytes.readUInt32LE(56),
  };
}

/** Where the frame of an entry lies in its segment. */
export function frameExtent(place: number): { readonly offset: number; readonly size: number } {
  return { offset: Math.floor(place / 512) * 16, size: (place % 512) * 16 };
}
