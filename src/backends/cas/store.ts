import { BlockStatus } from '../../core/block-error.ts';
import { StartupError } from '../../core/startup-error.ts';
import type { CasEngine } from '../../native.ts';
import { BlockCache } from './block-cache.ts';
import { CasDevice } from './cas-device.ts';
import { type Catalog, encodeCatalog, rootEntry, type SnapshotEntry } from './catalog.ts';
import { NodeWriter } from './checkpoint.ts';
import { FANOUT, RecordType, recordSizeMax } from './format.ts';
import type { BlockReader } from './reader.ts';
import type { Journal } from './remote/journal.ts';
import type { PartCache } from './remote/part-cache.ts';
import { Replica } from './remote/replica.ts';
import type { Segment, Segments } from './segments.ts';
import { type Loaded, loadVolume } from './store-files.ts';
import type { StoreOptions, StoreStats } from './store-options.ts';
import { RecordStream, type StreamPosition } from './stream.ts';
import { type Superblock, writeSuperblock } from './superblock.ts';
import { REFERENCE_WORDS, type TreeNode } from './tree.ts';
import { Volume } from './volume.ts';
import { findRoot } from './walk.ts';
import { Writer } from './writer.ts';

const ZERO_REFERENCE = new Uint32Array(REFERENCE_WORDS);

/** The trees as a checkpoint found them. */
interface Frozen {
  readonly roots: ReadonlyMap<Volume, TreeNode>;
  readonly log: StreamPosition;
}

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
  snapshots: SnapshotEntry[];
  /** Called after each checkpoint that the store made by itself. */
  onCheckpoint: () => Promise<void> = async () => {};
  readonly #volumes: Map<number, Volume>;
  readonly #nodeWriter: NodeWriter;
  readonly #loaded: Loaded;
  /** Keeps the blob store up with this disk, if there is one. */
  readonly #replica: Replica | undefined;
  /** What of the blob store is on this disk. */
  readonly #partCache: PartCache | undefined;
  readonly #unlock: () => void;
  #superblock: Superblock;
  #logStart: StreamPosition;
  #nextVolume: number;
  #logBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #work: Promise<unknown> = Promise.resolve();
  #checkpointing = false;
  /** The checkpoint that the store made by itself, with what follows it. */
  #background: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
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
    this.#superblock = { ...loaded.superblock, epoch: loaded.superblock.epoch + 1 };
    this.#volumes = loaded.volumes;
    this.#logStart = loaded.catalog.streams.data;
    this.snapshots = [...loaded.catalog.snapshots];
    this.#nextVolume = loaded.catalog.nextVolume;
    this.cache = new BlockCache(options.cacheBytes);
    const { streams } = loaded.catalog;
    this.log = new RecordStream('data', segments, this.#superblock);
    this.log.resume(loaded.logEnd);
    this.nodes = new RecordStream('node', segments, this.#superblock);
    this.nodes.resume(afterCatalog(loaded));
    this.moved = new RecordStream('moved', segments, this.#superblock);
    this.moved.resume(streams.moved);
    this.#nodeWriter = new NodeWriter(engine, this.nodes, Math.min(FANOUT, options.batchBlocks));
    const { batchBlocks, compress } = options;
    this.writer = new Writer({
      engine,
      segments,
      cache: this.cache,
      reader,
      log: this.log,
      batchBlocks,
      compress,
      onRecord: (length) => this.#logged(length),
      onFailed: (error) => this.#fail(error),
    });
    const { journal, partCache } = parts;
    const { remote } = options;
    this.#partCache = partCache;
    if (journal && partCache && remote && !this.readOnly) {
      const onFailed = (error: Error) => this.writer.log.fail(error);
      this.#replica = new Replica({
        journal,
        engine,
        segments,
        log: this.log,
        cache: partCache,
        options: remote,
        onFailed,
      });
    }
    segments.promisedSpares = () => this.writer.promisedSpares;
    this.indexed = this.#buildIndex();
  }

  get readOnly(): boolean {
    return this.problems.length > 0;
  }

  /** Why nothing can be written any more, if so. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  get volumes(): Iterable<Volume> {
    return this.#volumes.values();
  }

  /** The generation of the last checkpoint. */
  get generation(): number {
    return this.#superblock.generation;
  }

  /** Where replay would begin. */
  get logStart(): StreamPosition {
    return this.#logStart;
  }

  get storeId(): Uint8Array {
    return this.#superblock.store;
  }

  findVolume(name: string): Volume | undefined {
    for (const volume of this.#volumes.values()) if (volume.name === name) return volume;
    return undefined;
  }

  /**
   * Opens a volume; creates it when there is none of this name, grows it when it is smaller.
   *
   * @throws {StartupError} it is larger than asked for, or cannot be created
   */
  async openVolume(name: string, sizeBytes: number, readOnly = false): Promise<CasDevice> {
    let volume = this.findVolume(name);
    if (volume !== undefined && volume.sizeBytes > sizeBytes) {
      throw new StartupError(
        `volume ${name} has ${volume.sizeBytes} bytes, more than ${sizeBytes}`,
        'a volume never shrinks: give the target the size that the volume has',
      );
    }
    if (volume?.sizeBytes !== sizeBytes) {
      volume = await this.#provide(name, sizeBytes, volume);
    }
    return this.#deviceOf(volume, readOnly || this.readOnly);
  }

  /**
   * Opens a snapshot, or any stored root by its hash, for reading.
   *
   * @throws {StartupError} there is none
   */
  async openSnapshot(nameOrRoot: string): Promise<CasDevice> {
    const entry = findRoot(this, nameOrRoot);
    const { name, sizeBytes, root } = entry;
    return this.#deviceOf(await loadVolume(this.reader, { id: 0, name, sizeBytes }, root), true);
  }

  /** Makes everything written so far durable, maps included. */
  checkpoint(): Promise<void> {
    return this.#exclusively(() => this.#checkpoint());
  }

  /**
   * Records the state of a volume under a name.
   *
   * @param origin the volume that the snapshot is said to be of
   * @throws when the name is taken
   */
  snapshot(volumeName: string, name: string, origin = volumeName): Promise<SnapshotEntry> {
    return this.#exclusively(async () => {
      const volume = this.#requireVolume(volumeName);
      this.#requireNoSnapshot(name);
      if (this.findVolume(name)) throw new Error(`there is a volume ${name} already`);
      const { sizeBytes } = volume;
      const before = this.snapshots;
      // What was written before this call belongs to the snapshot: into the map with it.
      await this.#flush();
      return this.#checkpoint(() => {
        const root = rootEntry(volume.reference);
        const entry = { name, volume: origin, sizeBytes, root, createdMs: Date.now() };
        this.snapshots = [...before, entry];
      }).then(
        () => this.snapshots[this.snapshots.length - 1] as SnapshotEntry,
        (error) => {
          this.snapshots = before;
          throw error;
        },
      );
    });
  }

  /** Makes a new volume with the content of a snapshot, a volume, or a stored root. */
  clone(nameOrRoot: string, volumeName: string): Promise<Volume> {
    return this.#exclusively(async () => {
      if (this.findVolume(volumeName)) throw new Error(`there is a volume ${volumeName} already`);
      this.#requireNoSnapshot(volumeName);
      if (this.findVolume(nameOrRoot)) await this.#checkpoint();
      const { sizeBytes, root } = findRoot(this, nameOrRoot);
      const identity = { id: this.#nextVolume++, name: volumeName, sizeBytes };
      const volume = await loadVolume(this.reader, identity, root);
      await this.#addVolume(volume);
      return volume;
    });
  }

  /**
   * Gives a volume the content of a snapshot.
   *
   * @throws when devices are open on it and `force` is not set
   */
  rollback(volumeName: string, nameOrRoot: string, force = false): Promise<void> {
    return this.#exclusively(async () => {
      const volume = this.#requireVolume(volumeName);
      if (volume.users > 0 && !force) throw new Error(`volume ${volumeName} is in use`);
      const { sizeBytes, root } = findRoot(this, nameOrRoot);
      if (sizeBytes > volume.sizeBytes) throw new Error(`${nameOrRoot} is larger than the volume`);
      const source = await loadVolume(this.reader, volume, root);
      await this.#flush();
      await new Promise<void>((resolve) => {
        this.writer.atBoundary(() => {
          for (const slot of [...volume.slots.values()]) this.cache.drop(slot);
          volume.tree = source.tree;
          volume.tree.grow(volume.blockCount);
          volume.reference = source.reference;
          resolve();
        });
      });
      await this.#checkpoint();
    });
  }

  /** @throws when devices are open on it, or there is none */
  deleteVolume(name: string): Promise<void> {
    return this.#exclusively(async () => {
      const volume = this.#requireVolume(name);
      if (volume.users > 0) throw new Error(`volume ${name} is in use`);
      await this.#flush();
      for (const slot of [...volume.slots.values()]) this.cache.drop(slot);
      this.#volumes.delete(volume.id);
      await this.#checkpoint();
    });
  }

  /** @throws when there is none */
  deleteSnapshot(name: string): Promise<void> {
    return this.#exclusively(async () => {
      if (!this.snapshots.some((entry) => entry.name === name)) {
        throw new Error(`there is no snapshot ${name}`);
      }
      this.snapshots = this.snapshots.filter((entry) => entry.name !== name);
      await this.#checkpoint();
    });
  }

  /** Gives segments back from which everything live has been moved. */
  release(emptied: readonly Segment[]): Promise<void> {
    if (emptied.length === 0) return Promise.resolve();
    return this.#exclusively(async () => {
      for (const segment of emptied) segment.condemnedIn = this.generation + 1;
      await this.#checkpoint();
      await this.#checkpoint();
    });
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
      logBytes: this.#logBytes,
      generation: this.generation,
    };
  }

  /** Writes out what is dirty and releases the files. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#background;
    try {
      if (!this.readOnly && this.#failure === undefined) await this.checkpoint();
    } finally {
      await this.#work.catch(() => {});
      await this.#replica?.close();
      await this.#partCache?.close();
      await this.indexed;
      await this.segments.close();
      await this.#loaded.superblockFile.close();
      this.#unlock();
    }
  }

  /** Stops storing in the blob store at once, as a crash does. */
  async abandonRemote(): Promise<void> {
    await this.#replica?.abandon();
    await this.#partCache?.close();
  }

  /** What the first checkpoint after opening needs; see {@link openCasStore}. */
  async start(): Promise<void> {
    if (this.readOnly) return;
    const { leftovers } = this.#loaded;
    await this.segments.tidy();
    for (const number of leftovers) await this.segments.forget(number);
    // Into written spares syncs are several times as fast: worth waiting for, once in a store's life.
    await this.segments.replenish();
    await this.checkpoint();
    // Only now: the superblock before the last may have needed them.
    for (const number of leftovers) await this.segments.recycle(number);
  }

  /** Runs one change of the store at a time. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(() => {
      if (this.readOnly) throw new Error(`the store ${this.path} is damaged and for reading only`);
      if (this.#failure !== undefined) throw this.#failure;
      return work();
    });
    this.#work = result.catch(() => {});
    return result;
  }

  async #checkpoint(afterNodes: () => void = () => {}): Promise<void> {
    const frozen = await this.#freeze();
    await this.#flush();
    await this.#nodeWriter.write([...frozen.roots.values()]);
    for (const [volume, root] of frozen.roots) {
      if (root.reference !== undefined) volume.reference = root.reference;
    }
    afterNodes();
    await this.#writeCatalog(frozen);
    await this.#recycleCondemned();
    this.writer.atBoundary(() => this.#trimMemory());
  }

  #freeze(): Promise<Frozen> {
    return new Promise((resolve) => {
      this.writer.atBoundary(() => {
        this.#logBytes = 0;
        clearTimeout(this.#timer);
        this.#timer = undefined;
        const roots = new Map<Volume, TreeNode>();
        for (const volume of this.#volumes.values()) roots.set(volume, volume.tree.freeze());
        resolve({ roots, log: this.log.position });
      });
    });
  }

  async #writeCatalog(frozen: Frozen): Promise<void> {
    const { nodes, engine } = this;
    await this.moved.sync();
    const draft = JSON.stringify(this.#describe(frozen)).length;
    // Room for itself: its own position changes a few digits.
    if (!nodes.fits(recordSizeMax(0, 0) + draft + 4096)) await nodes.advance();
    const catalog = this.#describe(frozen);
    const record = encodeCatalog(
      catalog,
      (bytes) => nodes.prepare(bytes, RecordType.catalog),
      (bytes) => engine.seal(bytes),
    );
    const { segment, offset } = nodes.append(record.length);
    await segment.file.write(record, record.length, offset, true);
    nodes.confirm(nodes.position);
    const generation = this.#superblock.generation + 1;
    const next = { ...this.#superblock, generation, segment: segment.number, offset };
    await writeSuperblock(this.#loaded.superblockFile, engine, { ...next, length: record.length });
    this.#superblock = { ...next, length: record.length };
    this.#logStart = frozen.log;
    this.#replica?.checkpointed(this.#superblock, catalog);
  }

  #describe({ roots, log }: Frozen): Catalog {
    const { segments, nodes, moved } = this;
    const generation = this.generation + 1;
    const list = [...segments.table.values()].map(
      ({ number, stream, usedBytes, sealed, condemnedIn }) => {
        const used = number === log.segment ? log.offset : usedBytes;
        return { number, stream, usedBytes: used, sealed, condemnedIn };
      },
    );
    return {
      segmentBytes: segments.segmentBytes,
      nextSegment: segments.nextNumber,
      nextVolume: this.#nextVolume,
      streams: { data: log, node: nodes.position, moved: moved.position },
      segments: list.filter(
        ({ number, stream, condemnedIn }) =>
          (stream !== 'data' || number <= log.segment) &&
          (condemnedIn === 0 || condemnedIn > generation),
      ),
      volumes: [...roots.keys()]
        .filter(({ id }) => this.#volumes.has(id))
        .map(({ id, name, sizeBytes, reference }) => {
          return { id, name, sizeBytes, root: rootEntry(reference) };
        }),
      snapshots: this.snapshots,
    };
  }

  async #recycleCondemned(): Promise<void> {
    const isDue = ({ condemnedIn }: Segment) => condemnedIn > 0 && condemnedIn < this.generation;
    const due = [...this.segments.table.values()]
      .filter(isDue)
      .filter(({ number }) => !this.#replica?.needs(number));
    for (const { number } of due) await this.segments.recycle(number);
    if (due.length > 0) this.engine.dropDetached();
  }

  #trimMemory(): void {
    for (const { tree } of this.#volumes.values()) {
      if (tree.nodeCount > this.options.nodeCountMax) tree.sweep();
    }
  }

  #flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.writer.flush((status) => {
        if (status === BlockStatus.ok) resolve();
        else reject(this.#failure ?? new Error('the log cannot be written'));
      });
      this.writer.kick();
    });
  }

  /** Makes what was written so far as durable as the options ask for. */
  readonly #flushFar = (done: (status: BlockStatus) => void): void => {
    this.writer.flush((status) => {
      const replica = this.#replica;
      const isFar = this.options.remote?.durability === 'remote' || replica?.isBehind;
      if (isFar && replica !== undefined && status === BlockStatus.ok) {
        replica.reach(this.log.durableSequence, done);
      } else {
        done(status);
      }
    });
  };

  /** Creates a volume, or grows it. */
  #provide(name: string, sizeBytes: number, known: Volume | undefined): Promise<Volume> {
    return this.#exclusively(async () => {
      const volume = known ?? this.findVolume(name);
      if (volume === undefined) {
        this.#requireNoSnapshot(name);
        const identity = { id: this.#nextVolume++, name, sizeBytes };
        const { loadNode } = this.reader;
        const created = new Volume(identity, ZERO_REFERENCE, undefined, loadNode);
        await this.#addVolume(created);
        return created;
      }
      if (volume.sizeBytes < sizeBytes) volume.grow(sizeBytes);
      await this.#checkpoint();
      return volume;
    });
  }

  /** Nothing may be logged for a volume before a catalog names it. */
  async #addVolume(volume: Volume): Promise<void> {
    this.#volumes.set(volume.id, volume);
    try {
      await this.#checkpoint();
    } catch (error) {
      this.#volumes.delete(volume.id);
      throw error;
    }
  }

  #deviceOf(volume: Volume, readOnly: boolean): CasDevice {
    const { cache, reader, writer, segments } = this;
    volume.users++;
    return new CasDevice(volume, {
      cache,
      reader,
      writer,
      segments,
      readOnly,
      flush: this.#flushFar,
      reportDamage: ({ name }, lba, error) => {
        this.options.onDamage({ volume: name, lba, error });
      },
      onClose: async () => {
        volume.users--;
        if (!readOnly && this.#failure === undefined && !this.#closed) await this.#flush();
      },
    });
  }

  /** Volumes and snapshots share their names, so that a name tells what is meant. */
  #requireNoSnapshot(name: string): void {
    if (!this.snapshots.some((entry) => entry.name === name)) return;
    throw new StartupError(
      `there is a snapshot ${name} already`,
      'take another name, or delete it: aoe-server cas delete',
    );
  }

  #requireVolume(name: string): Volume {
    const volume = this.findVolume(name);
    if (volume !== undefined) return volume;
    throw new StartupError(
      `the store ${this.path} has no volume ${name}`,
      'see which ones there are: aoe-server cas list',
    );
  }

  #logged(length: number): void {
    this.#logBytes += length;
    this.#replica?.logged(length);
    const { checkpointBytes, checkpointMs } = this.options;
    if (this.#logBytes >= checkpointBytes) this.#checkpointSoon();
    else if (checkpointMs > 0) {
      this.#timer ??= setTimeout(() => this.#checkpointSoon(), checkpointMs).unref();
    }
  }

  #checkpointSoon(): void {
    if (this.#checkpointing || this.#closed) return;
    this.#checkpointing = true;
    // Without room for nodes the log just grows; the next attempt may find some.
    this.#background = this.checkpoint()
      .then(() => this.onCheckpoint())
      .catch((error: Error) => this.options.onFailed(error))
      .finally(() => {
        this.#checkpointing = false;
      });
  }

  async #buildIndex(): Promise<void> {
    for (const problem of await this.#loaded.indexSegments()) {
      this.options.onFailed(new Error(problem));
    }
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.options.onFailed(error);
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
