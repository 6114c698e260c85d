/**
 * Changes of the volumes and snapshots of a store.
 *
 * Invariants:
 * - One change at a time, in the order in which they are asked for.
 * - A change is durable on the local disk when it is made. A snapshot is a record of the log,
 *   durable as fast as a write; everything else becomes true with a checkpoint.
 */
import { StartupError } from '../../core/startup-error.ts';
import type { CasEngine } from '../../native.ts';
import type { BlockCache } from './block-cache.ts';
import type { SnapshotEntry } from './catalog.ts';
import type { Checkpointer } from './checkpoint.ts';
import { hashTree } from './dirty-nodes.ts';
import { hexOf } from './format.ts';
import type { BlockReader } from './reader.ts';
import { encodeSnapshotNote } from './snapshot-note.ts';
import { loadVolume } from './store-files.ts';
import { REFERENCE_WORDS, type TreeNode } from './tree.ts';
import { Volume } from './volume.ts';
import type { VolumeTable } from './volume-table.ts';
import type { StoredRoot } from './walk.ts';
import type { Writer } from './writer.ts';

const ZERO_REFERENCE = new Uint32Array(REFERENCE_WORDS);

/** Names and numbers of a snapshot: with the header of a record, less than is reserved for a note. */
const NOTE_TEXT_BYTES_MAX = 2048;

export interface ChangeParts {
  readonly engine: CasEngine;
  readonly volumes: VolumeTable;
  readonly checkpointer: Checkpointer;
  readonly reader: BlockReader;
  readonly writer: Writer;
  readonly cache: BlockCache;
  /** @throws nothing can be changed, or not any more */
  requireWritable(): void;
  /** Waits until every snapshot that was taken has its map stored. */
  whenSnapshotsStored(): Promise<void>;
  /** Finds a root by a name or its hash, once it is stored. @throws {StartupError} there is none */
  findRoot(nameOrHash: string): Promise<StoredRoot>;
  /** Called when a snapshot is in the log, and its map is to be stored. */
  onSnapshot(): void;
}

export class VolumeChanges {
  readonly #parts: ChangeParts;
  /** Settles when the last change that was asked for is made, or has failed. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  /** Waits for the changes that were asked for: until then they may be undone. */
  async settled(): Promise<void> {
    await this.#last;
  }

  /** @throws {StartupError} the name is taken */
  requireFree(name: string): void {
    this.#parts.volumes.requireFree(name);
  }

  /**
   * Records the state of a volume under a name.
   *
   * @param origin the volume that the snapshot is said to be of
   * @throws {StartupError} the name is taken, or there is no such volume
   */
  snapshot(volumeName: string, name: string, origin = volumeName): Promise<SnapshotEntry> {
    return this.#exclusively(() => this.#snapshot(volumeName, name, origin));
  }

  /**
   * Makes a new volume with the content of a snapshot, a volume, or a stored root.
   *
   * @throws {StartupError} the name is taken, or there is no such root
   */
  clone(nameOrRoot: string, volumeName: string): Promise<Volume> {
    return this.#exclusively(() => this.#clone(nameOrRoot, volumeName));
  }

  /**
   * Gives a volume the content of a snapshot, a volume, or a stored root. No request may be in
   * flight on its devices.
   *
   * @throws {StartupError} devices are open on it and `force` is not set, or it does not fit
   */
  rollback(volumeName: string, nameOrRoot: string, force = false): Promise<void> {
    return this.#exclusively(async () => {
      const source = await this.#findSource(nameOrRoot);
      await this.#holding(source, () => this.#rollback(volumeName, source, force));
    });
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  deleteVolume(name: string): Promise<void> {
    return this.#exclusively(() => this.#deleteVolume(name));
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  deleteSnapshot(name: string): Promise<void> {
    return this.#exclusively(() => this.#deleteSnapshot(name));
  }

  /** Creates a volume, or grows it. */
  provide(name: string, sizeBytes: number): Promise<Volume> {
    return this.#exclusively(() => this.#provide(name, sizeBytes));
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      this.#parts.requireWritable();
      return work();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  async #snapshot(volumeName: string, name: string, origin: string): Promise<SnapshotEntry> {
    const { volumes, writer, engine, onSnapshot } = this.#parts;
    const volume = volumes.require(volumeName);
    volumes.requireFree(name);
    const { id, sizeBytes } = volume;
    const entry = { name, volume: origin, sizeBytes, createdMs: Date.now() };
    const note = encodeSnapshotNote({ id, ...entry });
    if (note.length > NOTE_TEXT_BYTES_MAX) {
      throw new StartupError('the name of the snapshot is too long', 'take a shorter one');
    }
    await writer.room.reserveNote();
    const frozen = new Promise<TreeNode>((resolve) => {
      writer.note(note, () => resolve(volumes.freeze(volume, entry)));
    });
    const hashed = frozen.then((root) => hashTree(engine, root));
    const [hash] = await Promise.all([hashed, writer.flushed()]);
    onSnapshot();
    // Where the root is stored is not known yet.
    return { ...entry, root: [hexOf(hash, 0), 0, 0] };
  }

  async #clone(nameOrRoot: string, name: string): Promise<Volume> {
    const { volumes, reader } = this.#parts;
    volumes.requireFree(name);
    const source = await this.#findSource(nameOrRoot);
    return this.#holding(source, async ({ sizeBytes, root }) => {
      const volume = await loadVolume(reader, { id: volumes.nextId++, name, sizeBytes }, root);
      await this.#add(volume);
      return volume;
    });
  }

  async #rollback(name: string, source: StoredRoot, force: boolean): Promise<void> {
    const { volumes, reader, cache } = this.#parts;
    const volume = force ? volumes.require(name) : volumes.requireUnused(name);
    const { sizeBytes, root } = source;
    if (sizeBytes > volume.sizeBytes) {
      throw new StartupError(
        `${source.name} is larger than the volume`,
        'clone it; a volume never shrinks, so it has to grow before',
      );
    }
    // In the snapshot's own size, which decides how high its tree is.
    const content = await loadVolume(reader, { id: volume.id, name, sizeBytes }, root);
    await this.#apply(() => {
      if (!force) volumes.requireUnused(name);
      for (const slot of cache.within(volume, 0, Infinity)) cache.drop(slot);
      volume.tree = content.tree;
      volume.tree.grow(volume.sizeBytes);
      volume.reference = content.reference;
      volume.referenceBytes = content.referenceBytes;
      volume.changeCount++;
    });
  }

  async #deleteVolume(name: string): Promise<void> {
    const { volumes, writer, cache, checkpointer } = this.#parts;
    const volume = volumes.requireUnused(name);
    await writer.flushed();
    await this.#requireRoom();
    await checkpointer.run(() => {
      volumes.requireUnused(name);
      for (const slot of cache.within(volume, 0, Infinity)) cache.drop(slot);
      volumes.remove(volume);
    });
  }

  async #deleteSnapshot(name: string): Promise<void> {
    const { volumes, checkpointer, whenSnapshotsStored } = this.#parts;
    await whenSnapshotsStored();
    await this.#requireRoom();
    await checkpointer.run(() => {
      volumes.requireUnusedSnapshot(name);
      volumes.snapshots = volumes.snapshots.filter((entry) => entry.name !== name);
    });
  }

  async #provide(name: string, sizeBytes: number): Promise<Volume> {
    const { volumes, reader } = this.#parts;
    const known = volumes.find(name);
    if (known !== undefined) {
      await this.#apply(() => {
        if (known.sizeBytes < sizeBytes) known.grow(sizeBytes);
      });
      known.servedBytes = known.sizeBytes;
      return known;
    }
    volumes.requireNoSnapshot(name);
    const identity = { id: volumes.nextId++, name, sizeBytes };
    const created = new Volume(identity, ZERO_REFERENCE, undefined, reader.loadNode);
    await this.#add(created);
    return created;
  }

  /**
   * Changes what the log is about. It must not go on when no checkpoint says so: a recovery would
   * take what follows for writes to what was there before.
   */
  async #apply(change: () => void): Promise<void> {
    const { checkpointer, writer } = this.#parts;
    await this.#requireRoom();
    let isApplied = false;
    try {
      await checkpointer.run(() => {
        change();
        isApplied = true;
      });
    } catch (error) {
      if (isApplied) writer.log.fail(error as Error);
      throw error;
    }
  }

  /** A change that a checkpoint has taken up cannot be taken back: what it fails for is found before. */
  async #requireRoom(): Promise<void> {
    await this.#parts.checkpointer.run();
  }

  /** Finds what a volume is to get; of another volume, or itself, what was written to it so far. */
  async #findSource(nameOrRoot: string): Promise<StoredRoot> {
    const { volumes, writer, checkpointer, findRoot } = this.#parts;
    if (volumes.find(nameOrRoot) !== undefined) {
      // Maps know only what is in the log.
      await writer.flushed();
      await checkpointer.run();
    }
    return findRoot(nameOrRoot);
  }

  /** Gives a root to a volume. Until it has it, the volume that it is of may have got another one. */
  async #holding<T>(source: StoredRoot, work: (source: StoredRoot) => Promise<T>): Promise<T> {
    const release = this.#parts.volumes.hold([source]);
    try {
      return await work(source);
    } finally {
      release();
    }
  }

  /** Nothing may be logged for a volume before a catalog names it. */
  async #add(volume: Volume): Promise<void> {
    const { volumes, checkpointer } = this.#parts;
    volumes.add(volume);
    try {
      await checkpointer.run();
    } catch (error) {
      volumes.remove(volume);
      throw error;
    }
  }
}
