/** Changes of the volumes and snapshots of a store. One at a time: each makes a checkpoint. */
import { StartupError } from '../../core/startup-error.ts';
import type { BlockCache } from './block-cache.ts';
import { rootEntry, type SnapshotEntry } from './catalog.ts';
import type { Checkpointer } from './checkpoint.ts';
import type { BlockReader } from './reader.ts';
import { loadVolume } from './store-files.ts';
import { REFERENCE_WORDS } from './tree.ts';
import { Volume } from './volume.ts';
import type { VolumeTable } from './volume-table.ts';
import type { StoredRoot } from './walk.ts';
import type { Writer } from './writer.ts';

const ZERO_REFERENCE = new Uint32Array(REFERENCE_WORDS);

export interface ChangeParts {
  readonly volumes: VolumeTable;
  readonly checkpointer: Checkpointer;
  readonly reader: BlockReader;
  readonly writer: Writer;
  readonly cache: BlockCache;
}

export class VolumeChanges {
  readonly #parts: ChangeParts;

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  /** @throws {StartupError} the name is taken, or there is no such volume */
  async snapshot(volumeName: string, name: string, origin: string): Promise<SnapshotEntry> {
    const { volumes, writer, checkpointer } = this.#parts;
    const volume = volumes.require(volumeName);
    volumes.requireNoSnapshot(name);
    volumes.requireNoVolume(name);
    const { sizeBytes } = volume;
    const before = volumes.snapshots;
    // What was written before this call belongs to the snapshot: into the map with it.
    await writer.flushed();
    try {
      await checkpointer.run(() => {
        const root = rootEntry(volume.reference);
        const entry = { name, volume: origin, sizeBytes, root, createdMs: Date.now() };
        volumes.snapshots = [...before, entry];
      });
    } catch (error) {
      volumes.snapshots = before;
      throw error;
    }
    return volumes.snapshots.at(-1) as SnapshotEntry;
  }

  /** @param find finds what is to be cloned, in the last checkpoint */
  async clone(find: () => StoredRoot, nameOrRoot: string, name: string): Promise<Volume> {
    const { volumes, reader, checkpointer } = this.#parts;
    volumes.requireNoVolume(name);
    volumes.requireNoSnapshot(name);
    if (volumes.find(nameOrRoot)) await checkpointer.run();
    const { sizeBytes, root } = find();
    const volume = await loadVolume(reader, { id: volumes.nextId++, name, sizeBytes }, root);
    await this.#add(volume);
    return volume;
  }

  /** @throws {StartupError} devices are open on it and `force` is not set, or it does not fit */
  async rollback(name: string, source: StoredRoot, force: boolean): Promise<void> {
    const { volumes, reader, writer, cache, checkpointer } = this.#parts;
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
    await writer.flushed();
    await new Promise<void>((resolve) => {
      writer.atBoundary(() => {
        for (const slot of [...volume.slots.values()]) cache.drop(slot);
        volume.tree = content.tree;
        volume.tree.grow(volume.blockCount);
        volume.reference = content.reference;
        volume.changeCount++;
        resolve();
      });
    });
    await checkpointer.run();
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  async deleteVolume(name: string): Promise<void> {
    const { volumes, writer, cache, checkpointer } = this.#parts;
    const volume = volumes.requireUnused(name);
    await writer.flushed();
    for (const slot of [...volume.slots.values()]) cache.drop(slot);
    volumes.remove(volume);
    await checkpointer.run();
  }

  /** @throws {StartupError} devices are open on it, or there is none */
  async deleteSnapshot(name: string): Promise<void> {
    const { volumes, checkpointer } = this.#parts;
    volumes.requireUnusedSnapshot(name);
    volumes.snapshots = volumes.snapshots.filter((entry) => entry.name !== name);
    await checkpointer.run();
  }

  /** Creates a volume, or grows it. */
  async provide(name: string, sizeBytes: number): Promise<Volume> {
    const { volumes, reader, checkpointer } = this.#parts;
    const known = volumes.find(name);
    if (known !== undefined) {
      if (known.sizeBytes < sizeBytes) known.grow(sizeBytes);
      await checkpointer.run();
      return known;
    }
    volumes.requireNoSnapshot(name);
    const identity = { id: volumes.nextId++, name, sizeBytes };
    const created = new Volume(identity, ZERO_REFERENCE, undefined, reader.loadNode);
    await this.#add(created);
    return created;
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
