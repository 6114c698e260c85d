/**
 * A checkpoint makes maps durable, so that the log before it need not be replayed any more.
 *
 * Order: log -> nodes, children before parents -> catalog -> superblock, each durable before the
 * next is written. A crash in between leaves the checkpoint before, with its log, untouched.
 */
import type { CasEngine } from '../../native.ts';
import { type Catalog, catalogText, rootEntry, type SnapshotEntry } from './catalog.ts';
import type { StoreFile } from './file-layer.ts';
import { FANOUT, inlineRecordSize, RecordType, writeInlineData } from './format.ts';
import { NodeWriter } from './node-writer.ts';
import { BACKGROUND_BYTES_PER_SECOND, Pace } from './pace.ts';
import type { Segment, Segments } from './segments.ts';
import { noSpace } from './spares.ts';
import type { RecordStream, StreamPosition } from './stream.ts';
import { readSuperblocks, type Superblock, writeSuperblock } from './superblock.ts';
import type { TreeNode } from './tree.ts';
import type { Volume } from './volume.ts';
import type { LoggedSnapshot, VolumeTable } from './volume-table.ts';
import type { Writer } from './writer.ts';

/** The trees as a checkpoint found them. */
interface Frozen {
  readonly roots: ReadonlyMap<Volume, TreeNode>;
  readonly snapshots: readonly LoggedSnapshot[];
  /** Of the changed nodes of all that was frozen. */
  readonly nodeCount: number;
  readonly log: StreamPosition;
}

export interface CheckpointParts {
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly volumes: VolumeTable;
  readonly writer: Writer;
  readonly log: RecordStream;
  readonly nodes: RecordStream;
  readonly moved: RecordStream;
  readonly superblockFile: StoreFile;
  /** Copies of the superblock that were damaged when it was read. */
  readonly damagedCopies: readonly number[];
  /** A blob store has it, too. */
  readonly isReplica: boolean;
  /** Nodes in a record at most. */
  readonly batchBlocks: number;
  /** Tree nodes in memory, about, of each volume. */
  readonly nodeCountMax: number;
  /** Called when the trees are frozen: the log begins anew. */
  onFrozen(): void;
  /** Called when a checkpoint is durable. */
  onDurable(superblock: Superblock, catalog: Catalog): void;
  /** Must a segment stay that the store does not need any more? */
  isNeeded(segment: number): boolean;
}

export class Checkpointer {
  readonly #parts: CheckpointParts;
  readonly #nodeWriter: NodeWriter;
  readonly #pace = new Pace({ bytesPerSecondMax: BACKGROUND_BYTES_PER_SECOND });
  #superblock: Superblock;
  #logStart: StreamPosition;
  /** The last checkpoint that was asked for; none begins before the one before it has ended. */
  #last: Promise<void> = Promise.resolve();
  /** How many wait for a checkpoint to end. */
  #waiting = 0;
  /** Copies of the superblock that were found damaged, and have not been told of. */
  readonly #untold: Set<number>;

  /** @param logStart where replay would begin now */
  constructor(parts: CheckpointParts, superblock: Superblock, logStart: StreamPosition) {
    this.#parts = parts;
    this.#superblock = superblock;
    this.#logStart = logStart;
    this.#untold = new Set(parts.damagedCopies);
    const batch = Math.min(FANOUT, parts.batchBlocks);
    this.#nodeWriter = new NodeWriter(parts.engine, parts.nodes, batch);
  }

  /** Of the last checkpoint. */
  get superblock(): Superblock {
    return this.#superblock;
  }

  /** Where replay would begin. */
  get logStart(): StreamPosition {
    return this.#logStart;
  }

  /**
   * Makes everything written so far durable, maps included, after those that were asked for before.
   *
   * @param change what is to become true with it: changes volumes, snapshots or segments, at a
   * moment when maps and log agree and no earlier checkpoint is under way
   * @param isUrgent asked again and again; while it is not, and nobody else waits for a checkpoint,
   * clients are left their share of the disk
   * @throws what `change` throws: there is no checkpoint then
   */
  run(change = () => {}, isUrgent = () => true): Promise<void> {
    const run = this.#last.then(() => this.#run(change, isUrgent));
    this.#last = run.catch(() => {});
    return this.#whileWaiting(run);
  }

  /**
   * Gives segments back from which everything live has been moved.
   *
   * @param isUrgent see {@link run}
   * @param onNamed called when a catalog names what was moved so far
   * @throws what a checkpoint throws; they are given back all the same if it was called
   */
  async release(
    emptied: readonly Segment[],
    isUrgent: () => boolean,
    onNamed: () => void,
  ): Promise<void> {
    let namedIn = Number.POSITIVE_INFINITY;
    try {
      await this.run(() => {
        namedIn = this.#superblock.generation + 1;
        for (const segment of emptied) segment.condemnedIn = namedIn;
      }, isUrgent);
    } finally {
      // What is not known at its new place is still needed where it was.
      if (this.#superblock.generation >= namedIn) onNamed();
      else for (const segment of emptied) segment.condemnedIn = 0;
    }
    // Whichever superblock a crash leaves then, it does not need them.
    if (emptied.length > 0) await this.run(undefined, isUrgent);
  }

  /** Waits for what runs. */
  settled(): Promise<void> {
    return this.#whileWaiting(this.#last);
  }

  /**
   * @returns numbers of the copies of the superblock that are damaged, or were when the store was
   * opened or last asked: it writes them anew, so each is told until {@link toldDamagedCopies}
   */
  async damagedCopies(): Promise<number[]> {
    const { superblockFile, engine, isReplica } = this.#parts;
    // None is being written then.
    const reading = this.#last.then(() => readSuperblocks(superblockFile, engine, isReplica));
    this.#last = reading.then(
      () => {},
      () => {},
    );
    for (const number of (await reading).damaged) this.#untold.add(number);
    return [...this.#untold].sort();
  }

  /** Somebody was told of all that were damaged. */
  toldDamagedCopies(): void {
    this.#untold.clear();
  }

  async #whileWaiting(work: Promise<void>): Promise<void> {
    this.#waiting++;
    try {
      await work;
    } finally {
      this.#waiting--;
    }
  }

  async #run(change: () => void, isUrgent: () => boolean): Promise<void> {
    const { writer, volumes } = this.#parts;
    const frozen = await this.#freeze(change);
    await writer.flushed();
    const roots = [...frozen.roots.values(), ...frozen.snapshots.map(({ root }) => root)];
    await this.#nodeWriter.write(roots, async (bytes) => {
      if (!isUrgent() && this.#waiting === 1) await this.#pace.wait(bytes);
    });
    for (const [volume, root] of frozen.roots) {
      if (root.reference !== undefined) volume.reference = root.reference;
      volume.referenceBytes = volume.sizeBytes;
    }
    await this.#writeCatalog(frozen);
    volumes.frozenCount -= frozen.nodeCount;
    await this.#recycleCondemned();
    writer.atBoundary(() => this.#trimMemory());
  }

  #freeze(change: () => void): Promise<Frozen> {
    const { writer, volumes, log, onFrozen } = this.#parts;
    return new Promise((resolve, reject) => {
      writer.atBoundary(() => {
        try {
          change();
        } catch (error) {
          reject(error);
          return;
        }
        onFrozen();
        const roots = new Map<Volume, TreeNode>();
        for (const volume of volumes.values()) roots.set(volume, volumes.freezeTree(volume));
        const { logged: snapshots, frozenCount: nodeCount } = volumes;
        resolve({ roots, snapshots, nodeCount, log: log.position });
      });
    });
  }

  async #writeCatalog(frozen: Frozen): Promise<void> {
    const { nodes, moved, engine, superblockFile, volumes } = this.#parts;
    await moved.sync();
    let catalog = this.#describe(frozen);
    let text = catalogText(catalog);
    if (!nodes.fits(inlineRecordSize(text))) {
      await nodes.advance();
      // It says where they go on.
      catalog = this.#describe(frozen);
      text = catalogText(catalog);
      if (!nodes.fits(inlineRecordSize(text))) throw noSpace();
    }
    const record = new Uint8Array(inlineRecordSize(text));
    nodes.prepare(record, RecordType.catalog);
    const length = writeInlineData(record, text);
    engine.seal(record);
    const { segment, offset } = await nodes.write(record, length, true);
    const generation = this.#superblock.generation + 1;
    const next = { ...this.#superblock, generation, segment: segment.number, offset, length };
    await writeSuperblock(superblockFile, engine, next);
    this.#superblock = next;
    this.#logStart = frozen.log;
    volumes.stored(frozen.snapshots, storedEntries(frozen.snapshots));
    this.#parts.onDurable(this.#superblock, catalog);
  }

  #describe({ roots, log, snapshots }: Frozen): Catalog {
    const { segments, volumes, nodes, moved } = this.#parts;
    const generation = this.#superblock.generation + 1;
    const list = [...segments.table.values()].map((segment) => {
      const { number, stream, sealed, condemnedIn } = segment;
      // More may have been appended meanwhile: what a catalog names is durable.
      const usedBytes = number === log.segment ? log.offset : moved.durableBytesOf(segment);
      return { number, stream, usedBytes, sealed, condemnedIn };
    });
    return {
      segmentBytes: segments.segmentBytes,
      nextSegment: segments.nextNumber,
      nextVolume: volumes.nextId,
      streams: { data: log, node: nodes.position, moved: moved.durable },
      segments: list.filter(
        ({ number, stream, condemnedIn }) =>
          (stream !== 'data' || number <= log.segment) &&
          (condemnedIn === 0 || condemnedIn > generation),
      ),
      volumes: [...roots.keys()]
        .filter((volume) => volumes.has(volume))
        .map(({ id, name, sizeBytes, reference }) => {
          return { id, name, sizeBytes, root: rootEntry(reference) };
        }),
      snapshots: [...volumes.snapshots, ...storedEntries(snapshots)],
    };
  }

  async #recycleCondemned(): Promise<void> {
    const { segments, engine, isNeeded } = this.#parts;
    const { generation } = this.#superblock;
    const isDue = ({ condemnedIn }: Segment) => condemnedIn > 0 && condemnedIn < generation;
    let count = 0;
    for (const { number } of [...segments.table.values()].filter(isDue)) {
      if (await segments.recycle(number, () => isNeeded(number))) count++;
    }
    if (count > 0) await engine.dropDetached();
  }

  #trimMemory(): void {
    const { volumes, nodeCountMax } = this.#parts;
    for (const { tree } of volumes.values()) {
      if (tree.nodeCount > nodeCountMax) tree.sweep();
    }
  }
}

/** What the catalog says of snapshots whose maps have been written. */
function storedEntries(snapshots: readonly LoggedSnapshot[]): SnapshotEntry[] {
  return snapshots.map(({ entry, root, reference }) => {
    return { ...entry, root: rootEntry(root.reference ?? reference) };
  });
}
