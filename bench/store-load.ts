/** Load for a block device in this process, through the layers that a target has. */
import { randomFillSync } from 'node:crypto';
import { FileIo } from '../src/backends/file-io.ts';
import { type BlockDevice, BlockOp, BlockRequest } from '../src/core/block-device.ts';
import { BlockStatus } from '../src/core/block-error.ts';
import { CheckedDevice } from '../src/core/checked-device.ts';
import { CommittedDevice } from '../src/core/committed-device.ts';
import type { Memory } from '../src/core/memory.ts';
import { OrderedDevice } from '../src/core/ordered-device.ts';

export const BLOCK = 4096;
const DEPTH_MAX = 64;
const REQUEST_BYTES_MAX = 64 << 10;
const POOL_BYTES = 16 << 20;
/** Distinct blocks of duplicate content. */
const DUPLICATES = 64;
/** Of shared content one block in so many is new, and the others repeat any of the earlier ones. */
const SHARED_RATIO = 8;

export interface StoreLoad {
  readonly name: string;
  readonly op: 'read' | 'write';
  readonly access: 'rand' | 'seq';
  readonly content: 'unique' | 'duplicate' | 'compressible' | 'shared';
  readonly requestBytes: number;
  readonly depth: number;
  readonly durable: boolean;
  /** The part of the device that is used. */
  readonly rangeBytes: number;
}

/** Of benches that measure in pairs of runs. */
export interface PairOptions {
  /** Where images and stores are made. */
  readonly disk: string;
  readonly rounds: number;
  readonly seconds: number;
  /** Only loads whose name contains it. */
  readonly only: string;
}

export interface LoadFigures {
  readonly requestsPerSecond: number;
  readonly mbPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
}

/** Memory and I/O for all loads of this process. */
export class LoadRunner implements Disposable {
  readonly io = new FileIo(DEPTH_MAX + 1);
  readonly #requests: BlockRequest[];
  readonly #pool = Buffer.alloc(POOL_BYTES);
  #serial = 0;

  constructor() {
    const buffer = new ArrayBuffer(DEPTH_MAX * REQUEST_BYTES_MAX);
    const memory: Memory = this.io.registerMemory(buffer);
    this.#requests = Array.from(
      { length: DEPTH_MAX },
      (_, index) => new BlockRequest(index, memory, index * REQUEST_BYTES_MAX),
    );
    randomFillSync(this.#pool);
  }

  /** The layers of a target over `storage`. */
  layersOver(storage: BlockDevice, durable: boolean): BlockDevice {
    const failed = () => {
      throw new Error('a flush failed');
    };
    const committed = new CommittedDevice(storage, !durable, DEPTH_MAX, failed);
    return new CheckedDevice(new OrderedDevice(committed));
  }

  /** Writes every block of a range once, and flushes. */
  async fill(device: BlockDevice, rangeBytes: number): Promise<void> {
    const load: StoreLoad = {
      ...{ name: 'fill', op: 'write', access: 'seq', content: 'unique', durable: false },
      ...{ requestBytes: REQUEST_BYTES_MAX, depth: 16, rangeBytes },
    };
    await this.run(device, load, Number.POSITIVE_INFINITY, rangeBytes / REQUEST_BYTES_MAX);
    await this.flush(device);
  }

  /**
   * Keeps `depth` requests in flight until time or count is up; ends when all of them are back.
   *
   * A request is in flight, or waits for its turn in `idle`, or is done with: a device may end some
   * requests of a batch at once and hold the others.
   */
  run(
    device: BlockDevice,
    load: StoreLoad,
    seconds: number,
    countMax = Number.POSITIVE_INFINITY,
  ): Promise<LoadFigures> {
    const startMs = performance.now();
    const endMs = startMs + seconds * 1000;
    const latenciesMs: number[] = [];
    const { depth, requestBytes } = load;
    const idle = this.#requests.slice(0, depth);
    let [started, inFlight] = [0, 0];
    return new Promise((resolve, reject) => {
      const startedMs = new Float64Array(depth);
      let isKicked = true;
      const kick = () => {
        isKicked = true;
        device.kick();
      };
      const submit = (request: BlockRequest) => {
        request.op = load.op === 'read' ? BlockOp.read : BlockOp.write;
        request.offset = this.#offsetOf(load, started++);
        request.length = requestBytes;
        request.data = request.stash;
        request.dataOffset = request.stashOffset;
        if (load.op === 'write') this.#makeContent(load, request);
        startedMs[request.index] = performance.now();
        inFlight++;
        device.submit(request);
        // A frontend kicks once after a batch of frames: here, after a batch of completions.
        if (isKicked) setImmediate(kick);
        isKicked = false;
      };
      const completed = (request: BlockRequest) => {
        inFlight--;
        latenciesMs.push(performance.now() - (startedMs[request.index] as number));
        if (request.status !== BlockStatus.ok) reject(new Error(`status ${request.status}`));
        else if (idle.push(request) === 1) queueMicrotask(submitIdle);
      };
      const submitIdle = () => {
        const nowMs = performance.now();
        for (const request of idle.splice(0)) {
          if (nowMs < endMs && started < countMax) submit(request);
        }
        if (inFlight === 0 && idle.length === 0) {
          resolve(figures(load, latenciesMs, nowMs - startMs));
        }
      };
      for (const request of idle) request.completer = { completed };
      submitIdle();
    });
  }

  [Symbol.dispose](): void {
    this.io.close();
  }

  /** Makes durable what was written. */
  flush(device: BlockDevice): Promise<void> {
    const request = this.#requests[0] as BlockRequest;
    return new Promise((resolve) => {
      request.op = BlockOp.flush;
      request.completer = { completed: () => resolve() };
      device.submit(request);
      device.kick();
    });
  }

  #offsetOf({ access, requestBytes, rangeBytes }: StoreLoad, serial: number): number {
    const places = rangeBytes / requestBytes;
    return requestBytes * (access === 'seq' ? serial % places : Math.floor(Math.random() * places));
  }

  #makeContent({ content }: StoreLoad, { stash, stashOffset, length }: BlockRequest): void {
    for (let at = stashOffset; at < stashOffset + length; at += BLOCK) {
      const number = numberOf(content, this.#serial++);
      const from = (number * BLOCK) % POOL_BYTES;
      if (content === 'compressible' || content === 'shared') {
        // A third random, the rest text-like.
        stash.bytes.fill('a line of text that repeats, ', at, at + BLOCK);
        this.#pool.copy(stash.bytes, at, from, from + BLOCK / 3);
      } else {
        this.#pool.copy(stash.bytes, at, from, from + BLOCK);
      }
      if (content !== 'duplicate') stash.bytes.writeDoubleLE(number + 1, at);
    }
  }
}

/** Blocks of the same number are the same. */
function numberOf(content: StoreLoad['content'], serial: number): number {
  if (content === 'duplicate') return serial % DUPLICATES;
  if (content !== 'shared') return serial;
  const newest = Math.floor(serial / SHARED_RATIO);
  return serial % SHARED_RATIO === 0 ? newest : Math.floor(Math.random() * (newest + 1));
}

function figures(load: StoreLoad, latenciesMs: readonly number[], tookMs: number): LoadFigures {
  const sorted = Float64Array.from(latenciesMs).sort();
  const at = (share: number) => (sorted[Math.floor(share * sorted.length)] ?? 0) * 1000;
  const requestsPerSecond = (latenciesMs.length * 1000) / tookMs;
  return {
    requestsPerSecond,
    mbPerSecond: (requestsPerSecond * load.requestBytes) / 1e6,
    p50Us: at(0.5),
    p99Us: at(0.99),
    maxUs: (sorted.at(-1) ?? 0) * 1000,
  };
}
