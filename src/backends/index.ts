/** The backends by name: from a target's configuration to its device. */
import assert from 'node:assert';
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import type {
  BackendConfig,
  CasBackendConfig,
  FileBackendConfig,
  RemoteStoreConfig,
} from '../config/config.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { StartupError } from '../core/startup-error.ts';
import { whenOpens } from './answer.ts';
import {
  isStore,
  openBlobs,
  openCasDevice,
  openCasSnapshot,
  REMOTE_DEFAULTS,
  type StoreOptions,
} from './cas/index.ts';
import { openHostDevice, tryHostDevice } from './device.ts';
import { openFileDevice, tryFileImage } from './file.ts';
import type { FileIo } from './file-io.ts';
import { openMemoryDevice } from './memory.ts';

export { whenStoreClosed } from './cas/index.ts';
export { keepImageName } from './file.ts';

export interface BackendOptions {
  readonly io: FileIo;
  /** The target's name, which names its volume in a store. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Where commands reach this server. */
  readonly controlPath: string;
  /**
   * Called when writes to a store have to wait for room.
   *
   * @returns whether there is some now; if not, they are refused
   */
  makeRoom(storePath: string): Promise<boolean>;
  /**
   * Called before a disk is made that is not there.
   *
   * @param what is missing, for people
   * @throws what is thrown instead of making it
   */
  onMissing(what: string): void;
  /** Storage has failed, or is found damaged, in a way that no request tells. */
  onTrouble(problem: string, error?: Error): void;
}

/**
 * Opens the storage of one target.
 *
 * @throws {StartupError} it cannot be opened as configured
 */
export async function openBackend(
  backend: BackendConfig,
  options: BackendOptions,
): Promise<BlockDevice> {
  const { io, readOnly } = options;
  switch (backend.type) {
    case 'file':
      if (isToBeMade(backend, readOnly)) options.onMissing(`${backend.path} is missing`);
      return openFileDevice(io, backend, readOnly);
    case 'device':
      return openHostDevice(io, backend, readOnly);
    case 'memory':
      return openMemoryDevice(io, backend.sizeBytes, readOnly);
    case 'cas':
      return openCasBackend(backend, options);
  }
}

/**
 * Looks whether storage that is there can be opened, as far as that can be seen: it may be in use.
 *
 * @returns bytes of the disk that are there; undefined where only its store knows
 * @throws {StartupError} it is not there, or could not be opened
 */
export function tryBackend(backend: BackendConfig, readOnly: boolean): number | undefined {
  switch (backend.type) {
    case 'file':
      return tryFileImage(backend, readOnly);
    case 'device':
      return tryHostDevice(backend, readOnly);
    case 'memory':
      return backend.sizeBytes;
    case 'cas':
      requireStore(backend.blobStore);
      return undefined;
  }
}

/** Settles when storage can be opened, or when that fails: never while it hangs. */
export async function whenAnswered(backend: BackendConfig): Promise<void> {
  switch (backend.type) {
    case 'memory':
      return;
    case 'file':
      // Its folder may belong to somebody who would have us open something else.
      return whenOpens(backend.path, constants.O_NOFOLLOW);
    case 'device':
      return whenOpens(backend.path);
    case 'cas':
      return whenOpens(backend.blobStore.path);
  }
}

/** The store that a target's storage is in, and that of other targets may be, too. */
export function storePathOf(backend: BackendConfig): string | undefined {
  return backend.type === 'cas' ? backend.blobStore.path : undefined;
}

function isToBeMade({ path, sizeBytes }: FileBackendConfig, readOnly: boolean): boolean {
  return sizeBytes !== undefined && !readOnly && !existsSync(path);
}

/** @throws {StartupError} there is no store, or this user may not open it */
function requireStore({ type, path }: CasBackendConfig['blobStore']): void {
  requireStoreAccess(path);
  // One that is missing on this disk comes from its blob store.
  if (type === 'file' && !isStore(path)) {
    throw new StartupError(
      `there is no store in ${path}, and an empty one cannot take the place of a disk that is served`,
      'see whether the path is right and its file system is mounted',
    );
  }
}

/** @throws {StartupError} this user may not open the store at `path` */
function requireStoreAccess(path: string): void {
  try {
    accessSync(join(path, 'lock'), constants.R_OK | constants.W_OK);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    // Without the file there is no store yet.
    if (code === 'ENOENT') return;
    const remedy = 'let the user that runs aoe-server read and write it';
    throw new StartupError(`cannot open the store ${path}: ${message}`, remedy, { cause });
  }
}

async function openCasBackend(
  { blobStore, sizeBytes, root }: CasBackendConfig,
  { name, readOnly, controlPath, makeRoom, onMissing, onTrouble }: BackendOptions,
): Promise<BlockDevice> {
  const { path, indexMemoryBytes } = blobStore;
  const storeOptions: Partial<StoreOptions> = {
    controlPath,
    ...(indexMemoryBytes === undefined ? {} : { indexBytesMax: indexMemoryBytes }),
    remote: blobStore.type === 'file' ? undefined : await remoteOf(blobStore, onTrouble),
    makeRoom: () => makeRoom(path),
    onFailed: (error) => onTrouble('the store has failed', error),
    onProblem: (problem) => onTrouble(`the store is damaged: ${problem}`),
    onDamage: (damage) => onTrouble(`the store is damaged: ${JSON.stringify(damage)}`),
  };
  if (root !== undefined) return openCasSnapshot(path, root, storeOptions);
  assert(sizeBytes !== undefined);
  return openCasDevice({ path, name, sizeBytes, onMissing }, readOnly, storeOptions);
}

async function remoteOf(
  store: RemoteStoreConfig,
  onTrouble: BackendOptions['onTrouble'],
): Promise<StoreOptions['remote']> {
  const { type, endpoint, region, bucket, prefix, cacheSizeBytes, lagBytesMax } = store;
  const location = { type, endpoint, region, bucket, prefix };
  return {
    ...REMOTE_DEFAULTS,
    blobs: await openBlobs(location),
    location,
    durability: store.durability,
    takeOver: store.takeOver,
    cacheBytes: cacheSizeBytes ?? REMOTE_DEFAULTS.cacheBytes,
    lagBytesMax: lagBytesMax ?? REMOTE_DEFAULTS.lagBytesMax,
    onTrouble: (error) =>
      onTrouble('the blob store does not have the latest yet; trying again', error),
    onLocalDamage: (error) =>
      onTrouble('the blob store cannot be kept up: the local disk is damaged', error),
    onLag: (isWaiting) =>
      onTrouble(
        isWaiting
          ? 'the blob store is behind by more than lag_max: writes wait for it'
          : 'the blob store has caught up: writes do not wait for it any more',
      ),
  };
}
