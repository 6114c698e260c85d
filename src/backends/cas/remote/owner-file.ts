/**
 * The file `owner` in the directory of a store that is kept in a blob store as well: who this is
 * there, and where that is, so that commands find it without the server's configuration.
 *
 * Each claim has an id of its own, which is here before the blob store has it. A copy of the
 * directory that was made before a claim does not know the claim's id, and is not the store's owner.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { StartupError } from '../../../core/startup-error.ts';
import { type FileLayer, hostFiles, ifMissing, readAll, withFile } from '../file-layer.ts';
import type { Owner } from './journal-entry.ts';
import { type BlobsConfig, openBlobs } from './open-blobs.ts';
import { REMOTE_DEFAULTS, type RemoteOptions } from './remote-options.ts';

const NAME = 'owner';

/** Only claims that failed, one after the other, make more than one. */
const FORMER_IDS_MAX = 16;

export interface OwnerFile extends Owner {
  /** Of claims before this one: the last that succeeded, and what may arrive there late. */
  readonly formerIds?: readonly string[];
  /** undefined when whoever opened the store last had blobs of no known kind. */
  readonly location?: BlobsConfig | undefined;
  /** undefined for no bound. */
  readonly cacheBytes?: number | undefined;
  /** Some of the store may be nowhere but in the blob store. */
  readonly isPartial: boolean;
}

interface OwnerFileParts {
  readonly files: FileLayer;
  /** Of the store. */
  readonly path: string;
}

/** Was the last claim, if there was one, made from this directory? */
export function isOwner(known: OwnerFile | undefined, last: Owner | undefined): boolean {
  return last === undefined || idsOf(known).includes(last.id);
}

/** Who we are with these options in the claim that is to follow `last`. */
export function describeOwner(
  known: OwnerFile | undefined,
  last: Owner | undefined,
  options: RemoteOptions,
): OwnerFile {
  const isBounded = options.cacheBytes !== Number.POSITIVE_INFINITY;
  const lastIds = last === undefined ? [] : [last.id];
  const formerIds = isOwner(known, last) ? [...new Set([...lastIds, ...idsOf(known)])] : [];
  return {
    id: randomBytes(16).toString('hex'),
    formerIds: formerIds.slice(0, FORMER_IDS_MAX),
    host: hostname(),
    location: options.location,
    cacheBytes: isBounded ? options.cacheBytes : undefined,
    isPartial: isBounded || known?.isPartial === true,
  };
}

/**
 * @returns undefined when the store is on this disk only
 * @throws {StartupError} it is damaged
 */
export async function readOwnerFile({
  files,
  path,
}: OwnerFileParts): Promise<OwnerFile | undefined> {
  const name = join(path, NAME);
  const bytes = await withFile(files.open(name, false), readAll).catch(ifMissing);
  if (bytes === undefined) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as OwnerFile;
  } catch (cause) {
    throw new StartupError(
      `${name} is damaged: it says who this is in the blob store`,
      'bring it back from a copy, or correct it by hand: it is JSON',
      { cause },
    );
  }
}

/**
 * Is the store on this disk only?
 *
 * @throws {StartupError} no: without its blob store some of it may be missing, and what changes is
 *   not stored there
 */
export async function requireNoOwner(parts: OwnerFileParts): Promise<void> {
  const owner = await readOwnerFile(parts);
  if (owner === undefined) return;
  const { bucket } = owner.location ?? {};
  const where = bucket === undefined ? 'a blob store' : `the blob store ${bucket}`;
  throw new StartupError(
    `${parts.path} is kept in ${where} as well and cannot be used without it`,
    owner.isPartial
      ? 'write the same type, bucket and prefix in blob_store as before'
      : `write the same blob_store as before, or remove ${join(parts.path, NAME)} to part with it`,
  );
}

/**
 * Opens the blobs that the store in a directory was kept in when it was last open, for commands.
 *
 * @returns undefined when the store is on this disk only
 * @throws {StartupError} the client library or the credentials are missing
 */
export async function openOwnBlobs(path: string): Promise<RemoteOptions | undefined> {
  const owner = await readOwnerFile({ files: hostFiles(), path });
  if (owner?.location === undefined) return undefined;
  const { location, cacheBytes = Number.POSITIVE_INFINITY } = owner;
  return { ...REMOTE_DEFAULTS, blobs: await openBlobs(location), location, cacheBytes };
}

/** Durably. */
export async function writeOwnerFile(
  { files, path }: OwnerFileParts,
  owner: OwnerFile,
): Promise<void> {
  const name = join(path, NAME);
  const bytes = new TextEncoder().encode(JSON.stringify(owner));
  // What a crash left may be longer.
  await files.unlink(`${name}.partial`).catch(ifMissing);
  await withFile(files.open(`${name}.partial`, true), (file) =>
    file.write(bytes, bytes.length, 0, true),
  );
  await files.rename(`${name}.partial`, name);
  await files.syncDirectory(path);
}

function idsOf(known: OwnerFile | undefined): readonly string[] {
  return known === undefined ? [] : [known.id, ...(known.formerIds ?? [])];
}
