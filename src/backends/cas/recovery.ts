/**
 * Brings a store back to the state after the last durable record of its log.
 *
 * The log is replayed from where the newest checkpoint took it up: records must follow each other
 * without a gap in their sequence, and epochs must not decrease, beginning with the checkpoint's:
 * what an earlier crash left behind the end of the log is none of it. The first one that is missing
 * or damaged ends the log. That is a torn tail, and nothing that was promised is lost, unless a later
 * record or segment shows that more had been durable, or the disk cannot read there: then it is
 * corruption, or may be, which is reported, and the store is for reading only.
 *
 * Nothing on disk is changed here.
 */
import { BlobUnreachableError } from './blob-store.ts';
import {
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  isLogType,
  RECORD_ALIGNMENT,
  type RecordHeader,
  RecordType,
} from './format.ts';
import { findLoss } from './log-loss.ts';
import {
  aheadOfHeads,
  type FoundRecord,
  RecordMemory,
  type RecordParts,
  RecordScanner,
  unlessUnreadable,
} from './records.ts';
import type { Segment, Segments } from './segments.ts';
import { decodeSnapshotNote } from './snapshot-note.ts';
import type { StreamPosition } from './stream.ts';
import type { Volume } from './volume.ts';
import type { LoggedSnapshot } from './volume-table.ts';

/** Read at once of the log. */
const AHEAD_BYTES = 8 << 20;

export interface RecoveryParts extends RecordParts {
  /** Of the checkpoint: the log that follows it has no lower one. */
  readonly epoch: number;
  readonly segments: Segments;
  readonly volumes: ReadonlyMap<number, Volume>;
  /** The lowest number that no volume had by then. */
  readonly nextVolume: number;
  /** Receives those that the log holds. */
  readonly snapshots: LoggedSnapshot[];
}

export interface Recovered {
  /** Where the log ends. */
  readonly end: StreamPosition;
  /** What is wrong with the log, for people. */
  readonly problems: readonly string[];
}

/** Replays the log from `start` on into the volumes. `candidates` are later segments of the log. */
export async function replay(
  parts: RecoveryParts,
  start: StreamPosition,
  candidates: readonly Segment[],
): Promise<Recovered> {
  const memory = new RecordMemory();
  let segment = parts.segments.table.get(start.segment);
  let scanner = segment && new RecordScanner(parts, segment, true, memory);
  let { offset, sequence } = start;
  let { epoch } = parts;
  const problems = new Set<string>();
  /** Where there may be something that would go on with the log, by its segment. */
  const unreadable = new Map<number, number>();
  const firsts = await readFirsts(parts, candidates, memory, unreadable);
  for (;;) {
    const aheadBytes = Math.min(AHEAD_BYTES, parts.segments.segmentBytes - offset);
    const found = await scanner?.read(offset, aheadBytes).catch((error) => {
      unreadable.set((segment as Segment).number, offset);
      return unlessUnreadable(error);
    });
    if (segment && found && isNext(found.header, sequence, epoch)) {
      for (const problem of await apply(parts, found)) problems.add(problem);
      parts.engine.addToIndex(found.bytes, false);
      offset += found.header.length;
      segment.usedBytes = offset;
      sequence++;
      epoch = found.header.epoch;
      continue;
    }
    const next = firsts.find(({ header }) => isNext(header, sequence, epoch));
    if (next === undefined) break;
    firsts.splice(firsts.indexOf(next), 1);
    if (segment !== undefined) segment.sealed = true;
    segment = next.segment;
    scanner = new RecordScanner(parts, segment, true, memory);
    offset = 0;
  }
  const later = firsts.find(({ header }) => header.sequence > sequence);
  if (later !== undefined) {
    const { number } = later.segment;
    problems.add(`record ${sequence} of the log is damaged, but segment ${number} follows it`);
  } else {
    const loss = await findLoss(parts, segment, offset, sequence, epoch, candidates);
    if (loss !== undefined) problems.add(loss);
  }
  for (const [number, byte] of unreadable) {
    // What the log has left behind it does not need.
    if (number < (segment?.number ?? 0)) continue;
    problems.add(
      `segment ${number} cannot be read at byte ${byte}: ` +
        `record ${sequence} of the log may have been there, and durable`,
    );
  }
  return { end: { segment: segment?.number ?? 0, offset, sequence }, problems: [...problems] };
}

function isNext(header: RecordHeader, sequence: number, epoch: number): boolean {
  return isLogType(header.type) && header.sequence === sequence && header.epoch >= epoch;
}

/**
 * The first records of segments of the log; those without a whole one are left out.
 *
 * @param unreadable receives those of which nobody knows
 */
async function readFirsts(
  parts: RecoveryParts,
  candidates: readonly Segment[],
  memory: RecordMemory,
  unreadable: Map<number, number>,
): Promise<{ readonly segment: Segment; readonly header: RecordHeader }[]> {
  const firsts = [];
  for (const segment of candidates) {
    const scanner = new RecordScanner(parts, segment, true, memory);
    const found = await scanner.read(0, RECORD_ALIGNMENT).catch((error) => {
      unreadable.set(segment.number, 0);
      return unlessUnreadable(error);
    });
    const header = found?.header;
    if (header !== undefined && isLogType(header.type)) firsts.push({ segment, header });
  }
  return firsts;
}

/** @returns what could not be applied, for people */
async function apply(parts: RecoveryParts, found: FoundRecord): Promise<string[]> {
  const { header, bytes } = found;
  if (header.type === RecordType.snapshot) return keepSnapshot(parts, found);
  const words = entryWords(bytes, header.entryCount);
  const problems: string[] = [];
  for (let i = 0; i < header.entryCount; i++) {
    const at = i * ENTRY_WORDS;
    const id = words[at + EntryWord.volume] as number;
    const volume = parts.volumes.get(id);
    if (volume === undefined) {
      problems.push(...judgeUnknown(parts, id));
      continue;
    }
    try {
      await applyEntry(volume, words, at);
    } catch (error) {
      if (error instanceof BlobUnreachableError) throw error;
      problems.push(`the map of ${volume.name} is damaged: ${(error as Error).message}`);
    }
  }
  return problems;
}

/** Of a volume that cannot be read there is nothing to keep: that is a problem anyway. */
function keepSnapshot(parts: RecoveryParts, { header, bytes }: FoundRecord): string[] {
  const { id, ...entry } = decodeSnapshotNote(bytes, header);
  const volume = parts.volumes.get(id);
  if (volume === undefined) return judgeUnknown(parts, id);
  const { tree, reference } = volume;
  parts.snapshots.push({ entry, root: tree.freeze(), reference });
  return [];
}

/**
 * A volume that the catalog does not name was deleted after this was logged. But nothing is logged
 * for a volume before a catalog names it: there was one that has handed out this number.
 */
function judgeUnknown({ nextVolume }: RecoveryParts, id: number): string[] {
  if (id < nextVolume) return [];
  return [
    `the log is of volume number ${id}, which the catalog does not know yet: ` +
      'a newer catalog is lost, with what was changed since',
  ];
}

async function applyEntry(
  { tree, blockCount }: Volume,
  words: Uint32Array,
  at: number,
): Promise<void> {
  const kind = words[at + EntryWord.kind] as number;
  const high = words[at + EntryWord.lbaHigh] as number;
  const lba = (words[at + EntryWord.lbaLow] as number) + high * 2 ** 32;
  if (lba >= blockCount) throw new Error(`the log writes to block ${lba}, behind its end`);
  if (kind === EntryKind.trim) {
    await tree.clear(lba, words[at + EntryWord.count] as number);
    return;
  }
  const source = kind === EntryKind.zero ? undefined : words;
  while (!tree.set(lba, source, at + EntryWord.hash)) await tree.fetch(lba);
}

/**
 * Adds the frames of a segment to the dedup index, also those behind a record that is damaged:
 * what was moved is found by the index alone.
 *
 * @returns what cannot be read, for people
 */
export async function indexSegment(
  parts: RecordParts,
  segment: Segment,
  end: number,
  memory: RecordMemory,
): Promise<string[]> {
  const problems: string[] = [];
  const scanner = new RecordScanner(parts, segment, false, memory);
  let [aheadBytes, isLost] = [aheadOfHeads(), false];
  for (let offset = 0; offset < end; ) {
    // Most are in memory by then: to wait for each takes longer than to take it up.
    const found =
      scanner.held(offset) ?? (await scanner.read(offset, Math.min(aheadBytes, end - offset)));
    if (found === undefined) {
      const problem = `segment ${segment.number}: no record at byte ${offset}, though there should be one`;
      if (!isLost) problems.push(problem);
      isLost = true;
      offset += RECORD_ALIGNMENT;
      continue;
    }
    isLost = false;
    const { entryCount, length } = found.header;
    if (entryCount > 0) parts.engine.addToIndex(found.bytes, true);
    aheadBytes = aheadOfHeads(length);
    offset += length;
  }
  return problems;
}
