/**
 * File I/O of one thread: gathers requests of all file devices into rows, runs them by one native
 * call, and completes them.
 *
 * Invariants:
 * - `#rowCount` rows wait for the next `kick`; each names a request in `#requests` by its index.
 * - A request has at most one row or operation in flight.
 * - `#finishing` is set while `#completions` is being read: a native call would overwrite it.
 *   Completions may submit more; what they submit is run when all of them are finished.
 */
import type { BlockRequest } from '../core/block-device.ts';
import { BlockStatus } from '../core/block-error.ts';
import type { Memory } from '../core/memory.ts';
import { type FileRing, native } from '../native.ts';

/** How a file is accessed; decides what can be done at once without blocking. */
export const FileMode = { memory: 0, buffered: 1, direct: 2 } as const;
export type FileMode = (typeof FileMode)[keyof typeof FileMode];

const ROW_LENGTH = 8;

const ERRNO_STATUS: ReadonlyMap<number, BlockStatus> = new Map([
  [28 /* ENOSPC */, BlockStatus.noSpace],
  [122 /* EDQUOT */, BlockStatus.noSpace],
  [95 /* EOPNOTSUPP */, BlockStatus.unsupported],
  [38 /* ENOSYS */, BlockStatus.unsupported],
]);

export class FileIo {
  readonly #ring: FileRing;
  readonly #rows: Int32Array;
  readonly #offsets: Float64Array;
  readonly #completions: Int32Array;
  /** By index. */
  readonly #requests: BlockRequest[];
  #rowCount = 0;
  #finishing = false;

  /**
   * @param requestCount one more than the largest request index
   * @param uring use io_uring where the system lets us
   */
  constructor(requestCount: number, uring = true) {
    this.#rows = new Int32Array(requestCount * ROW_LENGTH);
    this.#offsets = new Float64Array(requestCount);
    this.#completions = new Int32Array(requestCount * 2);
    // Grown from a large index first it would be a dictionary, five times as slow, for good.
    this.#requests = new Array<BlockRequest>(requestCount);
    this.#ring = new native.FileRing(
      {
        requestCount,
        rows: this.#rows,
        offsets: this.#offsets,
        completions: this.#completions,
        uring,
      },
      () => this.#reap(),
    );
  }

  /** What carries direct I/O. */
  get engine(): 'io_uring' | 'threads' {
    return this.#ring.engine;
  }

  /** Makes memory known to the native side. `buffer` must not be detached while it is known. */
  registerMemory(buffer: ArrayBuffer): Memory {
    return { bytes: Buffer.from(buffer), region: this.#ring.registerMemory(buffer) };
  }

  /** Forgets memory. No operation in flight may use it; its number is given out again. */
  unregisterMemory(memory: Memory): void {
    this.#ring.unregisterMemory(memory.region);
  }

  /**
   * Makes an open file known.
   *
   * @returns its number for {@link submit}
   */
  addFile(fd: number, mode: FileMode): number {
    return this.#ring.addFile(fd, mode);
  }

  /** Gathers `request`, to act on `file` at `offset` bytes from its start. */
  submit(file: number, request: BlockRequest, offset: number): void {
    const rows = this.#rows;
    const row = this.#rowCount * ROW_LENGTH;
    rows[row] = request.op;
    rows[row + 1] = file;
    rows[row + 2] = request.data.region;
    rows[row + 3] = request.dataOffset;
    rows[row + 4] = request.length;
    rows[row + 5] = request.stash.region;
    rows[row + 6] = request.stashOffset;
    rows[row + 7] = request.index;
    this.#offsets[this.#rowCount++] = offset;
    this.#requests[request.index] = request;
  }

  /**
   * Is `request` still gathered? What of one file is run together is run in order, but for reads and
   * direct I/O.
   */
  runsNext(request: BlockRequest): boolean {
    for (let row = 0; row < this.#rowCount; row++) {
      if (this.#rows[row * ROW_LENGTH + 7] === request.index) return true;
    }
    return false;
  }

  /** Runs what was gathered, and what its completions gather. */
  kick(): void {
    if (this.#finishing) return;
    while (this.#rowCount > 0) {
      const rowCount = this.#rowCount;
      this.#rowCount = 0;
      this.#finish(this.#ring.kick(rowCount));
    }
  }

  /** Releases the ring; waits for operations in flight. Files are closed by their owners. */
  close(): void {
    this.#ring.close();
  }

  /** Releases the ring without waiting: what is in flight may still happen. */
  abandon(): void {
    this.#ring.abandon();
  }

  #reap(): void {
    this.#finish(this.#ring.reap());
    this.kick();
  }

  #finish(count: number): void {
    const completions = this.#completions;
    this.#finishing = true;
    for (let i = 0; i < count; i++) {
      const request = this.#requests[completions[2 * i] as number] as BlockRequest;
      request.complete(statusOf(completions[2 * i + 1] as number));
    }
    this.#finishing = false;
  }
}

function statusOf(errno: number): BlockStatus {
  if (errno === 0) return BlockStatus.ok;
  return ERRNO_STATUS.get(errno) ?? BlockStatus.ioError;
}
