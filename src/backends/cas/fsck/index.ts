/**
 * Examines a store from the outside, as its format is described: superblock, catalog, segments,
 * log and trees; and what a blob store has of it, when that is asked for. Shares nothing with the
 * code that serves a store but the numbers of the format, the hash function, a table for hashes and
 * the way to a blob store, and changes nothing.
 */
import type { ReadableBlobs } from './blob-parts.ts';
import { type BlobsReport, StoredCopy } from './blobs.ts';
import { type Finding, Findings } from './findings.ts';
import { Inventory } from './inventory.ts';
import { examineLog } from './log.ts';
import { type ExamineParts, examineSegment } from './segment.ts';
import { StoreDirectory } from './store-directory.ts';
import { examineSuperblock, type ReadCatalog } from './superblock.ts';
import { examineTrees } from './tree.ts';

export type { Finding, LostBlocks } from './findings.ts';

export interface Examination {
  readonly findings: readonly Finding[];
  /** What a crash may leave and is harmless, for people. */
  readonly notes: readonly string[];
  /** No catalog can be read, so volumes and snapshots are out of reach. */
  readonly unreadable: boolean;
  /** There was a newer state, or there may have been: nobody knows what of it is lost. */
  readonly outdated: boolean;
  readonly generation: number;
  readonly segments: number;
  readonly logRecords: number;
  /** Distinct ones that are intact. */
  readonly blocks: number;
  readonly nodes: number;
  /** Blocks and nodes that are in a blob store only, and were not examined. */
  readonly absent: number;
  /** What was examined there; null when that was not asked for, or nothing can be read. */
  readonly blobStore: BlobsReport | null;
}

export interface ExamineOptions {
  /** Opens the blob store that the store is kept in, to examine what is there, too. */
  readonly openBlobs?: (() => Promise<ReadableBlobs>) | undefined;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/**
 * @throws {StartupError} it is no store, or in use
 * @throws {BlobUnreachableError}
 * @throws when its files may not be read
 */
export async function examine(path: string, options: ExamineOptions = {}): Promise<Examination> {
  const directory = await StoreDirectory.open(path);
  try {
    return await examineFiles(directory, options);
  } finally {
    await directory.close();
  }
}

async function examineFiles(
  directory: StoreDirectory,
  { openBlobs, onProgress }: ExamineOptions,
): Promise<Examination> {
  const findings = new Findings();
  const current = await examineSuperblock(directory, findings);
  const { catalog } = current ?? {};
  const blobs = await openBlobs?.();
  const stored =
    current && blobs && (await StoredCopy.open(blobs, directory, current.superblock, findings));
  const inventory = new Inventory(directory, stored?.segments);
  let logRecords = 0;
  if (current !== undefined && catalog !== undefined) {
    const localBytes = catalog.segments.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
    const totalBytes = localBytes + (stored?.segments.totalBytes ?? 0);
    let doneBytes = 0;
    const addProgress = (bytes: number) => {
      doneBytes += bytes;
      onProgress?.(Math.min(doneBytes, totalBytes), totalBytes);
    };
    const { superblock } = current;
    const parts: ExamineParts = {
      ...{ directory, superblock, catalog, inventory, findings },
      isPartial: directory.isPartial,
      onProgress: addProgress,
    };
    examineCatalog(catalog, findings);
    await examineSegments(parts);
    await stored?.examineParts(parts);
    const log = await examineLog(parts);
    logRecords = log.recordCount;
    stored?.compareWithLog(log, findings);
    await examineTrees(parts, log);
  }
  return {
    findings: findings.list,
    notes: findings.notes,
    unreadable: findings.unreadable,
    outdated: findings.outdated,
    generation: current?.superblock.generation ?? 0,
    segments: catalog?.segments.length ?? 0,
    logRecords,
    blocks: inventory.blockCount,
    nodes: inventory.nodeCount,
    absent: inventory.absentCount,
    blobStore: stored?.report ?? null,
  };
}

async function examineSegments(parts: ExamineParts): Promise<void> {
  const numbers = new Set(await parts.directory.segmentNumbers());
  for (const segment of parts.catalog.segments) {
    if (numbers.has(segment.number)) await examineSegment(parts, segment);
    else parts.findings.add('segment', `segment ${segment.number} is missing`);
  }
}

/** Whether what the catalog says can be true. */
function examineCatalog(catalog: ReadCatalog, findings: Findings): void {
  const { segments, volumes, snapshots, segmentBytes } = catalog;
  const complain = (message: string) => findings.add('catalog', message);
  for (const { number, usedBytes } of segments) {
    if (number >= catalog.nextSegment) complain(`segment ${number} is not below nextSegment`);
    if (usedBytes > segmentBytes) complain(`segment ${number} holds more than it can`);
  }
  for (const { id, name } of volumes) {
    if (id >= catalog.nextVolume) complain(`volume ${name} has a number not below nextVolume`);
  }
  const names = [...volumes, ...snapshots].map(({ name }) => name);
  for (const name of repeated(names)) complain(`the name ${name} is there twice`);
  for (const id of repeated(volumes.map((volume) => volume.id))) {
    complain(`the volume number ${id} is there twice`);
  }
  for (const number of repeated(segments.map((segment) => segment.number))) {
    complain(`segment ${number} is listed twice`);
  }
}

function repeated<T>(values: readonly T[]): Set<T> {
  return new Set(values.filter((value, index) => values.indexOf(value) !== index));
}
