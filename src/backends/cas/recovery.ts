/**
 * Brings a store back to the state after the last durable record of its log.
 *
 * The log is replayed from where the newest checkpoint took it up: records must follow each other
 * without a gap in their sequence, and epochs must not decrease. The first one that is missing or
 * damaged ends the log. That is a torn tail, and nothing that was promised is lost, unless a later
 * record or segment shows that more had been durable: then it is corruption, which is reported,
 * and the store is for reading only.
 *
 * Nothing on disk is changed here.
 */
import type { CasEngine } from '../../native.ts';
import {
  ENTRIES_MAX,
  ENTRY_SIZE,
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  RECORD_ALIGNMENT,
  RECORD_HEADER_SIZE,
  type RecordHeader,
  RecordType,
  readRecordHeader,
} from './format.ts';
import type { Segment, Segments } from './segments.ts';
import type { StreamPosition } from './stream.ts';
import type { Volume } from './volume.ts';

const VALID = -1;
const SCAN_BYTES = 1 << 20;
const HEAD_BYTES_MAX = RECORD_HEADER_SIZE + ENTRIES_MAX * ENTRY_SIZE;

export interface RecoveryParts {
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly store: Uint8Array;
  readonly volumes: ReadonlyMap<number, Volume>;
}

/** A record as it was read; `bytes` holds all of it when frames were asked for. */
export interface FoundRecord {
  readonly header: RecordHeader;
  readonly bytes: Uint8Array;
}

export interface Recovered {
  /** Where the log ends. */
  readonly end: StreamPosition;
  /** What is wrong with the log, for people. */
  readonly problems: readonly string[];
}

/**
 * Reads the record at `offset`.
 *
 * @param frames verify each frame, too
 * @returns undefined when there is none, or none that is whole
 */
export async function readRecord(
  parts: Pick<RecoveryParts, 'engine' | 'store'>,
  segment: Segment,
  offset: number,
  frames: boolean,
): Promise<FoundRecord | undefined> {
  const head = new Uint8Array(RECORD_ALIGNMENT);
  if ((await segment.file.read(head, offset)) < head.length) return undefined;
  const header = readRecordHeader(head, parts.store);
  if (header === undefined || header.segment !== segment.number || header.offset !== offset) {
    return undefined;
  }
  const described = RECORD_HEADER_SIZE + header.entryCount * ENTRY_SIZE + header.inlineLength;
  const wanted = frames || header.inlineLength > 0 ? header.length : described;
  if (described > header.length || header.length % RECORD_ALIGNMENT !== 0) return undefined;
  if (header.inlineLength === 0 && described > HEAD_BYTES_MAX) return undefined;
  let bytes = head;
  if (wanted > head.length) {
    bytes = new Uint8Array(wanted);
    if ((await segment.file.read(bytes, offset)) < wanted) return undefined;
  }
  return parts.engine.check(bytes, frames) === VALID ? { header, bytes } : undefined;
}

/** Replays the log from `start` on into the volumes. `candidates` are later segments of the log. */
export async function replay(
  parts: RecoveryParts,
  start: StreamPosition,
  candidates: readonly Segment[],
): Promise<Recovered> {
  let segment = parts.segments.table.get(start.segment);
  let { offset, sequence } = start;
  let epoch = 0;
  const problems: string[] = [];
  for (;;) {
    const found = segment && (await readRecord(parts, segment, offset, true));
    if (segment && found && isNext(found.header, sequence, epoch)) {
      problems.push(...(await apply(parts, found)));
      parts.engine.addToIndex(found.bytes);
      offset += found.header.length;
      segment.usedBytes = offset;
      sequence++;
      epoch = found.header.epoch;
      continue;
    }
    const next = await findFirst(parts, candidates, (header) => header.sequence === sequence);
    if (next === undefined) break;
    if (segment !== undefined) segment.sealed = true;
    segment = next;
    offset = 0;
  }
  problems.push(...(await findLosses(parts, segment, offset, sequence, epoch, candidates)));
  return { end: { segment: segment?.number ?? 0, offset, sequence }, problems };
}

function isNext(header: RecordHeader, sequence: number, epoch: number): boolean {
  return header.type === RecordType.data && header.sequence === sequence && header.epoch >= epoch;
}

async function findFirst(
  parts: RecoveryParts,
  candidates: readonly Segment[],
  isWanted: (header: RecordHeader) => boolean,
): Promise<Segment | undefined> {
  for (const candidate of candidates) {
    const first = await readRecord(parts, candidate, 0, true);
    if (first && first.header.type === RecordType.data && isWanted(first.header)) return candidate;
  }
  return undefined;
}

/** Looks behind the end of the log for proof that there had been more. */
async function findLosses(
  parts: RecoveryParts,
  segment: Segment | undefined,
  end: number,
  sequence: number,
  epoch: number,
  candidates: readonly Segment[],
): Promise<string[]> {
  const later = await findFirst(parts, candidates, (header) => header.sequence > sequence);
  if (later !== undefined) {
    return [`record ${sequence} of the log is damaged, but segment ${later.number} follows it`];
  }
  const unread = candidates.filter((candidate) => candidate.usedBytes === 0);
  const places = unread.map((candidate) => ({ candidate, from: 0 }));
  if (segment !== undefined) places.push({ candidate: segment, from: end });
  for (const { candidate, from } of places) {
    for await (const header of headersIn(parts, candidate, from)) {
      if (header.type !== RecordType.data || header.epoch < epoch) continue;
      if (header.durableSequence <= sequence) continue;
      return [
        `record ${sequence} of the log is damaged (segment ${segment?.number ?? 0}, byte ${end}): ` +
          `record ${header.sequence} shows that it had been durable`,
      ];
    }
  }
  return [];
}

/** Every whole record header in a segment from `start` on, wherever it stands. */
async function* headersIn(
  parts: RecoveryParts,
  segment: Segment,
  start: number,
): AsyncGenerator<RecordHeader> {
  const chunk = new Uint8Array(Math.min(SCAN_BYTES, parts.segments.segmentBytes));
  for (let offset = start; offset < parts.segments.segmentBytes; offset += chunk.length) {
    const length = await segment.file.read(chunk, offset);
    for (let at = 0; at + RECORD_ALIGNMENT <= length; at += RECORD_ALIGNMENT) {
      if (readRecordHeader(chunk.subarray(at, at + RECORD_ALIGNMENT), parts.store) === undefined) {
        continue;
      }
      const found = await readRecord(parts, segment, offset + at, false);
      if (found !== undefined) yield found.header;
    }
  }
}

/** @returns what could not be applied, for people */
async function apply(parts: RecoveryParts, { header, bytes }: FoundRecord): Promise<string[]> {
  const words = entryWords(bytes, header.entryCount);
  const problems: string[] = [];
  for (let i = 0; i < header.entryCount; i++) {
    const at = i * ENTRY_WORDS;
    // A volume that is unknown was deleted after this was logged.
    const volume = parts.volumes.get(words[at + EntryWord.volume] as number);
    if (volume === undefined) continue;
    try {
      await applyEntry(volume, words, at);
    } catch (error) {
      problems.push(`the map of ${volume.name} is damaged: ${(error as Error).message}`);
    }
  }
  return problems;
}

async function applyEntry({ tree }: Volume, words: Uint32Array, at: number): Promise<void> {
  const kind = words[at + EntryWord.kind] as number;
  const high = words[at + EntryWord.lbaHigh] as number;
  const lba = (words[at + EntryWord.lbaLow] as number) + high * 2 ** 32;
  if (kind === EntryKind.trim) {
    await tree.clear(lba, words[at + EntryWord.count] as number);
    return;
  }
  const source = kind === EntryKind.zero ? undefined : words;
  while (!tree.set(lba, source, at + EntryWord.hash)) await tree.fetch(lba);
}

/** Adds the frames of a segment to the dedup index. @returns what cannot be read, for people */
export async function indexSegment(
  parts: Pick<RecoveryParts, 'engine' | 'store'>,
  segment: Segment,
  end: number,
): Promise<string[]> {
  for await (const found of recordsOf(parts, segment, end, false)) {
    if (typeof found === 'number') {
      return [`segment ${segment.number}: no record at byte ${found}, though there should be one`];
    }
    if (found.header.entryCount > 0) parts.engine.addToIndex(found.bytes);
  }
  return [];
}

/** The records of a segment; the offset of the first one that is damaged ends it. */
export async function* recordsOf(
  parts: Pick<RecoveryParts, 'engine' | 'store'>,
  segment: Segment,
  end: number,
  frames: boolean,
): AsyncGenerator<FoundRecord | number> {
  for (let offset = 0; offset < end; ) {
    const found = await readRecord(parts, segment, offset, frames);
    if (found === undefined) {
      yield offset;
      return;
    }
    yield found;
    offset += found.header.length;
  }
}
