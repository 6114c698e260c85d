/** Compares what of the log is on this disk with what the blob store has of it. */
import { StartupError } from '../../../core/startup-error.ts';
import type { CasEngine } from '../../../native.ts';
import type { BlobStore } from '../blob-store.ts';
import { isLogType, VALID } from '../format.ts';
import { readRecord } from '../records.ts';
import type { LoadParts } from '../store-files.ts';
import { partName } from './blob-names.ts';
import type { Image } from './journal.ts';
import { endOfParts, partAt } from './journal-entry.ts';
import { recordsIn } from './part.ts';

interface LogEnd {
  readonly segment: number;
  readonly offset: number;
}

/**
 * Is everything here that the blob store has of the log?
 *
 * @returns what the blob store has no more, though it should, and this disk neither; for people
 * @throws {StartupError} no: this disk has lost what it had said to be durable, or was put back
 */
export async function requireNewest(
  parts: LoadParts,
  image: Image,
  blobs: BlobStore,
): Promise<string[]> {
  const end = await findEnd(parts, image);
  if (end === undefined) return [];
  const { segment, offset } = end;
  if (await hasRecord(parts.engine, image, blobs, end)) throw outOfDate(parts.path);
  return [`the log is damaged in the blob store: segment ${segment}, byte ${offset}`];
}

/** @returns where the log ends here; undefined when the blob store does not go on from there */
async function findEnd(
  { engine, segments: local }: LoadParts,
  { segments, superblock }: Image,
): Promise<LogEnd | undefined> {
  if (superblock === undefined) return undefined;
  const { store } = superblock;
  for (const [number, stored] of [...segments].sort(([one], [other]) => one - other)) {
    const segment = local.table.get(number);
    if (number >= local.nextNumber) return { segment: number, offset: 0 };
    if (segment?.stream !== 'data' || endOfParts(stored) <= segment.usedBytes) continue;
    // Nodes and moved frames that no checkpoint needs any more were looked at as if they were log.
    const first = await readRecord({ engine, store }, segment, 0);
    const isLog = first === undefined || isLogType(first.header.type);
    if (isLog) return { segment: number, offset: segment.usedBytes };
  }
  return undefined;
}

/** Is there a whole record behind that in the blob store? */
async function hasRecord(
  engine: CasEngine,
  { segments, superblock }: Image,
  blobs: BlobStore,
  { segment, offset }: LogEnd,
): Promise<boolean> {
  const part = partAt(segments.get(segment), offset);
  if (part === undefined) return true;
  const [from, to] = part;
  const bytes = await blobs.getRange(partName(segment, part), offset - from, to - offset);
  for (const { record } of recordsIn(bytes, superblock?.store, segment, offset)) {
    return (await engine.verify(record)) === VALID;
  }
  return false;
}

export function outOfDate(path: string): StartupError {
  return new StartupError(
    `${path} is out of date: its blob store has more`,
    'move the directory away to go on with what is in the blob store',
  );
}
