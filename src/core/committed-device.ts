/**
 * The ack rule: a write or trim is complete only when it is on stable storage. Concurrent writes
 * share one flush (group commit).
 *
 * Invariants:
 * - A write that came back from below waits in `#waiting` until a flush that *started after* it
 *   came back has succeeded. At most one such flush is in flight; it covers `#committing`.
 * - A write that has the device to itself goes down together with its flush, where the device
 *   below executes them in this order. It is `#rider` until it comes back.
 * - When `writeCache` is on, writes pass through at once; flushes always go down.
 * - Of flushes only `#flush` goes down: one at a time, and none when the device is closed.
 * - After a failed flush nothing is promised any more: the storage may have dropped what it
 *   could not write. The device stays failed until it is opened anew; it can still be read.
 */
import { type BlockDevice, BlockOp, BlockRequest, type Completer } from './block-device.ts';
import { BlockStatus } from './block-error.ts';
import { Histogram } from './histogram.ts';
import { DeviceLayer } from './layer.ts';
import type { Memory } from './memory.ts';

const NO_MEMORY: Memory = { bytes: Buffer.alloc(0), region: 0 };

export class CommittedDevice extends DeviceLayer implements Completer {
  /** Acknowledge writes before they are durable. */
  writeCache: boolean;
  /** How many requests each flush answered: shows how well grouping works. */
  readonly groups = new Histogram();
  readonly #flush: BlockRequest;
  readonly #onFailed: () => void;
  #waiting: BlockRequest[] = [];
  #committing: BlockRequest[] = [];
  #flushing = false;
  /** Writes and trims that went down and have not come back. */
  #belowCount = 0;
  /** The only one of them. */
  #lone: BlockRequest | undefined;
  #rider: BlockRequest | undefined;
  /** The last that was asked for by {@link flush}: none before it ends later. */
  #ownFlush: Promise<unknown> = Promise.resolve();
  #failed = false;

  /**
   * @param flushIndex a request index that nobody else uses: this layer's own flush request
   * @param onFailed called once, when the device enters the failed state
   */
  constructor(below: BlockDevice, writeCache: boolean, flushIndex: number, onFailed: () => void) {
    super(below);
    this.writeCache = writeCache;
    this.#onFailed = onFailed;
    this.#flush = new BlockRequest(flushIndex, NO_MEMORY, 0);
    this.#flush.op = BlockOp.flush;
    this.#flush.completer = { completed: (request) => this.#flushed(request.status) };
  }

  /** The storage below may know first: a store fails with all its volumes. */
  override get failed(): boolean {
    return this.#failed || super.failed;
  }

  submit(request: BlockRequest): void {
    if (request.op === BlockOp.read) {
      this.below.submit(request);
    } else if (this.#failed) {
      request.complete(BlockStatus.failed);
    } else {
      request.intercept(this);
      if (request.op === BlockOp.flush) this.#await(request);
      else this.#submitBelow(request);
    }
  }

  /** A write or trim took effect below; now it must become durable. */
  completed(request: BlockRequest): void {
    this.#belowCount--;
    this.#lone = undefined;
    const rides = request === this.#rider;
    if (rides) this.#rider = undefined;
    if (request.status === BlockStatus.ok && rides) {
      this.#committing.push(request);
      return;
    }
    if (request.status === BlockStatus.ok && !this.writeCache && !this.#failed) {
      this.#await(request);
      return;
    }
    const lost = request.status === BlockStatus.ok && this.#failed;
    request.restore();
    request.complete(lost ? BlockStatus.failed : request.status);
  }

  override kick(): void {
    if (this.#mayRide()) {
      this.#rider = this.#lone;
      this.#submitFlush();
    }
    this.below.kick();
    this.#commit();
  }

  /** Makes durable whatever has come back from below. @returns how that went */
  flush(): Promise<BlockStatus> {
    const flushed = new Promise<BlockStatus>((resolve) => {
      // It never goes down, so the index is free for it.
      const request = new BlockRequest(this.#flush.index, NO_MEMORY, 0);
      request.op = BlockOp.flush;
      request.completer = { completed: ({ status }) => resolve(status) };
      this.submit(request);
    });
    this.#ownFlush = flushed;
    return flushed;
  }

  override async close(): Promise<void> {
    await this.#ownFlush;
    await this.below.close();
  }

  #submitBelow(request: BlockRequest): void {
    this.#lone = this.#belowCount++ === 0 ? request : undefined;
    this.below.submit(request);
  }

  #mayRide(): boolean {
    if (this.#lone === undefined || this.writeCache || this.#failed) return false;
    if (this.#flushing || this.#waiting.length > 0) return false;
    return this.below.flushCovers?.(this.#lone) ?? false;
  }

  #submitFlush(): void {
    this.#flushing = true;
    this.below.submit(this.#flush);
  }

  #await(request: BlockRequest): void {
    // Completions come in batches; the group closes when the batch has been handed up.
    if (this.#waiting.push(request) === 1) queueMicrotask(this.#commit);
  }

  readonly #commit = (): void => {
    if (this.#flushing || this.#waiting.length === 0) return;
    const group = this.#waiting;
    this.#waiting = this.#committing;
    this.#committing = group;
    this.#submitFlush();
    this.below.kick();
  };

  #flushed(status: BlockStatus): void {
    this.#flushing = false;
    this.groups.record(this.#committing.length);
    if (status !== BlockStatus.ok) this.#fail();
    this.#finish(this.#committing, status);
    if (this.#failed) this.#finish(this.#waiting, BlockStatus.failed);
    else if (this.#waiting.length > 0) queueMicrotask(this.#commit);
  }

  #finish(group: BlockRequest[], status: BlockStatus): void {
    for (const request of group) {
      request.restore();
      request.complete(status);
    }
    group.length = 0;
  }

  /** Happens once: no flush goes down afterwards. */
  #fail(): void {
    this.#failed = true;
    this.#onFailed();
  }
}
