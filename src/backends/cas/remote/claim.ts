/**
 * Claims a blob store when a store is opened, and brings its content here when this disk has none.
 *
 * Which side is newer: this disk is never behind the blob store, unless another server has written
 * there since, or this directory is an old copy. Then it is refused: it may hold writes that were
 * acknowledged and are nowhere else, so a person has to decide.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { StartupError } from '../../../core/startup-error.ts';
import type { CasEngine } from '../../../native.ts';
import type { BlobStore } from '../blob-store.ts';
import type { FileLayer } from '../file-layer.ts';
import { type Segments, segmentName } from '../segments.ts';
import {
  readSuperblocks,
  SUPERBLOCK_NAME,
  type Superblock,
  writeSuperblock,
} from '../superblock.ts';
import { type Image, Journal, type Owner, type Part, partName } from './journal.ts';
import { PersistentBlobs } from './persistent-blobs.ts';
import type { RemoteOptions } from './remote-options.ts';

const OWNER_NAME = 'owner';
const DOWNLOADS_MAX = 4;

export interface ClaimParts {
  readonly files: FileLayer;
  readonly engine: CasEngine;
  readonly path: string;
  readonly options: RemoteOptions;
}

/**
 * @throws {StartupError} another server has the store, this directory does not belong to it, or the
 *   blob store cannot be used
 */
export async function claimRemote(parts: ClaimParts): Promise<Journal> {
  try {
    return await claim(parts, new PersistentBlobs(parts.options.blobs));
  } catch (error) {
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `the blob store of ${parts.path} cannot be used: ${(error as Error).message}`,
      'see whether endpoint, bucket and credentials are right, and the service answers',
      { cause: error },
    );
  }
}

async function claim(parts: ClaimParts, blobs: BlobStore): Promise<Journal> {
  const { options, path } = parts;
  const journal = await Journal.read(blobs);
  const { image } = journal;
  const me = await readOwner(parts);
  const local = await readLocal(parts);
  const owner = journal.owner ?? me;
  const isMine = owner.id === me.id;
  if (!isMine && !journal.isFree && options.takeOver !== owner.id) {
    throw new StartupError(
      `the blob store of ${path} is in use by the server on ${owner.host}`,
      `stop that server; if it is gone for good, write take_over = "${owner.id}" in blob_store`,
    );
  }
  if (local !== undefined && image.superblock !== undefined) {
    if (Buffer.compare(local.store, image.superblock.store) !== 0) {
      throw new StartupError(
        `${path} is not the store that is in its blob store`,
        'name another prefix or bucket, or another directory',
      );
    }
    if (!isMine || local.generation < image.superblock.generation) throw outOfDate(path);
  }
  await journal.claim(me);
  if (!(await journal.isExclusive())) {
    throw new StartupError(
      `the blob store of ${path} cannot keep two servers apart: it replaces a blob that is there`,
      'use a service that knows If-None-Match for PUT',
    );
  }
  if (local === undefined && image.superblock !== undefined) {
    await restore(parts, blobs, image, image.superblock);
  }
  await sweep(blobs, journal.image);
  return journal;
}

/**
 * Is everything here that the blob store has of the log?
 *
 * @throws {StartupError} no: this disk has lost what it had said to be durable, or was put back
 */
export function requireNewest(path: string, { segments }: Image, local: Segments): void {
  for (const [number, parts] of segments) {
    const segment = local.table.get(number);
    const end = parts.at(-1)?.[1] ?? 0;
    if (number >= local.nextNumber) throw outOfDate(path);
    if (segment?.stream === 'data' && end > segment.usedBytes) throw outOfDate(path);
  }
}

function outOfDate(path: string): StartupError {
  return new StartupError(
    `${path} is out of date: its blob store has more`,
    'move the directory away to go on with what is in the blob store',
  );
}

async function readLocal({ files, engine, path }: ClaimParts): Promise<Superblock | undefined> {
  const file = await files.open(join(path, SUPERBLOCK_NAME), false).catch(ifMissing);
  if (file === undefined) return undefined;
  const [newest] = await readSuperblocks(file, engine);
  await file.close();
  return newest;
}

/** Who we are; decided when this directory first meets a blob store. */
async function readOwner({ files, path }: ClaimParts): Promise<Owner> {
  const name = join(path, OWNER_NAME);
  const known = await files.open(name, false).catch(ifMissing);
  if (known !== undefined) {
    const bytes = new Uint8Array(await known.size());
    await known.read(bytes, 0);
    await known.close();
    return JSON.parse(new TextDecoder().decode(bytes)) as Owner;
  }
  const owner = { id: randomBytes(16).toString('hex'), host: hostname() };
  const bytes = new TextEncoder().encode(JSON.stringify(owner));
  const file = await files.open(`${name}.partial`, true);
  await file.write(bytes, bytes.length, 0, true);
  await file.close();
  await files.rename(`${name}.partial`, name);
  await files.syncDirectory(path);
  return owner;
}

/** Writes what is in the blob store to this disk; the superblock last, as it makes it a store. */
async function restore(
  parts: ClaimParts,
  blobs: BlobStore,
  image: Image,
  superblock: Superblock,
): Promise<void> {
  const { files, engine, path } = parts;
  const rest = image.segments.entries();
  await Promise.all(
    Array.from({ length: DOWNLOADS_MAX }, async () => {
      for (const [number, stored] of rest) {
        await restoreSegment(parts, blobs, image.segmentBytes, number, stored);
      }
    }),
  );
  await files.syncDirectory(join(path, 'segments'));
  const file = await files.open(join(path, SUPERBLOCK_NAME), true);
  await writeSuperblock(file, engine, superblock);
  await file.close();
  await files.syncDirectory(path);
}

async function restoreSegment(
  { files, path }: ClaimParts,
  blobs: BlobStore,
  segmentBytes: number,
  number: number,
  stored: readonly Part[],
): Promise<void> {
  const file = await files.open(join(path, 'segments', segmentName(number)), true);
  try {
    await file.allocate(segmentBytes);
    for (const part of stored) {
      const [from, to] = part;
      const name = partName(number, part);
      const bytes = await getWhole(blobs, name, to - from);
      await file.write(bytes, bytes.length, from, false);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function getWhole(blobs: BlobStore, name: string, length: number): Promise<Uint8Array> {
  const bytes = await blobs.getRange(name, 0, length);
  if (bytes.length !== length) throw new Error(`${name} is too short`);
  return bytes;
}

/** Removes what an interrupted round has left behind: whoever wrote it is fenced by now. */
async function sweep(blobs: BlobStore, { segments }: Image): Promise<void> {
  const named = new Set<string>();
  for (const [number, parts] of segments) for (const p of parts) named.add(partName(number, p));
  for await (const { name } of blobs.list('segment-')) {
    if (!named.has(name)) await blobs.delete(name);
  }
}

function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
