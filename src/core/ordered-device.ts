/**
 * The order rule: requests that overlap, and of which one writes, take effect in the order of
 * their arrival. Requests that do not overlap run in parallel.
 *
 * Invariants:
 * - No two requests in `#running` conflict. A request in `#waiting` conflicts with a running one
 *   or with an earlier waiting one; its write data is stashed.
 * - `#counts` has, for each bucket of addresses, the number of running and waiting requests that
 *   touch it, plus {@link WRITER} for each that changes it. A bucket that nobody touches, or for
 *   a read nobody changes, proves that there is no conflict; anything else is decided by ranges.
 * - A write or trim that `#history` does not admit is stale, and not executed.
 * - A request of several parts keeps its whole range until the last part is done, so that nothing
 *   newer comes between them. Only below this layer do `offset` and `length` tell a part.
 */
import { type BlockDevice, BlockOp, type BlockRequest, type Completer } from './block-device.ts';
import { BlockStatus } from './block-error.ts';
import { DeviceLayer } from './layer.ts';
import { ReusedList } from './reused-list.ts';
import { WriteHistory } from './write-history.ts';

const BUCKET_BYTES = 4096;
const BUCKET_COUNT = 1 << 14;
const BUCKET_MASK = BUCKET_COUNT - 1;
/** Wider requests (trims) are not counted in buckets; while one is in flight ranges decide. */
const COUNTED_BYTES_MAX = 64 * BUCKET_BYTES;

/** Far more than requests can be in flight. */
const WRITER = 1 << 16;

export class OrderedDevice extends DeviceLayer implements Completer {
  readonly #counts = new Uint32Array(BUCKET_COUNT);
  readonly #history: WriteHistory;
  readonly #running = new ReusedList<BlockRequest>();
  readonly #waiting: BlockRequest[] = [];
  #wideCount = 0;

  /**
   * @param sinceUs when the device began, in microseconds since the epoch: a write that arrived
   * earlier is stale, because the device that was here before may have executed newer ones
   */
  constructor(below: BlockDevice, sinceUs = 0) {
    super(below);
    this.#history = new WriteHistory(sinceUs);
  }

  submit(request: BlockRequest): void {
    if (request.op === BlockOp.flush) {
      this.below.submit(request);
      return;
    }
    locate(request);
    if (changesData(request) && this.#isStale(request)) {
      request.complete(BlockStatus.stale);
      return;
    }
    request.intercept(this);
    const mustWait = this.#mayConflict(request) && this.#conflicts(request, this.#waiting.length);
    this.#count(request, 1);
    if (mustWait) {
      if (request.op === BlockOp.write) request.stashData();
      this.#waiting.push(request);
    } else {
      this.#run(request);
    }
  }

  completed(request: BlockRequest): void {
    if (request.status === BlockStatus.ok && request.nextPart()) {
      this.below.submit(request);
      return;
    }
    const { order } = request;
    request.offset = order.start;
    request.length = order.end - order.start;
    const last = this.#running.pop();
    if (last !== request) {
      this.#running.set(order.place, last);
      last.order.place = order.place;
    }
    this.#count(request, -1);
    request.restore();
    request.complete(request.status);
    if (this.#waiting.length > 0) this.#runWaiting();
  }

  #run(request: BlockRequest): void {
    request.order.place = this.#running.push(request);
    request.nextPart();
    this.below.submit(request);
  }

  #runWaiting(): void {
    let index = 0;
    while (index < this.#waiting.length) {
      const request = this.#waiting[index] as BlockRequest;
      if (this.#conflicts(request, index)) {
        index++;
      } else {
        this.#waiting.splice(index, 1);
        this.#run(request);
      }
    }
  }

  /** One that no clock has stamped is never stale. */
  #isStale({ offset, length, arrivalUs }: BlockRequest): boolean {
    return arrivalUs !== 0 && !this.#history.admit(offset, length, arrivalUs);
  }

  #mayConflict(request: BlockRequest): boolean {
    if (this.#wideCount > 0 || request.length > COUNTED_BYTES_MAX) return true;
    const free = changesData(request) ? 1 : WRITER;
    const { firstBucket, lastBucket } = request.order;
    for (let bucket = firstBucket; bucket <= lastBucket; bucket++) {
      if ((this.#counts[bucket & BUCKET_MASK] as number) >= free) return true;
    }
    return false;
  }

  /** Does `request` conflict with a running request, or with one of the first `waitingCount`? */
  #conflicts(request: BlockRequest, waitingCount: number): boolean {
    for (let index = 0; index < this.#running.count; index++) {
      if (conflict(request, this.#running.at(index))) return true;
    }
    for (let index = 0; index < waitingCount; index++) {
      if (conflict(request, this.#waiting[index] as BlockRequest)) return true;
    }
    return false;
  }

  #count(request: BlockRequest, change: 1 | -1): void {
    if (request.length > COUNTED_BYTES_MAX) {
      this.#wideCount += change;
      return;
    }
    const step = changesData(request) ? change * (WRITER + 1) : change;
    const { firstBucket, lastBucket } = request.order;
    for (let bucket = firstBucket; bucket <= lastBucket; bucket++) {
      const place = bucket & BUCKET_MASK;
      this.#counts[place] = (this.#counts[place] as number) + step;
    }
  }
}

function locate({ order, offset, length }: BlockRequest): void {
  order.start = offset;
  order.end = offset + length;
  const firstBlock = Math.floor(offset / BUCKET_BYTES);
  const lastBlock = Math.floor((offset + length - 1) / BUCKET_BYTES);
  order.firstBucket = firstBlock & BUCKET_MASK;
  order.lastBucket = order.firstBucket + lastBlock - firstBlock;
}

function conflict(a: BlockRequest, b: BlockRequest): boolean {
  return (
    a.order.start < b.order.end && b.order.start < a.order.end && (changesData(a) || changesData(b))
  );
}

function changesData(request: BlockRequest): boolean {
  return request.op !== BlockOp.read;
}
