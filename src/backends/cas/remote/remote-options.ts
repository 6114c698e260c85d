/** How a store is kept in a blob store as well. */
import type { BlobStore } from '../blob-store.ts';
import type { BlobsConfig } from './open-blobs.ts';

export interface RemoteOptions {
  readonly blobs: BlobStore;
  /** Where they are, for commands that have no configuration. */
  readonly location: BlobsConfig | undefined;
  /** Flushes wait for the local log, or for the blob store as well. */
  readonly durability: 'local' | 'remote';
  /** Time after which what was logged is stored, without a flush that waits for it. */
  readonly delayMs: number;
  /** Log after which it is stored at once. */
  readonly delayBytes: number;
  /** What of the store stays on this disk besides what must; Infinity for all. */
  readonly cacheBytes: number;
  /** Log that may be on this disk only; flushes beyond it wait for the blob store. */
  readonly lagBytesMax: number;
  /** The owner that the store may be taken from, by its id: one that does not run any more. */
  readonly takeOver: string | undefined;
  /** The blob store does not take or give something; it is tried again. */
  onTrouble(error: Error): void;
  /** Something cannot be stored because of this disk; told once, and tried again. */
  onLocalDamage(error: Error): void;
  /** Writes begin to wait because of `lagBytesMax`, or wait no more. */
  onLag(isWaiting: boolean): void;
}

export const REMOTE_DEFAULTS = {
  location: undefined,
  durability: 'local',
  delayMs: 5_000,
  delayBytes: 8 << 20,
  cacheBytes: Number.POSITIVE_INFINITY,
  lagBytesMax: Number.POSITIVE_INFINITY,
  takeOver: undefined,
  onTrouble: () => {},
  onLocalDamage: () => {},
  onLag: () => {},
} as const;
