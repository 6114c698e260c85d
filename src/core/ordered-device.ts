/**
 * The order rule: requests that overlap, and of which one writes, take effect in the order of
 * their arrival. Requests that do not overlap run in parallel.
 *
 * Invariants:
 * - No two requests in `#running` conflict. A request in `#waiting` conflicts with a running one
 *   or with an earlier waiting one; its write data is stashed.
 * - `#touching` and `#writing` count, for each bucket of addresses, the running and waiting
 *   requests that touch and that write it. A bucket with no count proves that there is no
 *   conflict; anything else is decided by comparing ranges.
 * - A write or trim that `#history` does not admit is stale, and not executed.
 * - A request of several parts keeps its whole range until the last part is done, so that nothing
 *   newer comes between them. Only below this layer do `offset` and `length` tell a part.
 */
import { type BlockDevice, BlockOp, type BlockRequest, type Completer } from './block-device.ts';
import { BlockStatus } from './block-error.ts';
import { DeviceLayer } from './layer.ts';
import { Limits } from './limits.ts';
import { ReusedList } from './reused-list.ts';
import { WriteHistory } from './write-history.ts';

const BUCKET_BYTES = 4096;
const BUCKET_COUNT = 1 << 14;
const BUCKET_MASK = BUCKET_COUNT - 1;
/** Wider requests (trims) are not counted in buckets; while one is in flight ranges decide. */
const COUNTED_BYTES_MAX = 64 * BUCKET_BYTES;

export class OrderedDevice extends DeviceLayer implements Completer {
  readonly #touching = new Uint16Array(BUCKET_COUNT);
  readonly #writing = new Uint16Array(BUCKET_COUNT);
  readonly #history: WriteHistory;
  readonly #running = new ReusedList<BlockRequest>();
  readonly #place = new Uint32Array(Limits.requestCount);
  /** The whole range of each request, in bytes. */
  readonly #start = new Float64Array(Limits.requestCount);
  readonly #end = new Float64Array(Limits.requestCount);
  /** First and last bucket of each request; the last may be beyond the end, and wraps around. */
  readonly #firstBucket = new Int32Array(Limits.requestCount);
  readonly #lastBucket = new Int32Array(Limits.requestCount);
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
    this.#locate(request);
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
    const start = this.#start[request.index] as number;
    request.offset = start;
    request.length = (this.#end[request.index] as number) - start;
    const last = this.#running.pop();
    if (last !== request) {
      const place = this.#place[request.index] as number;
      this.#running.set(place, last);
      this.#place[last.index] = place;
    }
    this.#count(request, -1);
    request.restore();
    request.complete(request.status);
    if (this.#waiting.length > 0) this.#runWaiting();
  }

  #run(request: BlockRequest): void {
    this.#place[request.index] = this.#running.push(request);
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

  #locate({ index, offset, length }: BlockRequest): void {
    this.#start[index] = offset;
    this.#end[index] = offset + length;
    const firstBlock = Math.floor(offset / BUCKET_BYTES);
    const lastBlock = Math.floor((offset + length - 1) / BUCKET_BYTES);
    const first = firstBlock & BUCKET_MASK;
    this.#firstBucket[index] = first;
    this.#lastBucket[index] = first + Math.min(BUCKET_MASK, lastBlock - firstBlock);
  }

  /** One that no clock has stamped is never stale. */
  #isStale({ offset, length, arrivalUs }: BlockRequest): boolean {
    return arrivalUs !== 0 && !this.#history.admit(offset, length, arrivalUs);
  }

  #mayConflict(request: BlockRequest): boolean {
    if (this.#wideCount > 0 || request.length > COUNTED_BYTES_MAX) return true;
    const counts = changesData(request) ? this.#touching : this.#writing;
    const first = this.#firstBucket[request.index] as number;
    const last = this.#lastBucket[request.index] as number;
    for (let bucket = first; bucket <= last; bucket++) {
      if (counts[bucket & BUCKET_MASK] !== 0) return true;
    }
    return false;
  }

  /** Does `request` conflict with a running request, or with one of the first `waitingCount`? */
  #conflicts(request: BlockRequest, waitingCount: number): boolean {
    for (let index = 0; index < this.#running.count; index++) {
      if (this.#conflict(request, this.#running.at(index))) return true;
    }
    for (let index = 0; index < waitingCount; index++) {
      if (this.#conflict(request, this.#waiting[index] as BlockRequest)) return true;
    }
    return false;
  }

  #conflict(a: BlockRequest, b: BlockRequest): boolean {
    return (
      (this.#start[a.index] as number) < (this.#end[b.index] as number) &&
      (this.#start[b.index] as number) < (this.#end[a.index] as number) &&
      (changesData(a) || changesData(b))
    );
  }

  #count(request: BlockRequest, change: 1 | -1): void {
    if (request.length > COUNTED_BYTES_MAX) {
      this.#wideCount += change;
      return;
    }
    const writes = changesData(request);
    const first = this.#firstBucket[request.index] as number;
    const last = this.#lastBucket[request.index] as number;
    for (let bucket = first; bucket <= last; bucket++) {
      const place = bucket & BUCKET_MASK;
      this.#touching[place] = (this.#touching[place] as number) + change;
      if (writes) this.#writing[place] = (this.#writing[place] as number) + change;
    }
  }
}

function changesData(request: BlockRequest): boolean {
  return request.op !== BlockOp.read;
}
