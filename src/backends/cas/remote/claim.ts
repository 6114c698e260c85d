/**
 * Claims a blob store when a store is opened, and brings its content here when this disk has none.
 *
 * Which side is newer: this disk is never behind the blob store, unless another server has written
 * there since, or this directory is an old copy. Then it is refused: it may hold writes that were
 * acknowledged and are nowhere else, so a person has to decide. Of two copies of a directory the
 * first to claim goes on; the other one is refused then, even where it has as much of the log: it
 * may be another log.
 */
import { join } from 'node:path';
import { StartupError } from '../../../core/startup-error.ts';
import type { CasEngine } from '../../../native.ts';
import type { BlobStore } from '../blob-store.ts';
import { type FileLayer, ifMissing, withFile } from '../file-layer.ts';
import { readSuperblocks, SUPERBLOCK_NAME, type Superblock } from '../superblock.ts';
import { EntryCopies } from './entry-copies.ts';
import { Journal } from './journal.ts';
import { outOfDate } from './newest.ts';
import {
  describeOwner,
  isOwner,
  type OwnerFile,
  readOwnerFile,
  writeOwnerFile,
} from './owner-file.ts';
import { PersistentBlobs } from './persistent-blobs.ts';
import type { RemoteOptions } from './remote-options.ts';
import { restore } from './restore.ts';

const DISK_CODES: readonly string[] = ['EDQUOT', 'EIO', 'ENOSPC', 'ENOTSUP', 'EROFS'];

export interface ClaimParts {
  readonly files: FileLayer;
  readonly engine: CasEngine;
  readonly path: string;
  readonly options: RemoteOptions;
}

export interface Claim {
  readonly journal: Journal;
  /** Those of the store, asked again when they do not answer. */
  readonly blobs: BlobStore;
  /** Puts everything back as it was: the store could not be opened. */
  release(): Promise<void>;
}

/**
 * @throws {FencedError} another server has claimed it at the same time
 * @throws the disk's error
 * @throws {StartupError} another server has the store, this directory does not belong to it, or the
 *   blob store cannot be used
 */
export async function claimRemote(parts: ClaimParts): Promise<Claim> {
  try {
    return await claim(parts, new PersistentBlobs(parts.options.blobs));
  } catch (error) {
    throw blobStoreFailure(parts.path, error);
  }
}

/** Says of an error of a blob store whose it is, and what to do. */
export function blobStoreFailure(path: string, error: unknown): unknown {
  if (error instanceof StartupError || isOfDisk(error)) return error;
  return new StartupError(
    `the blob store of ${path} cannot be used: ${(error as Error).message}`,
    'see whether endpoint, bucket and credentials are right, and the service answers',
    { cause: error },
  );
}

/** Was it this disk that failed? No network does so. */
function isOfDisk(error: unknown): boolean {
  return DISK_CODES.includes((error as NodeJS.ErrnoException).code ?? '');
}

async function claim(parts: ClaimParts, blobs: BlobStore): Promise<Claim> {
  const { files, options, path } = parts;
  const copies = new EntryCopies(files, path);
  const journal = await Journal.read(blobs, { copies });
  for (const name of copies.used) {
    options.onTrouble(new Error(`${name} is damaged: the copy on this disk counts`));
  }
  const { image } = journal;
  const known = await readOwnerFile(parts);
  const local = await readLocal(parts);
  requireOurs(parts, journal, known, local);
  const me = describeOwner(known, journal.owner, options);
  await writeOwnerFile(parts, me);
  await journal.claim({ id: me.id, host: me.host });
  const missing = local === undefined ? image.superblock : undefined;
  const release = async (): Promise<void> => {
    // Otherwise it would be an old copy of the store from now on.
    if (missing !== undefined) await files.unlink(join(path, SUPERBLOCK_NAME)).catch(ifMissing);
    await journal.release();
  };
  try {
    await requireExclusive(journal, path);
    if (missing !== undefined) {
      const headsOnly = options.cacheBytes !== Number.POSITIVE_INFINITY;
      await restore({ ...parts, blobs, image, superblock: missing, headsOnly });
    }
    return { journal, blobs, release };
  } catch (error) {
    await release().catch(() => {});
    throw error;
  }
}

/** @throws {StartupError} another server has the store, or this directory does not belong to it */
function requireOurs(
  { options, path }: ClaimParts,
  { image: { superblock }, owner, isFree }: Journal,
  known: OwnerFile | undefined,
  local: Superblock | undefined,
): void {
  const isMine = isOwner(known, owner);
  if (owner && !isMine && !isFree && options.takeOver !== owner.id) {
    throw new StartupError(
      `the blob store of ${path} is in use by the server on ${owner.host}`,
      `stop that server; if it is gone for good, write take_over = "${owner.id}" in blob_store`,
    );
  }
  if (local === undefined) return;
  if (superblock === undefined) {
    if (!known?.isPartial) return;
    throw new StartupError(
      `${path} is only a part of a store, and the rest is not in this blob store`,
      'write the same type, bucket and prefix in blob_store as before',
    );
  }
  if (Buffer.compare(local.store, superblock.store) !== 0) {
    throw new StartupError(
      `${path} is not the store that is in its blob store`,
      'name another prefix or bucket, or another directory',
    );
  }
  if (!isMine || local.generation < superblock.generation) throw outOfDate(path);
}

/** @throws {StartupError} the service would let two servers write */
async function requireExclusive(journal: Journal, path: string): Promise<void> {
  if (await journal.isExclusive()) return;
  throw new StartupError(
    `the blob store of ${path} cannot keep two servers apart: it replaces a blob that is there`,
    'use a service that knows If-None-Match for PUT',
  );
}

async function readLocal({ files, engine, path }: ClaimParts): Promise<Superblock | undefined> {
  const opening = files.open(join(path, SUPERBLOCK_NAME), false);
  const reading = withFile(opening, (file) => readSuperblocks(file, engine, true));
  const found = await reading.catch(ifMissing);
  const newest = found?.whole[0];
  if (newest === undefined && found !== undefined && found.damaged.length > 0) {
    throw new StartupError(
      `no copy of the superblock of ${path} is intact`,
      'move the directory away to go on with what is in the blob store',
    );
  }
  return newest;
}
