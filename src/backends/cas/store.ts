import { BlockStatus } from '../../core/block-error.ts';
import { StartupError } from '../../core/startup-error.ts';
import type { CasEngine } from '../../native.ts';
import { BlockCache } from './block-cache.ts';
import { CasDevice } from './cas-device.ts';
import type { SnapshotEntry } from './catalog.ts';
import { Checkpointer, type CheckpointParts } from './checkpoint.ts';
import { CheckpointSchedule } from './checkpoint-schedule.ts';
import { ENTRY_SIZE, NODE_SIZE } from './format.ts';
import { UNUSED_WAIT_MS_MAX } from './patience.ts';
import type { BlockReader } from './reader.ts';
import type { Journal } from './remote/journal.ts';
import type { Part } from './remote/journal-entry.ts';
import type { PartCache } from './remote/part-cache.ts';
import { Replica, type ReplicaState } from './remote/replica.ts';
import type { Segment, Segments } from './segments.ts';
import { type Loaded, loadVolume } from './store-files.ts';
import type { StoreOptions, StoreStats } from './store-options.ts';
import { RecordStream, type StreamPosition } from './stream.ts';
import { mendSuperblocks, type Superblock } from './superblock.ts';
import type { Volume } from './volume.ts';
import { VolumeChanges } from './volume-changes.ts';
import { VolumeTable } from './volume-table.ts';
import { findRoot, findRootNow, type StoredRoot } from './walk.ts';
import { Writer } from './writer.ts';

/** What a tree node takes of a segment at most. */
const NODE_BYTES_MAX = ENTRY_SIZE + NODE_SIZE;
/** Nodes that a write to a block may change: more only in the first writes to a part of a volume. */
const NODES_CHANGED = 2;

export class CasStore {
  readonly path: string;
  readonly options: StoreOptions;
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly cache: BlockCache;
  readonly reader: BlockReader;
  readonly writer: Writer;
  readonly log: RecordStream;
  readonly nodes: RecordStream;
  readonly moved: RecordStream;
  /** What is damaged, for people; not empty means that the store is for reading only. */
  readonly problems: readonly string[];
  /** Settles when every segment is in the dedup index. */
  readonly indexed: Promise<void>;
  readonly #table: VolumeTable;
  readonly #checkpointer: Checkpointer;
  readonly #schedule: CheckpointSchedule;
  readonly #changes: VolumeChanges;
  readonly #loaded: Loaded;
  /** What is in the blob store, if there is one. */
  readonly journal: Journal | undefined;
  /** Keeps the blob store up with this disk, if there is one. */
  readonly #replica: Replica | undefined;
  /** What of the blob store is on this disk. */
  readonly #partCache: PartCache | undefined;
  readonly #unlock: () => void;
  /** Copies of the superblock that were damaged when it was opened; see {@link takeDamagedCopies}. */
  #untold: readonly number[];
  #work: Promise<unknown> = Promise.resolve();
  #deviceCount = 0;
  /** When the last device was closed, by the clock of `performance`; Infinity until then. */
  #unusedSinceMs = Number.POSITIVE_INFINITY;
  #closed = false;

  /** Use `openCasStore`. */
  constructor(parts: OpenParts, loaded: Loaded) {
    const { path, options, engine, segments, reader, unlock } = parts;
    this.path = path;
    this.options = options;
    this.engine = engine;
    this.segments = segments;
    this.reader = reader;
    this.#unlock = unlock;
    this.#loaded = loaded;
    this.problems = loaded.problems;
    this.#untold = loaded.foundSuperblocks.damaged;
    const superblock = { ...loaded.superblock, epoch: loaded.superblock.epoch + 1 };
    const { streams, snapshots, nextVolume } = loaded.catalog;
    this.#table = new VolumeTable(path, loaded.volumes, snapshots, nextVolume);
    this.#table.logged = loaded.loggedSnapshots;
    this.cache = new BlockCache(options.cacheBytes);
    const broken = (error: Error) => this.writer.log.fail(error);
    this.log = new RecordStream('data', segments, superblock, broken);
    this.log.resume(loaded.logEnd);
    this.nodes = new RecordStream('node', segments, superblock, broken);
    this.nodes.resume(afterCatalog(loaded));
    this.moved = new RecordStream('moved', segments, superblock, broken);
    this.moved.resume(streams.moved);
    const { batchBlocks, compress } = options;
    this.writer = new Writer({
      engine,
      segments,
      cache: this.cache,
      reader,
      log: this.log,
      batchBlocks,
      compress,
      onRecord: (length) => {
        const { changedCount, unstoredCount } = this.#table;
        // At half of what fits: there are more while it runs.
        this.#schedule.logged(length, changedCount, !this.#hasRoomForMaps(unstoredCount));
        this.#replica?.logged(length);
      },
      isGivenUp: () => performance.now() - this.#unusedSinceMs > UNUSED_WAIT_MS_MAX,
      hasRoomForMaps: (queuedCount) => this.#hasRoomForMaps(queuedCount * NODES_CHANGED),
      onFailed: options.onFailed,
    });
    this.#schedule = new CheckpointSchedule(options, (isUrgent) => this.checkpoint(isUrgent));
    this.#checkpointer = this.#newCheckpointer(superblock);
    this.#changes = new VolumeChanges({
      ...{ volumes: this.#table, checkpointer: this.#checkpointer },
      ...{ engine, reader, writer: this.writer, cache: this.cache },
    });
    this.journal = parts.journal;
    this.#partCache = parts.partCache;
    this.#replica = this.#newReplica(parts);
    segments.promisedSpares = () => this.writer.promisedSpares;
    reader.whenWritten = () => this.writer.written();
    this.indexed = this.#buildIndex();
  }

  get readOnly(): boolean {
    return this.problems.length > 0;
  }

  /** Why nothing can be written any more, if so. */
  get failure(): Error | undefined {
    return this.writer.failure;
  }

  /** How the blob store keeps up, if there is one. */
  get replica(): ReplicaState | undefined {
    return this.#replica?.state;
  }

  /** Stores a part anew whose blob is damaged. @returns false when that is not possible */
  async renewPart(segment: number, part: Part): Promise<boolean> {
    return (await this.#replica?.renew(segment, part)) ?? false;
  }

  /** The same for entries of the journal. */
  async renewJournal(): Promise<boolean> {
    return (await this.#replica?.renewJournal()) ?? false;
  }

  /** Those whose maps are stored; see {@link whenSnapshotsStored}. */
  get snapshots(): readonly SnapshotEntry[] {
    return this.#table.snapshots;
  }

  /** Stored roots that must stay, besides those of volumes and snapshots. */
  get takenRoots(): Iterable<StoredRoot> {
    return this.#table.takenRoots;
  }

  /** Snapshots that were taken, those included whose maps are not stored yet. */
  get snapshotCount(): number {
    return this.#table.snapshots.length + this.#table.logged.length;
  }

  get volumes(): Iterable<Volume> {
    return this.#table.values();
  }

  /** The generation of the last checkpoint. */
  get generation(): number {
    return this.#checkpointer.superblock.generation;
  }

  /** Where replay would begin. */
  get logStart(): StreamPosition {
    return this.#checkpointer.logStart;
  }

  get storeId(): Uint8Array {
    return this.#checkpointer.superblock.store;
  }

  /**
   * @returns numbers of the copies of the superblock that are damaged, or were when the store was
   * opened: it writes them anew, so each is told once
   */
  async takeDamagedCopies(): Promise<number[]> {
    const found = new Set(this.#untold);
    this.#untold = [];
    for (const number of await this.#checkpointer.findDamagedCopies()) found.add(number);
    return [...found].sort();
  }

  findVolume(name: string): Volume | undefined {
    return this.#table.find(name);
  }

  /** Waits for the changes of volumes that were asked for: until then they may be undone. */
  async whenChanged(): Promise<void> {
    await this.#work;
  }

  /**
   * Opens a volume; creates it when there is none of this name, grows it when it is smaller.
   *
   * @throws {StartupError} it is larger than asked for, or cannot be created
   */
  async openVolume(name: string, sizeBytes: number, readOnly = false): Promise<CasDevice> {
    // Nothing may be logged for a volume, or a part of it, before a catalog names it.
    await this.whenChanged();
    let volume = this.findVolume(name);
    if (volume !== undefined && volume.sizeBytes > sizeBytes) {
      throw new StartupError(
        `volume ${name} has ${volume.sizeBytes} bytes, more than ${sizeBytes}`,
        'a volume never shrinks: open it with the size that it has, or delete it',
      );
    }
    if (volume?.sizeBytes !== sizeBytes) {
      volume = await this.#exclusively(() => this.#changes.provide(name, sizeBytes));
    }
    return this.#deviceOf(volume, readOnly || this.readOnly);
  }

  /**
   * Opens a snapshot, or any stored root by its hash, for reading.
   *
   * @throws {StartupError} there is none
   */
  async openSnapshot(nameOrRoot: string): Promise<CasDevice> {
    await this.whenSnapshotsStored();
    const { name, sizeBytes, root } = findRootNow(this, nameOrRoot);
    // Before anything is waited for: it might be deleted meanwhile.
    const use = { name };
    const { openSnapshots } = this.#table;
    openSnapshots.add(use);
    try {
      const snapshot = await loadVolume(this.reader, { id: 0, name, sizeBytes }, root);
      return this.#deviceOf(snapshot, true, () => openSnapshots.delete(use));
    } catch (error) {
      openSnapshots.delete(use);
      throw error;
    }
  }

  /**
   * Makes everything written so far durable, maps included.
   *
   * @param isUrgent asked again and again; while it is not, clients are left their share of the disk
   */
  async checkpoint(isUrgent?: () => boolean): Promise<void> {
    this.#requireWritable();
    await this.#checkpointer.run(undefined, isUrgent);
  }

  /** Waits until every snapshot that was taken has its map stored, and can be read. */
  async whenSnapshotsStored(): Promise<void> {
    if (this.readOnly || this.#table.logged.length === 0) return;
    await this.#checkpointer.settled();
    if (this.#table.logged.length > 0) await this.checkpoint();
  }

  /**
   * Records the state of a volume under a name.
   *
   * @param origin the volume that the snapshot is said to be of
   * @throws when the name is taken
   */
  snapshot(volumeName: string, name: string, origin = volumeName): Promise<SnapshotEntry> {
    return this.#exclusively(async () => {
      const entry = await this.#changes.snapshot(volumeName, name, origin);
      this.#schedule.start();
      return entry;
    });
  }

  /**
   * Keeps what stored roots reach, whatever becomes of the volumes and snapshots that they are of.
   *
   * @returns a function that ends it
   */
  hold(roots: readonly StoredRoot[]): () => void {
    const { takenRoots } = this.#table;
    // Others may hold the same.
    const held = roots.map((root) => ({ ...root }));
    for (const root of held) takenRoots.add(root);
    return () => {
      for (const root of held) takenRoots.delete(root);
    };
  }

  /** Makes a new volume with the content of a snapshot, a volume, or a stored root. */
  clone(nameOrRoot: string, volumeName: string): Promise<Volume> {
    return this.#exclusively(() =>
      this.#changes.clone(() => this.#findSource(nameOrRoot), volumeName),
    );
  }

  /**
   * Gives a volume the content of a snapshot, a volume, or a stored root. No request may be in
   * flight on its devices.
   *
   * @throws {StartupError} devices are open on it and `force` is not set, or it does not fit
   */
  rollback(volumeName: string, nameOrRoot: string, force = false): Promise<void> {
    return this.#exclusively(async () =>
      this.#changes.rollback(volumeName, await this.#findSource(nameOrRoot), force),
    );
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  deleteVolume(name: string): Promise<void> {
    return this.#exclusively(() => this.#changes.deleteVolume(name));
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  deleteSnapshot(name: string): Promise<void> {
    return this.#exclusively(async () => {
      await this.whenSnapshotsStored();
      return this.#changes.deleteSnapshot(name);
    });
  }

  /**
   * Waits until what has changed so far is as durable as the options ask for: whoever asked for a
   * change may be told of it then. Every change is durable on the local disk when it is made.
   *
   * @throws {StartupError} it is not yet in the blob store
   */
  async confirm(): Promise<void> {
    if (this.#mustReachFar) await this.#replica?.reachAll();
  }

  /**
   * Gives segments back from which everything live has been moved.
   *
   * @param isUrgent see {@link checkpoint}
   * @param onNamed called when a catalog names what was moved so far
   * @throws what a checkpoint throws; they are given back all the same if it was called
   */
  async release(
    emptied: readonly Segment[],
    isUrgent: () => boolean,
    onNamed: () => void,
  ): Promise<void> {
    this.#requireWritable();
    let namedIn = Number.POSITIVE_INFINITY;
    try {
      await this.#checkpointer.run(() => {
        namedIn = this.generation + 1;
        for (const segment of emptied) segment.condemnedIn = namedIn;
      }, isUrgent);
    } finally {
      // What is not known at its new place is still needed where it was.
      if (this.generation >= namedIn) onNamed();
      else for (const segment of emptied) segment.condemnedIn = 0;
    }
    if (emptied.length > 0) await this.checkpoint(isUrgent);
  }

  stats(): StoreStats {
    const { segments, engine } = this;
    let usedBytes = 0;
    for (const segment of segments.table.values()) usedBytes += segment.usedBytes;
    return {
      usedBytes,
      physicalBytes: segments.fileCount * segments.segmentBytes,
      segmentCount: segments.table.size,
      spareCount: segments.spareCount,
      indexCount: engine.indexCount(),
      indexBytes: engine.indexBytes(),
      logBytes: this.#schedule.logBytes,
      generation: this.generation,
    };
  }

  /** Writes out what is dirty and releases the files. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unusedSinceMs = Math.min(this.#unusedSinceMs, performance.now());
    await this.#schedule.close();
    try {
      await this.#work;
      if (!this.readOnly && this.failure === undefined) await this.checkpoint();
    } finally {
      await this.#checkpointer.settled();
      await this.#replica?.close();
      await this.#partCache?.close();
      await this.closeFiles();
    }
  }

  /** Releases the files as a crash does: nothing is written out. */
  async closeFiles(): Promise<void> {
    await this.indexed;
    // A write that came later would damage what the next to open the store has written.
    await this.writer.settled();
    await this.segments.close();
    await this.#loaded.superblockFile.close();
    this.#unlock();
  }

  /** Stops storing in the blob store at once, as a crash does. */
  async abandonRemote(): Promise<void> {
    await this.#replica?.abandon();
    await this.#partCache?.close();
  }

  /** What the first checkpoint after opening needs; see {@link openCasStore}. */
  async start(): Promise<void> {
    const { leftovers, unused, superblockFile, foundSuperblocks } = this.#loaded;
    const { onProblem } = this.options;
    for (const problem of this.problems) onProblem(problem);
    if (this.readOnly) return;
    for (const number of foundSuperblocks.damaged) {
      onProblem(
        `copy ${number} of the superblock is damaged; it is written anew from the other one`,
      );
    }
    await mendSuperblocks(superblockFile, this.engine, foundSuperblocks);
    await this.log.syncFound();
    await this.segments.tidy();
    for (const number of leftovers) await this.segments.forget(number);
    // Crashes of a full store may have left no other room for the checkpoint.
    await this.segments.takeUnused(unused);
    // What is written at once would have to wait for it.
    if (this.segments.spareCount === 0) await this.segments.replenish();
    await this.checkpoint();
    // Only now: the superblock before the last may have needed them.
    for (const number of leftovers) await this.segments.recycle(number);
    await this.segments.recycleUnused();
    void this.segments.replenish();
  }

  /** Runs one change of volumes and snapshots at a time. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(() => {
      this.#requireWritable();
      return work();
    });
    this.#work = result.catch(() => {});
    return result;
  }

  /** Finds what a volume is to get; of another volume, or itself, what was written to it so far. */
  async #findSource(nameOrRoot: string): Promise<StoredRoot> {
    if (this.findVolume(nameOrRoot) !== undefined) await this.checkpoint();
    return findRoot(this, nameOrRoot);
  }

  #requireWritable(): void {
    if (this.readOnly) throw new Error(`the store ${this.path} is damaged and for reading only`);
    if (this.failure !== undefined) throw this.failure;
  }

  /** Would a checkpoint find room for all maps, with so many more changed nodes? */
  #hasRoomForMaps(moreCount: number): boolean {
    const { nodes, segments, options } = this;
    const nodesMax = (nodes.roomBytes + segments.nodeRoomBytes) / NODE_BYTES_MAX;
    // There is nearly always so much that they need not be counted.
    if (nodesMax > 4 * options.checkpointNodes + moreCount) return true;
    return this.#table.unstoredCount + moreCount <= nodesMax;
  }

  /** @returns whether there is room for writes that have found none */
  readonly #makeRoom = async (): Promise<boolean> => {
    if (!this.#hasRoomForMaps(NODES_CHANGED)) await this.checkpoint().catch(() => {});
    return this.writer.hasRoom || (await this.options.makeRoom());
  };

  #newCheckpointer(superblock: Superblock): Checkpointer {
    const { engine, segments, writer, log, nodes, moved, options } = this;
    const { catalog, superblockFile } = this.#loaded;
    const parts: CheckpointParts = {
      ...{ engine, segments, writer, log, nodes, moved, superblockFile },
      volumes: this.#table,
      batchBlocks: options.batchBlocks,
      nodeCountMax: options.nodeCountMax,
      isReplica: options.remote !== undefined,
      onFrozen: () => this.#schedule.begun(),
      onDurable: (...durable) => this.#replica?.checkpointed(...durable),
      isNeeded: (segment) => this.#replica?.needs(segment) ?? false,
    };
    return new Checkpointer(parts, superblock, catalog.streams.data);
  }

  #newReplica({ journal, partCache: cache }: OpenParts): Replica | undefined {
    const { engine, segments, log } = this;
    const options = this.options.remote;
    if (!journal || !cache || !options || this.readOnly) return undefined;
    const onFailed = (error: Error) => this.writer.log.fail(error);
    return new Replica({ journal, engine, segments, log, cache, options, onFailed });
  }

  /** Must what is confirmed be in the blob store? */
  get #mustReachFar(): boolean {
    return this.options.remote?.durability === 'remote' || this.#replica?.isBehind === true;
  }

  /** Makes what was written so far as durable as the options ask for. */
  readonly #flushFar = (done: (status: BlockStatus) => void): void => {
    this.writer.flush((status) => {
      const replica = this.#replica;
      if (replica !== undefined && status === BlockStatus.ok && this.#mustReachFar) {
        replica.reach(this.log.durableSequence, done);
      } else {
        done(status);
      }
    });
  };

  #deviceOf(volume: Volume, readOnly: boolean, onClose: () => void = () => {}): CasDevice {
    const { cache, reader, writer, segments } = this;
    volume.users++;
    this.#deviceCount++;
    this.#unusedSinceMs = Number.POSITIVE_INFINITY;
    return new CasDevice(volume, {
      cache,
      reader,
      writer,
      segments,
      readOnly,
      makeRoom: this.#makeRoom,
      flush: this.#flushFar,
      onMapRead: () => this.#sweepWhenCrowded(volume),
      reportDamage: ({ name }, lba, error) => {
        this.options.onDamage({ volume: name, lba, error });
      },
      onClose: async () => {
        volume.users--;
        if (--this.#deviceCount === 0) this.#unusedSinceMs = performance.now();
        onClose();
        if (!readOnly && this.failure === undefined && !this.#closed) await this.writer.flushed();
      },
    });
  }

  /** Checkpoints see to that as well, but there are none while nothing is written. */
  #sweepWhenCrowded({ tree }: Volume): void {
    const { nodeCountMax } = this.options;
    if (!tree.isCrowded(nodeCountMax)) return;
    this.writer.atBoundary(() => {
      if (tree.isCrowded(nodeCountMax)) tree.sweep();
    });
  }

  async #buildIndex(): Promise<void> {
    for (const problem of await this.#loaded.indexSegments()) {
      this.options.onFailed(new Error(problem));
    }
  }
}

export interface OpenParts {
  readonly path: string;
  readonly options: StoreOptions;
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly reader: BlockReader;
  /** Of the blob store, claimed. */
  readonly journal: Journal | undefined;
  readonly partCache: PartCache | undefined;
  unlock(): void;
}

/** Nodes go on behind the catalog, which is the last record of theirs that counts. */
function afterCatalog({ superblock, catalog }: Loaded): StreamPosition {
  const { segment, offset, length } = superblock;
  const { sequence } = catalog.streams.node;
  return { segment, offset: offset + length, sequence: sequence + 1 };
}
