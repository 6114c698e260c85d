/** What can be chosen when a store is opened, and what it tells about itself. */
import { totalmem } from 'node:os';
import type { FileLayer } from './file-layer.ts';
import { ENTRIES_MAX } from './format.ts';
import type { DamageError } from './reader.ts';
import type { RemoteOptions } from './remote/remote-options.ts';

export interface StoreOptions {
  readonly segmentBytes: number;
  /** Most bytes that the store may take on disk. */
  readonly capacityBytes: number;
  /** Memory for blocks, below 2 GiB. */
  readonly cacheBytes: number;
  /**
   * Memory for the dedup index, in bytes; beyond it the oldest segments are not found as duplicates.
   * It takes more only for what collections have moved.
   */
  readonly indexBytesMax: number;
  /** Tree nodes in memory, about, of each volume. */
  readonly nodeCountMax: number;
  /**
   * Log after which a checkpoint is made. The more, the less is written of maps for a block, and the
   * longer a start takes after a crash.
   */
  readonly checkpointBytes: number;
  /** Nodes of maps that are changed, after which a checkpoint is made: they take memory and time. */
  readonly checkpointNodes: number;
  /** Time after which a checkpoint is made when something was written; 0 for never. */
  readonly checkpointMs: number;
  /** Empty segments to keep ready for writes; others are kept for checkpoints and collections. */
  readonly spareCount: number;
  /** Blocks in a record of the log. */
  readonly batchBlocks: number;
  /**
   * Blocks that wait to be logged, at most: whoever flushes waits for all of them. More than one
   * request has.
   */
  readonly queuedMax: number;
  readonly compress: boolean;
  /** The control socket of the server that has the store open; empty for none. */
  readonly controlPath: string;
  readonly files: FileLayer;
  /** Where the store is kept besides this disk, if anywhere. */
  readonly remote: RemoteOptions | undefined;
  /**
   * Called when writes have to wait for room.
   *
   * @returns whether there is some now; if not, they are refused
   */
  makeRoom(): Promise<boolean>;
  /** Called with what is found damaged when the store is opened, for people. */
  onProblem(problem: string): void;
  onDamage(report: DamageReport): void;
  onFailed(error: Error): void;
}

export interface StoreStats {
  /** Bytes of records. */
  readonly usedBytes: number;
  /** Bytes of segment files and spares. */
  readonly physicalBytes: number;
  readonly segmentCount: number;
  readonly spareCount: number;
  /** Blocks and nodes that are known to the dedup index, and what it takes in memory. */
  readonly indexCount: number;
  readonly indexBytes: number;
  /** Log since the last checkpoint: what a restart would replay. */
  readonly logBytes: number;
  readonly generation: number;
}

/** What a read found to be damaged. */
export interface DamageReport {
  readonly volume: string;
  /** In blocks of 4096 bytes. */
  readonly lba: number;
  readonly error: DamageError;
}

export const STORE_DEFAULTS: Omit<StoreOptions, 'files'> = {
  segmentBytes: 64 << 20,
  capacityBytes: Number.MAX_SAFE_INTEGER,
  cacheBytes: defaultCacheBytes(),
  indexBytesMax: 2 ** 30,
  nodeCountMax: 50_000,
  checkpointBytes: 1280 << 20,
  checkpointNodes: 128 << 10,
  checkpointMs: 60_000,
  spareCount: 1,
  batchBlocks: ENTRIES_MAX,
  queuedMax: 16 << 10,
  compress: true,
  controlPath: '',
  remote: undefined,
  makeRoom: async () => false,
  onProblem: () => {},
  onDamage: () => {},
  onFailed: () => {},
};

/** A sixteenth of the memory that this process may have, but no less than 64 MiB or more than 1 GiB. */
function defaultCacheBytes(): number {
  const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  return Math.min(Math.max(memoryBytes / 16, 64 << 20), 1 << 30);
}
