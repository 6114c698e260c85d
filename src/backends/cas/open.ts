/** Opens a store: files, engine, recovery, first checkpoint. */
import { join } from 'node:path';
import { explainFailure } from '../../core/startup-error.ts';
import { native } from '../../native.ts';
import { hostFiles } from './file-layer.ts';
import { BLOCK_SIZE, FANOUT, NODE_SIZE, recordSizeMax } from './format.ts';
import { BlockReader } from './reader.ts';
import { blobStoreFailure, type Claim, claimRemote } from './remote/claim.ts';
import { requireNewest } from './remote/newest.ts';
import { requireNoOwner } from './remote/owner-file.ts';
import { PartCache } from './remote/part-cache.ts';
import { Segments } from './segments.ts';
import { CasStore } from './store.ts';
import { type Loaded, loadStore } from './store-files.ts';
import { holderNote, readHolder, StoreInUseError } from './store-in-use.ts';
import { STORE_DEFAULTS, type StoreOptions } from './store-options.ts';
import { mendSuperblocks } from './superblock.ts';

const NO_ROOM = 'free room on its file system, or put the store on a larger one';
const REMEDIES: Readonly<Record<string, string>> = {
  AOE_BLOB_UNREACHABLE: 'see whether the service of its blob store answers',
  EACCES: 'let the user that runs aoe-server read and write it',
  EDQUOT: NO_ROOM,
  EIO: 'see in the log of the kernel what is wrong with its disk',
  ELOOP: 'put the file itself in the place of the symbolic link',
  ENOENT: 'see that the folder it is to lie in is there and can be written',
  ENOSPC: NO_ROOM,
  ENOTDIR: 'name a directory',
  ENOTSUP: 'put it on a file system that can reserve room (fallocate), such as ext4, XFS or Btrfs',
  EROFS: 'mount its file system for writing',
};

/**
 * Opens a store; creates it when its directory is empty or missing.
 *
 * @throws {StoreInUseError} another process has it
 * @throws {StartupError} it is damaged beyond reading, or its file system refuses something
 */
export async function openCasStore(
  path: string,
  given: Partial<StoreOptions> = {},
): Promise<CasStore> {
  try {
    return await open(path, { ...STORE_DEFAULTS, ...given, files: given.files ?? hostFiles() });
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    if (REMEDIES[failure.code ?? ''] === undefined) throw error;
    throw explainFailure(`cannot open the store ${path}`, failure, REMEDIES);
  }
}

async function open(path: string, options: StoreOptions): Promise<CasStore> {
  const { files, segmentBytes } = options;
  const directory = join(path, 'segments');
  // It may throw, and what follows would have the lock to give back.
  const engine = new native.CasEngine(options.indexBytesMax);
  await files.makeDirectory(directory);
  const unlock = await files.lock(join(path, 'lock'), holderNote(path, options.controlPath));
  if (typeof unlock === 'string') throw new StoreInUseError(path, readHolder(unlock));
  const segments = new Segments(files, engine, directory, {
    segmentBytes,
    countMax: Math.floor(options.capacityBytes / segmentBytes),
    spareCount: options.spareCount,
    recordBytesMax: Math.max(
      recordSizeMax(options.batchBlocks, BLOCK_SIZE),
      recordSizeMax(Math.min(FANOUT, options.batchBlocks), NODE_SIZE),
    ),
  });
  const reader = new BlockReader(engine);
  let claim: Claim | undefined;
  let partCache: PartCache | undefined;
  let store: CasStore | undefined;
  let loaded: Loaded | undefined;
  const closeFiles = async () => {
    await segments.close();
    await loaded?.superblockFile.close();
    await unlock();
  };
  try {
    const { remote } = options;
    if (remote === undefined) {
      await requireNoOwner({ files, path });
    } else {
      claim = await claimRemote({ files, engine, path, options: remote });
      const { journal, blobs } = claim;
      const { cacheBytes, onTrouble } = remote;
      partCache = new PartCache({ journal, blobs, engine, segments, cacheBytes, onTrouble });
      reader.frames = partCache;
    }
    const isReplica = claim !== undefined;
    const loadParts = { files, engine, segments, reader, path, isReplica };
    loaded = await loadStore(loadParts);
    if (claim !== undefined) {
      const { journal, blobs } = claim;
      const lost = await requireNewest(loadParts, journal.image, blobs).catch((error) => {
        throw blobStoreFailure(path, error);
      });
      loaded = { ...loaded, problems: [...loaded.problems, ...lost] };
    }
    partCache?.checkpointed(loaded.catalog);
    const journal = claim?.journal;
    const parts = { path, options, engine, segments, reader, journal, partCache, closeFiles };
    store = new CasStore(parts, loaded);
    await start(store, loaded);
    return store;
  } catch (error) {
    await store?.abandonRemote();
    await partCache?.close();
    await claim?.release().catch(() => {});
    await closeFiles();
    throw error;
  }
}

/** Makes the first checkpoint. Only from then on may anything be written. */
async function start(store: CasStore, loaded: Loaded): Promise<void> {
  const { problems, engine, log, segments, options } = store;
  const { leftovers, unused, superblockFile, foundSuperblocks } = loaded;
  const { onProblem } = options;
  for (const problem of problems) onProblem(problem);
  if (store.readOnly) return;
  for (const number of foundSuperblocks.damaged) {
    onProblem(`copy ${number} of the superblock is damaged; it is written anew from the other one`);
  }
  await mendSuperblocks(superblockFile, engine, foundSuperblocks);
  await log.syncFound();
  await segments.spares.tidy();
  for (const number of leftovers) await segments.forget(number);
  // Crashes of a full store may have left no other room for the checkpoint.
  await segments.takeUnused(unused);
  // What is written at once would have to wait for it.
  if (segments.spares.count === 0) await segments.spares.replenish();
  await store.checkpoint();
  // Only now: the superblock before the last may have needed them.
  for (const number of leftovers) await segments.recycle(number);
  await segments.recycleUnused();
  void segments.spares.replenish();
}
