/**
 * The `cas` backend: volumes by path of their store and name. Targets with the same path share a
 * store, and with it all blocks that they have in common.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockDevice, BlockRequest } from '../../core/block-device.ts';
import { DeviceLayer } from '../../core/layer.ts';
import { explainFailure, StartupError } from '../../core/startup-error.ts';
import { shareCasStore } from './shared-store.ts';
import type { CasStore } from './store.ts';
import type { StoreOptions } from './store-options.ts';
import { SUPERBLOCK_NAME } from './superblock.ts';

export { collect, whileNothingIsFreed } from './collect.ts';
export { dataExtents, diffRoots } from './diff.ts';
export { HashSet } from './hash-set.ts';
export { encodeHaveList, gatherHashes, readHaveList } from './have-list.ts';
export { openCasStore } from './open.ts';
export { BACKGROUND_BYTES_PER_SECOND, Pace } from './pace.ts';
export { DamageError } from './reader.ts';
export { type Received, receiverOptions, receiveSnapshot } from './receive.ts';
export { openBlobs } from './remote/open-blobs.ts';
export { openOwnBlobs } from './remote/owner-file.ts';
export { REMOTE_DEFAULTS } from './remote/remote-options.ts';
export type { BlobsReport } from './remote/scrub-blobs.ts';
export { scrub } from './scrub.ts';
export { sendSnapshot } from './send.ts';
export {
  openStorePaths,
  shareCasStore,
  visitOpenStore,
  whenStoreClosed,
  whenUnusedStoresClosed,
  withOpenStore,
} from './shared-store.ts';
export type { CasStore } from './store.ts';
export { type StoreHolder, StoreInUseError } from './store-in-use.ts';
export type { StoreOptions } from './store-options.ts';
export { surveyStore } from './survey.ts';
export { TransferError } from './transfer-bytes.ts';
export { encodeTransfer, IncomingTransfer, pieceBytes, type Transfer } from './transfer-stream.ts';
export { measureUsage } from './usage.ts';
export { findRoot, type StoredRoot, storedRoots } from './walk.ts';

/**
 * Is there a store in the directory `path` of this machine?
 *
 * @throws {StartupError} this user may not look
 */
export function isStore(path: string): boolean {
  try {
    statSync(join(path, SUPERBLOCK_NAME));
    return true;
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    if (failure.code === 'ENOENT' || failure.code === 'ENOTDIR') return false;
    throw explainFailure(`cannot see whether there is a store at ${path}`, failure, {
      EACCES: 'do this as the user that the server runs as, or as root',
    });
  }
}

export interface CasVolumeConfig {
  /** Of the store. */
  readonly path: string;
  readonly name: string;
  /** Least size: the volume is made, or grown, to this, and never cut. */
  readonly sizeBytes: number;
  /** Called before the volume is made, when it is missing; what it throws prevents that. */
  onMissing(what: string): void;
}

/**
 * Opens a volume for a target; creates store and volume when they are missing.
 *
 * @throws {StartupError} what is wrong with the store or the volume, and the remedy
 */
export function openCasDevice(
  { path, name, sizeBytes, onMissing }: CasVolumeConfig,
  readOnly: boolean,
  options: Partial<StoreOptions> = {},
): Promise<BlockDevice> {
  return openShared(path, options, async (store) => {
    await store.changes.settled();
    const volume = store.findVolume(name);
    if (volume === undefined) onMissing(`the store ${path} has no volume ${name}`);
    // It may have grown in a change that was undone.
    return store.openVolume(name, Math.max(sizeBytes, volume?.sizeBytes ?? 0), readOnly);
  });
}

/**
 * Opens a snapshot for a target, for reading.
 *
 * @param nameOrHash of the snapshot, or of its root
 * @throws {StartupError} what is wrong with the store, or that it has no such snapshot
 */
export function openCasSnapshot(
  path: string,
  nameOrHash: string,
  options: Partial<StoreOptions> = {},
): Promise<BlockDevice> {
  return openShared(path, options, async (store) => {
    await store.whenSnapshotsStored();
    const { snapshots } = store;
    // The root of a volume would not do: a collection frees it when the volume has changed.
    const snapshot =
      snapshots.find(({ name }) => name === nameOrHash) ??
      snapshots.find(({ root: [hash] }) => hash === nameOrHash);
    if (snapshot !== undefined) return store.openSnapshot(snapshot.name);
    throw new StartupError(
      `the store ${path} has no snapshot ${nameOrHash}`,
      'see which ones there are with aoe-server cas list, or make one with aoe-server cas snapshot',
    );
  });
}

async function openShared(
  path: string,
  options: Partial<StoreOptions>,
  open: (store: CasStore) => Promise<BlockDevice>,
): Promise<BlockDevice> {
  const { store, release } = await shareCasStore(path, options);
  try {
    return new SharedDevice(await open(store), release);
  } catch (error) {
    await release();
    throw error;
  }
}

/** Gives the store back when it is closed. */
class SharedDevice extends DeviceLayer {
  #release: (() => Promise<void>) | undefined;

  constructor(below: BlockDevice, release: () => Promise<void>) {
    super(below);
    this.#release = release;
  }

  submit(request: BlockRequest): void {
    this.below.submit(request);
  }

  override async close(): Promise<void> {
    const release = this.#release;
    this.#release = undefined;
    try {
      await this.below.close();
    } finally {
      await release?.();
    }
  }
}
