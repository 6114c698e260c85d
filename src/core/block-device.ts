/**
 * The seam between frontends and storage: one operation table, requests instead of promises.
 *
 * A request is pooled and is handed down a chain of devices like a block layer's bio. It may be
 * complete before `submit` returns, during `kick`, or later from the event loop.
 *
 * Invariants:
 * - A request has one owner: its submitter until `submit`, the device until `completed` is
 *   called, then its submitter again.
 * - Each submitted request is completed exactly once.
 * - `data` of a write may be read only until the `kick` that follows its submission returns: it
 *   lies in memory that a receive ring reuses. A device that needs it longer calls
 *   {@link BlockRequest.stashData} first. `data` of a read stays valid until completion.
 */
import type { BlockStatus } from './block-error.ts';
import type { Memory } from './memory.ts';

export const BlockOp = { read: 0, write: 1, flush: 2, trim: 3 } as const;
export type BlockOp = (typeof BlockOp)[keyof typeof BlockOp];

/** Smallest unit of addressing and of atomicity, in bytes. */
export const SECTOR_SIZE = 512;

/** What is kept in the request, as that is in the processor's cache anyway. */
export interface OrderNotes {
  /** The whole range, in bytes; `offset` and `length` may tell a part of it. */
  start: number;
  end: number;
  /** The last may be beyond the last of all, and wraps around. */
  firstBucket: number;
  lastBucket: number;
  /** Among those that run. */
  place: number;
}

/** One read, write, flush or trim. Fields are plain and mutable: requests are reused. */
export class BlockRequest {
  /** Place in its pool, 0-based. Storage may keep its notes about a request in arrays by it. */
  readonly index: number;
  op: BlockOp = BlockOp.read;
  /** First byte on the device, a multiple of {@link SECTOR_SIZE}. Unused by flush. */
  offset = 0;
  /** Bytes to move or trim, a multiple of {@link SECTOR_SIZE}. Unused by flush. */
  length = 0;
  /** Where read data goes and write data comes from, `length` bytes from `dataOffset`. */
  data: Memory;
  dataOffset: number;
  /** Memory that belongs to this request for good: room for one frame's data. */
  readonly stash: Memory;
  readonly stashOffset: number;
  /** When the initiator's request reached this machine, in microseconds since the epoch. */
  arrivalUs = 0;
  /** The outcome; valid once completed. */
  status: BlockStatus = 0;
  /** Who is told about completion. A layer that wants to be told first calls {@link intercept}. */
  completer: Completer = NOBODY;
  /** What the layer that keeps order notes about it. */
  readonly order: OrderNotes = { start: 0, end: 0, firstBucket: 0, lastBucket: 0, place: 0 };
  /** Whom layers keep from being told, the one that is told last first. */
  readonly #above: Completer[] = [];
  #aboveCount = 0;

  constructor(index: number, stash: Memory, stashOffset: number) {
    this.index = index;
    this.stash = stash;
    this.stashOffset = stashOffset;
    this.data = stash;
    this.dataOffset = stashOffset;
  }

  /** Moves write data into the request's own memory, so that it outlives the receive ring. */
  stashData(): void {
    if (this.data === this.stash) return;
    this.data.bytes.copy(
      this.stash.bytes,
      this.stashOffset,
      this.dataOffset,
      this.dataOffset + this.length,
    );
    this.data = this.stash;
    this.dataOffset = this.stashOffset;
  }

  /**
   * Narrows `offset` and `length` to the next part of a request that is executed part by part;
   * submitted is the range that holds them all. Others have none, and stay as they are.
   *
   * @returns false when there is no part left
   */
  nextPart(): boolean {
    return false;
  }

  /** Has `layer` told about completion, before those who are told now. */
  intercept(layer: Completer): void {
    this.#above[this.#aboveCount++] = this.completer;
    this.completer = layer;
  }

  /** Takes back the last {@link intercept}: for the layer itself, once it has been told. */
  restore(): void {
    this.completer = this.#above[--this.#aboveCount] as Completer;
  }

  /** Ends the request with `status` and gives it back to whoever submitted it. */
  complete(status: BlockStatus): void {
    this.status = status;
    this.completer.completed(this);
  }
}

export interface Completer {
  /** Takes a request back. May submit further requests, to any device, without a `kick`. */
  completed(request: BlockRequest): void;
}

const NOBODY: Completer = {
  completed() {
    throw new Error('a request without a completer was completed');
  },
};

/** What a device can do; fixed once it is open. */
export interface BlockCapabilities {
  readonly readOnly: boolean;
  /** Trimmed ranges can be given back to the storage below. */
  readonly trim: boolean;
  /** Trimmed ranges read as zeroes from then on. */
  readonly trimZeroes: boolean;
}

export interface BlockDevice {
  /** Bytes, a multiple of {@link SECTOR_SIZE}; grows only, and only in `refresh`. */
  readonly sizeBytes: number;
  readonly capabilities: BlockCapabilities;
  /** Can no write and no flush succeed any more? A device without this does not know. */
  readonly failed?: boolean;
  /** Takes a request. It may be gathered until `kick`. */
  submit(request: BlockRequest): void;
  /** Starts everything gathered. Call once after a batch of submissions. */
  kick(): void;
  /**
   * Would a flush that is submitted now be executed, and come back, after `write`, a write or trim
   * that has not come back, and so cover it as well? A device without this never promises it.
   */
  flushCovers?(write: BlockRequest): boolean;
  /** Looks whether the storage below has grown. @returns true when `sizeBytes` changed */
  refresh(): boolean;
  /** Makes all writes durable and releases the storage. No request may be in flight. Idempotent. */
  close(): Promise<void>;
}
