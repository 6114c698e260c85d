/**
 * Examines what a blob store holds of a store: the journal, and every part that counts. Frames that
 * are intact there are taken up as those on this disk are.
 */
import { isLogType } from '../format.ts';
import { type BlobPart, BlobSegments, type ReadableBlobs, sizeOf } from './blob-parts.ts';
import { Findings } from './findings.ts';
import type { FrameTaker } from './inventory.ts';
import { type ReadJournal, readJournal } from './journal.ts';
import type { JournalEntry } from './journal-entry.ts';
import type { ReadLog } from './log.ts';
import type { ReadRecord } from './record.ts';
import { type ExamineParts, examineContent, findNext, readRecord } from './segment.ts';
import type { StoreDirectory } from './store-directory.ts';
import { readCatalog, type SuperblockCopy } from './superblock.ts';

const HEAD_ALIGNMENT = 64;

export interface BlobsReport {
  readonly journalEntries: number;
  readonly parts: number;
  readonly verifiedBytes: number;
}

export class StoredCopy {
  readonly segments: BlobSegments;
  readonly #journal: ReadJournal;
  #verifiedBytes = 0;
  /** Of the first record of the log that no part holds. */
  #endSequence = 0;

  private constructor(blobs: ReadableBlobs, journal: ReadJournal) {
    this.#journal = journal;
    this.segments = new BlobSegments(blobs, journal.parts);
  }

  /** Reads the journal. @throws {BlobUnreachableError} */
  static async open(
    blobs: ReadableBlobs,
    directory: StoreDirectory,
    superblock: SuperblockCopy,
    findings: Findings,
  ): Promise<StoredCopy> {
    const journal = await readJournal(blobs, findings);
    const { last } = journal;
    const isOther = last?.superblock && last.superblock.store !== superblock.store.toString('hex');
    if (isOther) {
      findings.add('journal', 'another store is in the blob store');
      return new StoredCopy(blobs, { ...journal, last: undefined, parts: [] });
    }
    const copy = new StoredCopy(blobs, journal);
    if (last !== undefined) {
      compareWithDirectory(last, directory, superblock, findings);
      await examineImage(last, copy.segments, findings);
    }
    return copy;
  }

  get report(): BlobsReport {
    return {
      journalEntries: this.#journal.entryCount,
      parts: this.segments.parts.length,
      verifiedBytes: this.#verifiedBytes,
    };
  }

  /** @throws {BlobUnreachableError} */
  async examineParts(parts: ExamineParts): Promise<void> {
    const listed = new Set(parts.catalog.segments.map(({ number }) => number));
    for (const part of this.segments.parts) {
      const blob = await this.segments.fetch(part);
      // What the catalog does not list nobody looks for there.
      const inventory = listed.has(part.segment) ? takerOf(parts) : NOBODY;
      const { problems, records } = await examinePart({ ...parts, inventory }, part, blob);
      report(parts, part, blob, problems);
      for (const { type, sequence } of records) {
        if (isLogType(type)) this.#endSequence = Math.max(this.#endSequence, sequence + 1);
      }
      this.#verifiedBytes += blob?.length ?? 0;
      parts.onProgress(sizeOf(part));
    }
  }

  /** The directory is never behind its blob store. */
  compareWithLog({ endSequence }: ReadLog, findings: Findings): void {
    if (this.#journal.last === undefined || this.#endSequence <= endSequence) return;
    findings.outdated = true;
    findings.add('log', `record ${endSequence} is in the blob store, and not in this directory`);
  }
}

const NOBODY: FrameTaker = { add() {}, addAbsent() {} };

function takerOf({ inventory }: ExamineParts): FrameTaker {
  return { add: (...frame) => inventory.addStored(...frame), addAbsent() {} };
}

function compareWithDirectory(
  { owner, superblock: stored }: JournalEntry,
  directory: StoreDirectory,
  superblock: SuperblockCopy,
  findings: Findings,
): void {
  const complain = (problem: string) => {
    findings.outdated = true;
    findings.add('journal', `this directory is not the newest copy: ${problem}`);
  };
  if (!directory.claimIds.includes(owner.id)) {
    complain(`the server on ${owner.host} has claimed the blob store since`);
  }
  const { generation = 0 } = stored ?? {};
  if (generation > superblock.generation) complain(`generation ${generation} is in the blob store`);
}

/** Whether the store could be opened from what the journal names. */
async function examineImage(
  { superblock }: JournalEntry,
  segments: BlobSegments,
  findings: Findings,
): Promise<void> {
  if (superblock === null || superblock.segment === 0) return;
  const copy = { ...superblock, store: Buffer.from(superblock.store, 'hex') };
  const catalog = await readCatalog(segments, copy);
  const what = `the catalog of generation ${superblock.generation} in the blob store`;
  if (typeof catalog === 'string') {
    findings.add('journal', `${what} ${catalog}`);
    return;
  }
  for (const { number, usedBytes } of catalog.segments) {
    const end = segments.endOf(number);
    if (end >= usedBytes) continue;
    findings.add('journal', `${what} needs segment ${number} to byte ${usedBytes}, not ${end}`);
  }
}

type PartParts = Omit<ExamineParts, 'inventory'> & { readonly inventory: FrameTaker };

/** @param blob undefined when it is missing */
async function examinePart(
  { directory, superblock, inventory }: PartParts,
  { segment, from, to, headBytes }: BlobPart,
  blob: Buffer = Buffer.alloc(0),
): Promise<{ readonly problems: Findings; readonly records: readonly ReadRecord[] }> {
  const bytes = Buffer.alloc(to - from);
  blob.copy(bytes);
  const readSegment = async (_: number, position: number, length: number) =>
    bytes.subarray(position - from, position - from + length);
  const there = { directory: { readSegment }, superblock };
  const problems = new Findings();
  const content = { inventory, findings: problems, isPartial: false };
  const records: ReadRecord[] = [];
  const heads: Buffer[] = [];
  for (let offset = from; offset < to; ) {
    let found = await readRecord(there, segment, offset, to);
    if (typeof found === 'string') {
      problems.add('blob', `the record at ${offset} ${found}`);
      // What this disk knows of the record tells which frames should be there.
      found = await readRecord({ directory, superblock }, segment, offset, to);
    }
    if (typeof found === 'string') {
      offset = await findNext(there, segment, offset, to);
      continue;
    }
    const { record } = found;
    const stored = bytes.subarray(offset - from, offset - from + record.length);
    examineContent(content, segment, offset, record, stored);
    records.push(record);
    heads.push(padded(found.bytes.subarray(0, record.inlineEnd)));
    offset += record.length;
  }
  const areHeadsRight = blob
    .subarray(to - from, to - from + headBytes)
    .equals(Buffer.concat(heads));
  if (problems.list.length === 0 && !areHeadsRight) {
    problems.add('blob', 'the heads behind its records are not theirs');
  }
  return { problems, records };
}

/** Tells what is wrong with a part; of one that is missing or cut off that only. */
function report(
  { findings, inventory }: ExamineParts,
  part: BlobPart,
  blob: Buffer | undefined,
  problems: Findings,
): void {
  const sizeBytes = sizeOf(part);
  if (blob === undefined || blob.length < sizeBytes) {
    const problem = blob && `has ${blob.length} of ${sizeBytes} bytes`;
    const hashes = problems.list
      .flatMap(({ hash }) => hash ?? [])
      .filter((hash) => !inventory.hasAny(Buffer.from(hash, 'hex')));
    findings.add('blob', `${part.name} ${problem ?? 'is missing'}`, { hashes });
    return;
  }
  if (blob.length > sizeBytes)
    findings.add('blob', `${part.name} has more than ${sizeBytes} bytes`);
  for (const { message, hash } of problems.list) {
    findings.add('blob', `${part.name}: ${message}`, hash === undefined ? {} : { hash });
  }
}

function padded(head: Buffer): Buffer {
  const size = Math.ceil(head.length / HEAD_ALIGNMENT) * HEAD_ALIGNMENT;
  return Buffer.concat([head], size);
}
