/** Examines the log: what was confirmed since the catalog was written. */
import { z } from 'zod';
import { EntryKind, isLogType, RECORD_ALIGNMENT, RecordType } from '../format.ts';
import { Findings, type LostBlocks } from './findings.ts';
import type { ReadRecord } from './record.ts';
import { type ExamineParts, examineContent, readRecord, UNREADABLE } from './segment.ts';

/** What the log makes of a volume. */
export interface LoggedBlocks {
  /** Hash by block number; undefined for zeroes. */
  readonly hashes: Map<number, Buffer | undefined>;
  /** Blocks from `first` on that became zero, in the order of the log. */
  readonly trims: { readonly first: number; readonly end: number }[];
}

/** A snapshot that no catalog has yet: what its volume was by then. */
export interface LoggedSnapshot {
  /** The number of the volume. */
  readonly id: number;
  readonly name: string;
  readonly sizeBytes: number;
  readonly blocks: LoggedBlocks;
}

export interface ReadLog {
  readonly recordCount: number;
  /** Of the first record that is not there. */
  readonly endSequence: number;
  /** By the number of the volume. */
  readonly volumes: ReadonlyMap<number, LoggedBlocks>;
  readonly snapshots: readonly LoggedSnapshot[];
}

const noteSchema = z.object({ id: z.number(), name: z.string(), sizeBytes: z.number() });

interface Position {
  segment: number;
  offset: number;
  sequence: number;
  epoch: number;
}

export async function examineLog(parts: ExamineParts): Promise<ReadLog> {
  const { streams, segments } = parts.catalog;
  const listed = new Set(segments.map(({ number }) => number));
  const isCandidate = (number: number) => number > streams.data.segment && !listed.has(number);
  const candidates = (await parts.directory.segmentNumbers()).filter(isCandidate);
  const at: Position = { ...streams.data, epoch: parts.superblock.epoch };
  const volumes = new Map<number, LoggedBlocks>();
  const snapshots: LoggedSnapshot[] = [];
  let recordCount = 0;
  for (;;) {
    const record = (await takeNext(parts, at)) ?? (await takeFirst(parts, at, candidates));
    if (record === undefined) break;
    if (record.type === RecordType.data) apply(volumes, record);
    else snapshots.push(...readSnapshot(parts, volumes, record));
    parts.onProgress(record.length);
    recordCount++;
  }
  await findLosses(parts, at, candidates);
  await findUnreadable(parts, at, candidates);
  judgeUnknown(parts, [...volumes.keys(), ...snapshots.map(({ id }) => id)]);
  return { recordCount, endSequence: at.sequence, volumes, snapshots };
}

/** Takes the record at a position and moves behind it. @returns undefined when there is none */
async function takeNext(parts: ExamineParts, at: Position): Promise<ReadRecord | undefined> {
  if (at.segment === 0) return undefined;
  const found = await readRecord(parts, at.segment, at.offset, parts.catalog.segmentBytes);
  if (typeof found === 'string') return undefined;
  const { record, bytes } = found;
  const { type, sequence, epoch } = record;
  if (!isLogType(type) || sequence !== at.sequence || epoch < at.epoch) return undefined;
  // A torn tail is no damage: findings count once the record does.
  const findings = new Findings();
  if (!examineContent({ ...parts, findings }, at.segment, at.offset, record, bytes))
    return undefined;
  for (const { place, message } of findings.list) parts.findings.add(place, message);
  at.offset += record.length;
  at.sequence++;
  at.epoch = epoch;
  return record;
}

/** The same where the log goes on at the beginning of a candidate, which is none any more then. */
async function takeFirst(
  parts: ExamineParts,
  at: Position,
  candidates: number[],
): Promise<ReadRecord | undefined> {
  for (const [index, segment] of candidates.entries()) {
    const start: Position = { ...at, segment, offset: 0 };
    const record = await takeNext(parts, start);
    if (record === undefined) continue;
    Object.assign(at, start);
    candidates.splice(index, 1);
    return record;
  }
  return undefined;
}

function apply(volumes: Map<number, LoggedBlocks>, { entries }: ReadRecord): void {
  for (const { kind, volume, lba, count, hash } of entries) {
    const logged: LoggedBlocks = volumes.get(volume) ?? { hashes: new Map(), trims: [] };
    volumes.set(volume, logged);
    if (kind !== EntryKind.trim) {
      logged.hashes.set(lba, kind === EntryKind.zero ? undefined : hash);
      continue;
    }
    logged.trims.push({ first: lba, end: lba + count });
    for (const known of logged.hashes.keys()) {
      if (known >= lba && known < lba + count) logged.hashes.delete(known);
    }
  }
}

/**
 * A volume that the catalog does not name was deleted after this was logged. But nothing is logged
 * for a volume before a catalog names it: there was one that has handed out this number.
 */
function judgeUnknown({ catalog, findings }: ExamineParts, ids: readonly number[]): void {
  for (const id of new Set(ids.filter((one) => one >= catalog.nextVolume))) {
    findings.outdated = true;
    findings.add('log', `volume number ${id} is not known yet: a newer catalog is lost`);
  }
}

function readSnapshot(
  { findings }: ExamineParts,
  volumes: ReadonlyMap<number, LoggedBlocks>,
  { sequence, inlineText }: ReadRecord,
): LoggedSnapshot[] {
  try {
    const { id, ...snapshot } = noteSchema.parse(JSON.parse(inlineText));
    const { hashes = [], trims = [] } = volumes.get(id) ?? {};
    return [{ ...snapshot, id, blocks: { hashes: new Map(hashes), trims: [...trims] } }];
  } catch (error) {
    findings.add('log', `record ${sequence} does not make sense: ${(error as Error).message}`);
    return [];
  }
}

/** Does a segment begin with a later record of the log than the one that is missing? */
async function isFollowed(
  parts: ExamineParts,
  { sequence }: Position,
  candidates: readonly number[],
): Promise<boolean> {
  for (const number of candidates) {
    const found = await readRecord(parts, number, 0, parts.catalog.segmentBytes);
    if (typeof found === 'string') continue;
    if (isLogType(found.record.type) && found.record.sequence > sequence) return true;
  }
  return false;
}

/** Looks behind the end of the log for proof that there had been more. */
async function findLosses(
  parts: ExamineParts,
  at: Position,
  candidates: readonly number[],
): Promise<void> {
  let isLoss = await isFollowed(parts, at, candidates);
  const behind: ReadRecord[] = [];
  const places = candidates.map((segment) => ({ segment, offset: 0 }));
  if (at.segment !== 0) places.unshift(at);
  for (const { segment, offset } of places) {
    for await (const record of recordsBehind(parts, segment, offset)) {
      if (!isLogType(record.type) || record.epoch < at.epoch) continue;
      if (record.durableSequence > at.sequence) isLoss = true;
      if (record.sequence >= at.sequence) behind.push(record);
    }
  }
  if (!isLoss) return;
  const place = at.segment === 0 ? '' : ` (segment ${at.segment}, byte ${at.offset})`;
  const message = `record ${at.sequence}${place} is damaged, though it had been durable`;
  parts.findings.add('log', message, { lost: lostBlocks(parts, behind) });
}

/** Looks where the log may go on, and nobody can read whether it does. */
async function findUnreadable(
  parts: ExamineParts,
  at: Position,
  candidates: readonly number[],
): Promise<void> {
  const { catalog, findings } = parts;
  const later = candidates.filter((number) => number > at.segment);
  const places = later.map((segment) => ({ segment, offset: 0 }));
  if (at.segment !== 0) places.unshift(at);
  for (const { segment, offset } of places) {
    if ((await readRecord(parts, segment, offset, catalog.segmentBytes)) !== UNREADABLE) continue;
    const place = `segment ${segment}, byte ${offset}`;
    findings.outdated = true;
    findings.add('log', `${place} cannot be read: record ${at.sequence} may have been there`);
  }
}

/** Every record from `offset` on whose head is right, wherever it stands. */
async function* recordsBehind(
  parts: ExamineParts,
  segment: number,
  offset: number,
): AsyncGenerator<ReadRecord> {
  const { segmentBytes } = parts.catalog;
  for (let at = offset; at < segmentBytes; at += RECORD_ALIGNMENT) {
    const found = await readRecord(parts, segment, at, segmentBytes);
    if (typeof found !== 'string') yield found.record;
  }
}

/** Blocks of which the log held newer content. */
function lostBlocks({ catalog }: ExamineParts, records: readonly ReadRecord[]): LostBlocks[] {
  const names = new Map(catalog.volumes.map(({ id, name }) => [id, name]));
  return records.flatMap(({ entries }) =>
    entries.flatMap(({ volume, lba, count }) => {
      const name = names.get(volume);
      return name === undefined ? [] : { kind: 'volume' as const, name, firstLba: lba, count };
    }),
  );
}
