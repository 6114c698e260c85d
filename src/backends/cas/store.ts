/**
 * A store that is open, and what can be done with it.
 *
 * Invariants:
 * - Nothing is written to a store in which something is damaged, nor after a write of the log has
 *   failed.
 * - What is confirmed, a flush or a change, is as durable as the options ask for: on the local disk,
 *   or in the blob store as well.
 * - Files are released when nothing writes to them any more.
 */
import { StartupError } from '../../core/startup-error.ts';
import type { CasEngine } from '../../native.ts';
import type { BlockCache } from './block-cache.ts';
import type { CasDevice } from './cas-device.ts';
import type { SnapshotEntry } from './catalog.ts';
import type { Checkpointer } from './checkpoint.ts';
import type { CheckpointSchedule } from './checkpoint-schedule.ts';
import type { OpenDevices } from './open-devices.ts';
import type { BlockReader } from './reader.ts';
import type { RecordParts } from './records.ts';
import type { Journal } from './remote/journal.ts';
import type { PartCache } from './remote/part-cache.ts';
import type { Replica } from './remote/replica.ts';
import type { Segment, Segments } from './segments.ts';
import type { Loaded } from './store-files.ts';
import type { StoreOptions, StoreStats } from './store-options.ts';
import { assemble, type OpenParts } from './store-parts.ts';
import type { RecordStream, StreamPosition } from './stream.ts';
import type { Volume } from './volume.ts';
import { VolumeChanges } from './volume-changes.ts';
import type { VolumeTable } from './volume-table.ts';
import { findRoot, findRootNow, type StoredRoot } from './walk.ts';
import type { Writer } from './writer.ts';

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
  readonly changes: VolumeChanges;
  readonly #table: VolumeTable;
  readonly #checkpointer: Checkpointer;
  readonly #schedule: CheckpointSchedule;
  readonly #devices: OpenDevices;
  /** What is in the blob store, if there is one. */
  readonly journal: Journal | undefined;
  /** Keeps the blob store up with this disk, if there is one. */
  readonly replica: Replica | undefined;
  /** What of the blob store is on this disk. */
  readonly #partCache: PartCache | undefined;
  readonly #closeFiles: () => Promise<void>;
  #closed = false;

  /** Use `openCasStore`. */
  constructor(opened: OpenParts, loaded: Loaded) {
    this.path = opened.path;
    this.options = opened.options;
    this.engine = opened.engine;
    this.segments = opened.segments;
    this.reader = opened.reader;
    this.journal = opened.journal;
    this.#partCache = opened.partCache;
    this.#closeFiles = opened.closeFiles;
    this.problems = loaded.problems;
    const parts = assemble(opened, loaded, (isUrgent) => this.checkpoint(isUrgent));
    this.log = parts.log;
    this.nodes = parts.nodes;
    this.moved = parts.moved;
    this.cache = parts.cache;
    this.writer = parts.writer;
    this.replica = parts.replica;
    this.#table = parts.volumes;
    this.#checkpointer = parts.checkpointer;
    this.#schedule = parts.schedule;
    this.#devices = parts.devices;
    this.changes = new VolumeChanges({
      ...parts,
      engine: this.engine,
      reader: this.reader,
      requireWritable: () => this.#requireWritable(),
      whenSnapshotsStored: () => this.whenSnapshotsStored(),
      findRoot: (nameOrHash) => findRoot(this, nameOrHash),
      onSnapshot: () => this.#schedule.start(),
    });
    this.indexed = this.#buildIndex(loaded);
  }

  get readOnly(): boolean {
    return this.problems.length > 0;
  }

  /** Why nothing can be written any more, if so. */
  get failure(): Error | undefined {
    return this.writer.failure;
  }

  /** Those whose maps are stored; see {@link whenSnapshotsStored}. */
  get snapshots(): readonly SnapshotEntry[] {
    return this.#table.snapshots;
  }

  /** Stored roots that must stay, besides those of volumes and snapshots. */
  get heldRoots(): Iterable<StoredRoot> {
    return this.#table.heldRoots;
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

  /** Does nothing of a segment count any more? Its file may be there for a while. */
  isFreed(segment: Segment): boolean {
    const { number, condemnedIn } = segment;
    const isCondemned = condemnedIn > 0 && condemnedIn <= this.generation;
    return isCondemned || this.segments.table.get(number) !== segment;
  }

  /** Where replay would begin. */
  get logStart(): StreamPosition {
    return this.#checkpointer.logStart;
  }

  /** What its records are read with. */
  get recordParts(): RecordParts {
    return { engine: this.engine, store: this.#checkpointer.superblock.store };
  }

  /** See {@link Checkpointer.damagedCopies}. */
  damagedCopies(): Promise<number[]> {
    return this.#checkpointer.damagedCopies();
  }

  /** See {@link Checkpointer.toldDamagedCopies}. */
  toldDamagedCopies(): void {
    this.#checkpointer.toldDamagedCopies();
  }

  findVolume(name: string): Volume | undefined {
    return this.#table.find(name);
  }

  /**
   * Opens a volume; creates it when there is none of this name, grows it when it is smaller.
   *
   * @throws {StartupError} it is larger than asked for, or cannot be created
   */
  async openVolume(name: string, sizeBytes: number, readOnly = false): Promise<CasDevice> {
    // Nothing may be logged for a volume, or a part of it, before a catalog names it.
    await this.changes.settled();
    let volume = this.findVolume(name);
    if (volume !== undefined && volume.sizeBytes > sizeBytes) {
      throw new StartupError(
        `volume ${name} has ${volume.sizeBytes} bytes, more than ${sizeBytes}`,
        'a volume never shrinks: open it with the size that it has, or delete it',
      );
    }
    if (volume?.sizeBytes !== sizeBytes) {
      volume = await this.changes.provide(name, sizeBytes);
    }
    return this.#devices.open(volume, readOnly || this.readOnly);
  }

  /**
   * Opens a snapshot, or any stored root by its hash, for reading.
   *
   * @throws {StartupError} there is none
   */
  async openSnapshot(nameOrRoot: string): Promise<CasDevice> {
    await this.whenSnapshotsStored();
    return this.#devices.openStored(findRootNow(this, nameOrRoot));
  }

  /**
   * Makes everything written so far durable, and stores the maps of what was in the log before.
   *
   * @param isUrgent asked again and again; while it is not, clients are left their share of the disk
   */
  async checkpoint(isUrgent?: () => boolean): Promise<void> {
    this.#requireWritable();
    await this.#checkpointer.run(undefined, isUrgent);
  }

  /** Stores the maps of everything written so far: for who looks at them. See {@link checkpoint}. */
  async checkpointWritten(isUrgent?: () => boolean): Promise<void> {
    await this.writer.flushed();
    await this.checkpoint(isUrgent);
  }

  /** Waits until every snapshot that was taken has its map stored, and can be read. */
  async whenSnapshotsStored(): Promise<void> {
    if (this.readOnly || this.#table.logged.length === 0) return;
    await this.#checkpointer.settled();
    if (this.#table.logged.length > 0) await this.checkpoint();
  }

  /** See {@link VolumeTable.hold}. */
  hold(roots: readonly StoredRoot[]): () => void {
    return this.#table.hold(roots);
  }

  /**
   * Waits until what has changed so far is as durable as the options ask for: whoever asked for a
   * change may be told of it then. Every change is durable on the local disk when it is made.
   *
   * @throws {StartupError} it is not yet in the blob store
   */
  async confirm(): Promise<void> {
    if (this.replica?.mustConfirm()) await this.replica.reachAll();
  }

  /**
   * Gives segments back from which everything live has been moved; see {@link Checkpointer.release}.
   */
  async release(
    emptied: readonly Segment[],
    isUrgent: () => boolean,
    onNamed: () => void,
  ): Promise<void> {
    this.#requireWritable();
    await this.#checkpointer.release(emptied, isUrgent, onNamed);
  }

  stats(): StoreStats {
    const { segments, engine, logStart } = this;
    let usedBytes = 0;
    let logBytes = -logStart.offset;
    for (const segment of segments.table.values()) {
      usedBytes += segment.usedBytes;
      const isLog = segment.stream === 'data' && segment.number >= logStart.segment;
      if (isLog) logBytes += segment.usedBytes;
    }
    return {
      usedBytes,
      physicalBytes: segments.spares.fileCount * segments.segmentBytes,
      segmentCount: segments.table.size,
      spareCount: segments.spares.count,
      indexCount: engine.indexCount(),
      indexBytes: engine.indexBytes(),
      // Of a damaged store its first segment may be missing.
      logBytes: Math.max(0, logBytes),
      generation: this.generation,
    };
  }

  /** Writes out what is dirty and releases the files. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#devices.close();
    await this.#schedule.close();
    try {
      await this.changes.settled();
      if (!this.readOnly && this.failure === undefined) await this.checkpoint();
    } finally {
      await this.#checkpointer.settled();
      await this.replica?.close();
      await this.#partCache?.close();
      await this.closeFiles();
    }
  }

  /** Releases the files as a crash does: nothing is written out. */
  async closeFiles(): Promise<void> {
    await this.indexed;
    // A write that came later would damage what the next to open the store has written.
    await this.writer.settled();
    await this.#closeFiles();
  }

  /** Stops storing in the blob store at once, as a crash does. */
  async abandonRemote(): Promise<void> {
    await this.replica?.abandon();
    await this.#partCache?.close();
  }

  #requireWritable(): void {
    if (this.readOnly) throw new Error(`the store ${this.path} is damaged and for reading only`);
    if (this.failure !== undefined) throw this.failure;
  }

  async #buildIndex({ indexSegments }: Loaded): Promise<void> {
    for (const problem of await indexSegments()) this.options.onFailed(new Error(problem));
  }
}
