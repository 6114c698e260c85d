/** Examines the superblock and the catalogs that it names. */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { RECORD_ALIGNMENT, RecordType, SUPERBLOCK_VERSIONS } from '../format.ts';
import type { Findings } from './findings.ts';
import { HASH_SIZE, hashOf } from './hash.ts';
import { parseRecord } from './record.ts';
import type { SegmentSource, StoreDirectory } from './store-directory.ts';

const COPY_SIZE = 4096;
const COPY_COUNT = 4;
/** Even generations go to the first two copies, odd ones to the others. */
const PAIRS = [
  [0, 1],
  [2, 3],
] as const;
const MAGIC = 0x42534f41;
const CHECKSUM_OFFSET = 56;

const count = z.number().int().min(0);
const position = z.object({ segment: count, offset: count, sequence: count });
const root = z.tuple([z.string().regex(/^[0-9a-f]{64}$/), count, count]);
const catalogSchema = z.object({
  segmentBytes: count.min(RECORD_ALIGNMENT),
  nextSegment: count,
  nextVolume: count,
  streams: z.object({ data: position, node: position, moved: position }),
  segments: z.array(
    z.object({
      number: count.min(1),
      stream: z.enum(['data', 'node', 'moved']),
      usedBytes: count,
      sealed: z.boolean(),
      condemnedIn: count,
    }),
  ),
  volumes: z.array(z.object({ id: count, name: z.string(), sizeBytes: count, root })),
  snapshots: z.array(z.object({ name: z.string(), volume: z.string(), sizeBytes: count, root })),
});

export type ReadCatalog = z.infer<typeof catalogSchema>;

/** A copy that is right in itself. */
export interface SuperblockCopy {
  readonly store: Buffer;
  readonly generation: number;
  readonly epoch: number;
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
}

export interface CurrentState {
  readonly superblock: SuperblockCopy;
  /** Undefined for a store that nothing was ever written to. */
  readonly catalog: ReadCatalog | undefined;
}

/** @returns the state that counts; undefined when none can be read */
export async function examineSuperblock(
  directory: StoreDirectory,
  findings: Findings,
): Promise<CurrentState | undefined> {
  const copies = await readCopies(directory, findings);
  const generations = [...new Map(copies.map((copy) => [copy.generation, copy])).values()];
  generations.sort((a, b) => b.generation - a.generation);
  let current: CurrentState | undefined;
  for (const [age, superblock] of generations.entries()) {
    // What the third one needs may be gone: a crash between two copies leaves it.
    if (age >= 2 && current !== undefined) break;
    if (superblock.segment === 0) {
      current ??= { superblock, catalog: undefined };
      continue;
    }
    const catalog = await readCatalog(directory, superblock);
    if (typeof catalog !== 'string') {
      current ??= { superblock, catalog };
      continue;
    }
    const place = `segment ${superblock.segment}, byte ${superblock.offset}`;
    // What the log has since is not all: volumes and snapshots come and go with catalogs.
    if (current === undefined) findings.outdated = true;
    findings.add(
      'catalog',
      `the catalog of generation ${superblock.generation} (${place}) ${catalog}`,
    );
  }
  if (current === undefined) findings.unreadable = true;
  return current;
}

async function readCopies(
  directory: StoreDirectory,
  findings: Findings,
): Promise<SuperblockCopy[]> {
  const bytes = await directory.read('superblock', 0, COPY_SIZE * COPY_COUNT);
  const copies: (SuperblockCopy | undefined)[] = [];
  const wrong = new Map<number, string>();
  for (let number = 0; number < COPY_COUNT; number++) {
    const copy = parseCopy(bytes.subarray(number * COPY_SIZE, (number + 1) * COPY_SIZE));
    if (typeof copy !== 'string' && copy.generation % 2 === Math.floor(number / 2)) {
      copies.push(copy);
      continue;
    }
    copies.push(undefined);
    wrong.set(number, typeof copy === 'string' ? copy : `is of generation ${copy.generation}`);
  }
  const newest = Math.max(0, ...copies.map((copy) => copy?.generation ?? 0));
  for (const [first, second] of PAIRS) {
    comparePair(copies[first], copies[second], first, findings);
    // Written up to its first copy, by a crash, or not at all.
    const generation = copies[first]?.generation ?? newest + 1;
    const isFirst = generation <= 2 || directory.isReplica;
    if (isFirst && isEmpty(bytes, second)) {
      if (copies[first] !== undefined || !isEmpty(bytes, first)) noteCrash(second, findings);
      continue;
    }
    for (const number of [first, second]) {
      const problem = wrong.get(number);
      if (problem !== undefined) findings.add('superblock', `copy ${number} ${problem}`);
    }
    // A crash damages one of them at most: the newest generation may have been here.
    if (wrong.has(first) && wrong.has(second)) findings.outdated = true;
  }
  return copies.filter((copy) => copy !== undefined);
}

function isEmpty(bytes: Buffer, number: number): boolean {
  const copy = bytes.subarray(number * COPY_SIZE, (number + 1) * COPY_SIZE);
  return copy.every((byte) => byte === 0);
}

/** Copies are written one after the other, each of a pair durable before the next. */
function noteCrash(number: number, findings: Findings): void {
  findings.notes.push(
    `a crash came before copy ${number} of the superblock was written, which is harmless`,
  );
}

function comparePair(
  first: SuperblockCopy | undefined,
  second: SuperblockCopy | undefined,
  number: number,
  findings: Findings,
): void {
  if (first === undefined || second === undefined) return;
  if (isDeepStrictEqual(first, second)) return;
  if (first.generation === second.generation + 2 && first.store.equals(second.store)) {
    noteCrash(number + 1, findings);
    return;
  }
  findings.add('superblock', `copies ${number} and ${number + 1} differ`);
}

/** @returns what is wrong */
function parseCopy(bytes: Buffer): SuperblockCopy | string {
  if (bytes.length < COPY_SIZE) return 'is missing';
  if (bytes.readUInt32LE(0) !== MAGIC) return 'is none';
  const cleared = Buffer.from(bytes).fill(0, CHECKSUM_OFFSET, CHECKSUM_OFFSET + HASH_SIZE);
  const stored = bytes.subarray(CHECKSUM_OFFSET, CHECKSUM_OFFSET + HASH_SIZE);
  if (!stored.equals(hashOf('record', cleared))) return 'has a wrong checksum';
  const version = bytes.readUInt32LE(4);
  if (!SUPERBLOCK_VERSIONS.includes(version)) return `has version ${version}`;
  return {
    store: Buffer.from(bytes.subarray(8, 24)),
    generation: Number(bytes.readBigUInt64LE(24)),
    epoch: Number(bytes.readBigUInt64LE(32)),
    segment: bytes.readUInt32LE(40),
    offset: bytes.readUInt32LE(44),
    length: bytes.readUInt32LE(48),
  };
}

/** @returns what is wrong */
export async function readCatalog(
  source: SegmentSource,
  { store, segment, offset, length }: SuperblockCopy,
): Promise<ReadCatalog | string> {
  const bytes = await source.readSegment(segment, offset, length);
  const record = parseRecord(bytes, store, segment, offset);
  if (typeof record === 'string') return record;
  if (record.type !== RecordType.catalog) return 'is a record of another type';
  if (record.length !== length) return 'has another length';
  const { inlineEnd, inlineText } = record;
  if (bytes.subarray(inlineEnd).some((byte) => byte !== 0)) return 'is not followed by zeroes';
  try {
    return catalogSchema.parse(JSON.parse(inlineText));
  } catch (error) {
    return `does not make sense: ${(error as Error).message}`;
  }
}
