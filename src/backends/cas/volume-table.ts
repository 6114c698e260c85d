/** The volumes and snapshots of a store. They share their names, so that a name tells what is meant. */
import { StartupError } from '../../core/startup-error.ts';
import type { SnapshotEntry } from './catalog.ts';
import type { Loaded } from './store-files.ts';
import type { TreeNode } from './tree.ts';
import type { Volume } from './volume.ts';
import type { StoredRoot } from './walk.ts';

/** A snapshot that is in the log, but whose map is not stored yet. */
export interface LoggedSnapshot {
  readonly entry: Omit<SnapshotEntry, 'root'>;
  readonly root: TreeNode;
  /** Of the root, as far as it is stored and unchanged. */
  readonly reference: Uint32Array;
}

type LoadedVolumes = Pick<Loaded, 'volumes' | 'catalog' | 'loggedSnapshots'>;

export class VolumeTable {
  readonly #path: string;
  readonly #volumes: Map<number, Volume>;
  snapshots: readonly SnapshotEntry[];
  /** Snapshots that the next checkpoint stores. */
  logged: readonly LoggedSnapshot[];
  /** Snapshots that devices are open on, or about to be. */
  readonly openSnapshots = new Set<{ readonly name: string }>();
  readonly #heldRoots = new Set<StoredRoot>();
  /** The lowest number that no volume ever had. */
  nextId: number;
  /** Changed nodes of frozen trees that no checkpoint has stored yet. */
  frozenCount = 0;

  /** @param path of the store, for messages */
  constructor(path: string, { volumes, catalog, loggedSnapshots }: LoadedVolumes) {
    this.#path = path;
    this.#volumes = volumes;
    this.snapshots = catalog.snapshots;
    this.logged = loggedSnapshots;
    this.nextId = catalog.nextVolume;
  }

  values(): IterableIterator<Volume> {
    return this.#volumes.values();
  }

  /** Nodes of maps that were changed since they were last frozen. */
  get changedCount(): number {
    let count = 0;
    for (const { tree } of this.#volumes.values()) count += tree.changedCount;
    return count;
  }

  /** Nodes that a checkpoint would have to store now. */
  get unstoredCount(): number {
    return this.frozenCount + this.changedCount;
  }

  /** Stored roots that volumes are about to get, or that are being read: what they reach must stay. */
  get heldRoots(): Iterable<StoredRoot> {
    return this.#heldRoots;
  }

  /**
   * Keeps what stored roots reach, whatever becomes of the volumes and snapshots that they are of.
   *
   * @returns a function that ends it
   */
  hold(roots: readonly StoredRoot[]): () => void {
    // Others may hold the same.
    const held = roots.map((root) => ({ ...root }));
    for (const root of held) this.#heldRoots.add(root);
    return () => {
      for (const root of held) this.#heldRoots.delete(root);
    };
  }

  find(name: string): Volume | undefined {
    for (const volume of this.#volumes.values()) if (volume.name === name) return volume;
    return undefined;
  }

  has({ id }: Volume): boolean {
    return this.#volumes.has(id);
  }

  add(volume: Volume): void {
    this.#volumes.set(volume.id, volume);
  }

  remove({ id }: Volume): void {
    this.#volumes.delete(id);
  }

  /** Keeps a volume as it is now: call where maps and log agree. */
  freeze(volume: Volume, entry: LoggedSnapshot['entry']): TreeNode {
    const root = this.freezeTree(volume);
    this.logged = [...this.logged, { entry, root, reference: volume.reference }];
    return root;
  }

  /** @returns the root of a tree that will not change any more */
  freezeTree({ tree }: Volume): TreeNode {
    this.frozenCount += tree.changedCount;
    return tree.freeze();
  }

  /** Takes up snapshots that were `logged` and are stored now. */
  stored(logged: readonly LoggedSnapshot[], entries: readonly SnapshotEntry[]): void {
    this.snapshots = [...this.snapshots, ...entries];
    this.logged = this.logged.filter((snapshot) => !logged.includes(snapshot));
  }

  /** @throws {StartupError} there is none */
  require(name: string): Volume {
    const volume = this.find(name);
    if (volume !== undefined) return volume;
    throw new StartupError(
      `the store ${this.#path} has no volume ${name}`,
      'see which ones there are: aoe-server cas list',
    );
  }

  /** @throws {StartupError} there is one */
  requireNoSnapshot(name: string): void {
    const entries = [...this.snapshots, ...this.logged.map(({ entry }) => entry)];
    if (!entries.some((entry) => entry.name === name)) return;
    throw new StartupError(
      `there is a snapshot ${name} already`,
      'take another name, or delete it: aoe-server cas delete',
    );
  }

  /** @throws {StartupError} a snapshot or a volume has the name */
  requireFree(name: string): void {
    this.requireNoSnapshot(name);
    if (this.find(name) === undefined) return;
    throw new StartupError(`there is a volume ${name} already`, 'take another name');
  }

  /** @throws {StartupError} there is none, or a device is open on it */
  requireUnusedSnapshot(name: string): void {
    if (!this.snapshots.some((entry) => entry.name === name)) {
      throw new StartupError(
        `the store ${this.#path} has no snapshot ${name}`,
        'see which ones there are: aoe-server cas list',
      );
    }
    for (const open of this.openSnapshots) if (open.name === name) throw inUse(`snapshot ${name}`);
  }

  /** @throws {StartupError} there is none, or a device is open on it */
  requireUnused(name: string): Volume {
    const volume = this.require(name);
    if (volume.users > 0) throw inUse(`volume ${name}`);
    return volume;
  }
}

function inUse(what: string): StartupError {
  return new StartupError(`${what} is in use`, 'remove the target that serves it, and reload');
}
