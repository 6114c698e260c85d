/** Examines segments: that records follow each other, and everything that each one holds. */
import {
  EntryKind,
  HEAD_BYTES_MAX,
  RECORD_ALIGNMENT,
  RECORD_HEADER_SIZE,
  RecordType,
} from '../format.ts';
import type { Findings } from './findings.ts';
import { contentOf, restoreFrame } from './frame.ts';
import type { FrameTaker, Inventory } from './inventory.ts';
import { CUT_OFF, frameExtent, parseRecord, type ReadEntry, type ReadRecord } from './record.ts';
import type { SegmentSource, StoreDirectory } from './store-directory.ts';
import type { ReadCatalog, SuperblockCopy } from './superblock.ts';

export interface ExamineParts {
  readonly directory: StoreDirectory;
  readonly superblock: SuperblockCopy;
  readonly catalog: ReadCatalog;
  readonly inventory: Inventory;
  readonly findings: Findings;
  /** Holes may stand for frames that are in a blob store only. */
  readonly isPartial: boolean;
  /** Bytes of segments that were examined. */
  onProgress(bytes: number): void;
}

/** What is wrong with a record that nobody can know. */
export const UNREADABLE = 'cannot be read';

type ListedSegment = ReadCatalog['segments'][number];

const TYPES_OF_STREAM = {
  data: [RecordType.data, RecordType.snapshot],
  node: [RecordType.node, RecordType.catalog],
  moved: [RecordType.moved],
};

/** Examines what the catalog says that a segment holds. */
export async function examineSegment(parts: ExamineParts, listed: ListedSegment): Promise<void> {
  const { findings, superblock } = parts;
  const { number, usedBytes } = listed;
  let [offset, sequence, epoch] = [0, 0, 0];
  while (offset < usedBytes) {
    const found = await readRecord(parts, number, offset, usedBytes);
    if (typeof found === 'string') {
      const next = await findNext(parts, number, offset, usedBytes);
      const extent = `segment ${number}, bytes ${offset} to ${next - 1}`;
      findings.add('segment', `${extent}: the record there ${found}`);
      parts.onProgress(next - offset);
      [offset, sequence] = [next, 0];
      continue;
    }
    const { record, bytes } = found;
    const complain = (problem: string) =>
      findings.add('segment', `segment ${number}, record at ${offset}: ${problem}`);
    if (sequence !== 0 && record.sequence !== sequence) complain('its sequence has a gap');
    if (record.epoch < epoch || record.epoch > superblock.epoch) complain('its epoch is wrong');
    const types: readonly number[] = TYPES_OF_STREAM[listed.stream];
    if (!types.includes(record.type)) complain(`its type ${record.type} is wrong`);
    examineContent(parts, number, offset, record, bytes);
    parts.onProgress(record.length);
    offset += record.length;
    [sequence, epoch] = [record.sequence + 1, record.epoch];
  }
}

/** Where records are read. */
export interface RecordSource {
  readonly directory: SegmentSource;
  readonly superblock: SuperblockCopy;
}

/** A whole record. @returns what is wrong with it */
export async function readRecord(
  { directory, superblock: { store } }: RecordSource,
  segment: number,
  offset: number,
  end: number,
): Promise<{ readonly record: ReadRecord; readonly bytes: Buffer } | string> {
  const head = await directory.readSegment(segment, offset, Math.min(HEAD_BYTES_MAX, end - offset));
  const why = async (problem: string, length: number) =>
    (await directory.isUnreadable?.(segment, offset, length)) ? UNREADABLE : problem;
  if (head.length < RECORD_HEADER_SIZE) return why('is none', RECORD_HEADER_SIZE);
  const length = head.readUInt32LE(60);
  if (length === 0 || length > end - offset) return 'is none';
  const bytes = await directory.readSegment(segment, offset, length);
  const record = parseRecord(bytes, store, segment, offset);
  if (typeof record !== 'string' && bytes.length === length) return { record, bytes };
  if (typeof record === 'string' && record !== CUT_OFF) return record;
  return why(CUT_OFF, length);
}

/** Where the first whole record behind `offset` begins; `end` when there is none. */
export async function findNext(
  parts: RecordSource,
  segment: number,
  offset: number,
  end: number,
): Promise<number> {
  for (let next = offset + RECORD_ALIGNMENT; next < end; next += RECORD_ALIGNMENT) {
    if (typeof (await readRecord(parts, segment, next, end)) !== 'string') return next;
  }
  return end;
}

/** What becomes of frames that were examined. */
export interface ContentParts {
  readonly inventory: FrameTaker;
  readonly findings: Findings;
  /** Holes may stand for frames that are elsewhere. */
  readonly isPartial: boolean;
}

/**
 * Verifies frames and what is around them, and takes up what is intact.
 *
 * @returns whether all frames are right
 */
export function examineContent(
  { isPartial, findings, inventory }: ContentParts,
  segment: number,
  offset: number,
  record: ReadRecord,
  bytes: Buffer,
): boolean {
  const at = `segment ${segment}, record at ${offset}`;
  const covered: { readonly start: number; readonly end: number }[] = [];
  let intact = true;
  for (const [index, entry] of record.entries.entries()) {
    const problem = examineEntry(segment, entry);
    if (problem !== undefined) findings.add('segment', `${at}, entry ${index}: ${problem}`);
    const content = contentOf(entry.kind);
    if (content === undefined) continue;
    const frame = frameExtent(entry.place);
    const start = frame.offset - offset;
    const end = start + frame.size;
    const isInside = start >= record.inlineEnd && end <= record.length && entry.segment === segment;
    const raw = isInside && restoreFrame(bytes.subarray(start, end), content, entry.hash);
    if (raw) {
      const isMoved = record.type === RecordType.moved;
      inventory.add(content, entry.hash, segment, entry.place, isMoved);
    } else if (isPartial && isInside && isHole(bytes, start, end, record.inlineEnd)) {
      inventory.addAbsent(content, entry.hash);
    } else {
      intact = false;
      const hash = entry.hash.toString('hex');
      findings.add('segment', `${at}, byte ${frame.offset}: ${content} ${hash} is damaged`, {
        hash,
      });
    }
    if (isInside) covered.push({ start, end });
  }
  if (!isZeroOutside(bytes, record.inlineEnd, covered)) {
    findings.add('segment', `${at}: there is something between or behind its frames`);
  }
  return intact;
}

/** @returns what is wrong with the entry itself */
function examineEntry(segment: number, entry: ReadEntry): string | undefined {
  const { kind, hash, count } = entry;
  const isZero = hash.every((byte) => byte === 0);
  switch (kind) {
    case EntryKind.block:
    case EntryKind.node:
      return entry.segment === segment ? undefined : 'its frame is in another segment';
    case EntryKind.duplicate:
      return isZero ? 'a duplicate of zeroes' : undefined;
    case EntryKind.zero:
      return isZero && count === 1 ? undefined : 'zeroes with a hash or of more than one block';
    case EntryKind.trim:
      return isZero ? undefined : 'a trim with a hash';
    default:
      return `its kind ${kind} is unknown`;
  }
}

/** Is there nothing of a frame behind the page in which the head of its record ends? */
function isHole(bytes: Buffer, start: number, end: number, headEnd: number): boolean {
  const pageEnd = Math.ceil(headEnd / RECORD_ALIGNMENT) * RECORD_ALIGNMENT;
  const from = Math.max(start, pageEnd);
  return from < end && bytes.subarray(from, end).every((byte) => byte === 0);
}

function isZeroOutside(
  bytes: Buffer,
  from: number,
  covered: readonly { readonly start: number; readonly end: number }[],
): boolean {
  let at = from;
  for (const { start, end } of covered.toSorted((a, b) => a.start - b.start)) {
    if (bytes.subarray(at, start).some((byte) => byte !== 0)) return false;
    at = Math.max(at, end);
  }
  return !bytes.subarray(at).some((byte) => byte !== 0);
}
