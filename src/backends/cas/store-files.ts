/**
 * Opens the files of a store and finds out where it stands: creates it when it is new, or reads
 * superblock and catalog, takes up the segments and replays the log. Changes nothing in a store
 * that exists.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { StartupError } from '../../core/startup-error.ts';
import type { CasEngine } from '../../native.ts';
import { BlobUnreachableError } from './blob-store.ts';
import { type Catalog, decodeCatalog, type RootEntry, referenceOf } from './catalog.ts';
import type { FileLayer, StoreFile } from './file-layer.ts';
import type { BlockReader } from './reader.ts';
import { RecordMemory, readRecord, unlessUnreadable } from './records.ts';
import { indexSegment, replay } from './recovery.ts';
import type { Segment, Segments } from './segments.ts';
import type { StreamPosition } from './stream.ts';
import {
  type FoundSuperblocks,
  readSuperblocks,
  SUPERBLOCK_NAME,
  type Superblock,
  writeSuperblock,
} from './superblock.ts';
import { Volume } from './volume.ts';
import type { LoggedSnapshot } from './volume-table.ts';

const NOWHERE: StreamPosition = { segment: 0, offset: 0, sequence: 1 };

export interface Loaded {
  readonly superblock: Superblock;
  readonly superblockFile: StoreFile;
  readonly foundSuperblocks: FoundSuperblocks;
  readonly catalog: Catalog;
  readonly volumes: Map<number, Volume>;
  /** Snapshots that the log holds and no catalog yet. */
  readonly loggedSnapshots: readonly LoggedSnapshot[];
  readonly logEnd: StreamPosition;
  /** Where nodes go on: behind the catalog, which is the last record of theirs that counts. */
  readonly nodeEnd: StreamPosition;
  /** Puts everything before the log into the dedup index, once. @returns problems, for people */
  indexSegments(): Promise<string[]>;
  /** Segments that hold nothing that counts, but that the superblock before may need. */
  readonly leftovers: readonly number[];
  /** Segments that were begun after the last checkpoint, and hold nothing that counts. */
  readonly unused: readonly number[];
  /** What is damaged, for people. When there is something the store is for reading only. */
  readonly problems: readonly string[];
}

export interface LoadParts {
  readonly files: FileLayer;
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly reader: BlockReader;
  readonly path: string;
  /** A blob store has it, too. */
  readonly isReplica: boolean;
}

/** @throws {StartupError} there is no catalog that can be read, or no store that is one */
export async function loadStore(parts: LoadParts): Promise<Loaded> {
  const superblockFile = await openSuperblock(parts);
  try {
    return await load(parts, superblockFile);
  } catch (error) {
    await superblockFile.close();
    throw error;
  }
}

async function load(parts: LoadParts, superblockFile: StoreFile): Promise<Loaded> {
  const found = await readSuperblocks(superblockFile, parts.engine, parts.isReplica);
  const numbers = await parts.segments.scan();
  const superblocks = [...found.whole];
  if (superblocks.length === 0) {
    if (numbers.length + found.damaged.length > 0) {
      throw unreadable(parts.path, 'no copy of its superblock is intact');
    }
    superblocks.push(await createStore(superblockFile, parts.engine));
  }
  const { generation } = superblocks[0] as Superblock;
  const problems: string[] = [];
  if (found.lost.length > 0) {
    problems.push(
      `copies ${found.lost.join(' and ')} of the superblock are damaged: what was written or ` +
        `changed after generation ${generation} may be missing; restore the directory from a copy, ` +
        'or export its volumes and import them into a new store',
    );
  }
  let failure: unknown;
  for (const superblock of superblocks) {
    const catalog = await readCatalog(parts, superblock, numbers).catch((error) => {
      failure = error;
      return unlessUnreadable(error);
    });
    if (catalog === undefined) {
      problems.push(`the catalog of generation ${superblock.generation} is damaged`);
      continue;
    }
    const files = { superblockFile, foundSuperblocks: found };
    return loadFrom(parts, { ...superblock, generation }, files, catalog, numbers, problems);
  }
  throw failure ?? unreadable(parts.path, 'no catalog of it is intact');
}

async function openSuperblock({ files, path }: LoadParts): Promise<StoreFile> {
  const file = await files.open(join(path, SUPERBLOCK_NAME), true);
  try {
    await files.syncDirectory(path);
  } catch (error) {
    await file.close();
    throw error;
  }
  return file;
}

/** The first superblock names no catalog: the store is empty. */
async function createStore(file: StoreFile, engine: CasEngine): Promise<Superblock> {
  const store = new Uint8Array(randomBytes(16));
  const superblock = { store, generation: 1, epoch: 0, segment: 0, offset: 0, length: 0 };
  await writeSuperblock(file, engine, superblock);
  return superblock;
}

async function readCatalog(
  parts: LoadParts,
  superblock: Superblock,
  numbers: readonly number[],
): Promise<Catalog | undefined> {
  const { segments, engine } = parts;
  if (superblock.segment === 0) return emptyCatalog(segments.segmentBytes);
  if (!numbers.includes(superblock.segment)) return undefined;
  const segment =
    segments.table.get(superblock.segment) ??
    (await segments.adopt(superblock.segment, 'node', superblock.offset));
  const { store } = superblock;
  const found = await readRecord({ engine, store }, segment, superblock.offset);
  return found && decodeCatalog(found.bytes, store);
}

async function loadFrom(
  parts: LoadParts,
  superblock: Superblock,
  files: Pick<Loaded, 'superblockFile' | 'foundSuperblocks'>,
  catalog: Catalog,
  numbers: readonly number[],
  problems: string[],
): Promise<Loaded> {
  const { segments, engine, reader } = parts;
  if (catalog.segmentBytes !== segments.segmentBytes) {
    throw unreadable(parts.path, `its segments have ${catalog.segmentBytes} bytes`);
  }
  await adoptListed(parts, catalog, numbers, problems);
  // Hints may be out of date, so replay may need the index; most often it does not.
  const indexSegments = once(indexAll(parts, superblock.store));
  reader.whenIndexed = indexSegments;
  const logSegment = catalog.streams.data.segment;
  const isNew = (number: number) => number > logSegment && !segments.table.has(number);
  const candidates: Segment[] = [];
  for (const number of numbers.filter(isNew)) {
    candidates.push(await segments.adopt(number, 'data', 0));
  }
  segments.nextNumber = Math.max(segments.nextNumber, catalog.nextSegment);
  const volumes = await loadVolumes(reader, catalog, problems);
  const snapshots: LoggedSnapshot[] = [];
  const { store, epoch } = superblock;
  const { nextVolume } = catalog;
  const context = { engine, segments, store, epoch, volumes, nextVolume, snapshots };
  const { end, problems: losses } = await replay(context, catalog.streams.data, candidates);
  if (problems.length + losses.length > 0) {
    problems.push(...snapshots.map(({ entry }) => `the map of ${entry.name} is not stored yet`));
  }
  const spent = [
    ...numbers.filter((number) => !segments.table.has(number)),
    ...candidates.filter(({ usedBytes }) => usedBytes === 0).map(({ number }) => number),
  ];
  return {
    ...files,
    superblock,
    catalog,
    volumes,
    loggedSnapshots: snapshots,
    logEnd: end,
    nodeEnd: afterCatalog(superblock, catalog),
    indexSegments,
    leftovers: spent.filter((number) => number < catalog.nextSegment),
    unused: spent.filter((number) => number >= catalog.nextSegment),
    problems: [...problems, ...losses],
  };
}

/** Takes up the segments that the catalog lists. @param problems receives what is missing */
async function adoptListed(
  { segments, engine }: LoadParts,
  catalog: Catalog,
  numbers: readonly number[],
  problems: string[],
): Promise<void> {
  for (const { number, stream, usedBytes, sealed, condemnedIn } of catalog.segments) {
    if (!numbers.includes(number)) {
      problems.push(`segment ${number} is missing`);
      continue;
    }
    const known = segments.table.get(number);
    const segment = known ?? (await segments.adopt(number, stream, usedBytes));
    Object.assign(segment, { usedBytes, sealed, condemnedIn });
    if (condemnedIn > 0) engine.condemn(number);
  }
}

/** @param problems receives which maps are damaged */
async function loadVolumes(
  reader: BlockReader,
  catalog: Catalog,
  problems: string[],
): Promise<Map<number, Volume>> {
  const volumes = new Map<number, Volume>();
  for (const entry of catalog.volumes) {
    try {
      volumes.set(entry.id, await loadVolume(reader, entry, entry.root));
    } catch (error) {
      // That may pass.
      if (error instanceof BlobUnreachableError) throw error;
      problems.push(`the map of ${entry.name} is damaged: ${(error as Error).message}`);
    }
  }
  return volumes;
}

function afterCatalog({ segment, offset, length }: Superblock, catalog: Catalog): StreamPosition {
  const { sequence } = catalog.streams.node;
  return { segment, offset: offset + length, sequence: sequence + 1 };
}

/** What is written from now on, and the log that is replayed, enter the index by themselves. */
function indexAll({ engine, segments }: LoadParts, store: Uint8Array): () => Promise<string[]> {
  const ends = [...segments.table.values()]
    .filter(({ condemnedIn }) => condemnedIn === 0)
    .map((segment) => ({ segment, end: segment.usedBytes }))
    // The newest last: what is there twice was perhaps stored anew because the first is damaged.
    .toSorted((a, b) => a.segment.number - b.segment.number);
  return async () => {
    const problems: string[] = [];
    const memory = new RecordMemory();
    for (const { segment, end } of ends) {
      try {
        problems.push(...(await indexSegment({ engine, store }, segment, end, memory)));
      } catch (error) {
        problems.push(`segment ${segment.number}: ${(error as Error).message}`);
      }
    }
    return problems;
  };
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** @throws {DamageError} its root cannot be read */
export async function loadVolume(
  reader: BlockReader,
  identity: { readonly id: number; readonly name: string; readonly sizeBytes: number },
  root: RootEntry,
): Promise<Volume> {
  const reference = referenceOf(root);
  return new Volume(identity, reference, await reader.loadRoot(reference), reader.loadNode);
}

function emptyCatalog(segmentBytes: number): Catalog {
  return {
    segmentBytes,
    nextSegment: 1,
    nextVolume: 1,
    streams: { data: NOWHERE, node: NOWHERE, moved: NOWHERE },
    segments: [],
    volumes: [],
    snapshots: [],
  };
}

function unreadable(path: string, reason: string): StartupError {
  return new StartupError(
    `the store ${path} cannot be opened: ${reason}`,
    'restore its directory from a copy; do not remove anything from it',
  );
}
