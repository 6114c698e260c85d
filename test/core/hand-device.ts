import {
  type BlockCapabilities,
  type BlockDevice,
  BlockOp,
  BlockRequest,
  SECTOR_SIZE,
} from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import type { Memory } from '../../src/core/memory.ts';

/**
 * A disk in memory whose requests the test ends by hand, in any order. A request takes effect
 * when it is ended, so that a layer above which lets conflicting requests overlap is found out.
 */
export class HandDevice implements BlockDevice {
  readonly capabilities: BlockCapabilities;
  readonly disk: Buffer;
  /** Requests that were submitted and not ended, in their order. */
  readonly pending: BlockRequest[] = [];
  kickCount = 0;
  closeCount = 0;
  grown = false;
  /** Are flushes executed after the writes submitted before them? */
  inOrder = false;

  constructor(sectorCount: number, capabilities: Partial<BlockCapabilities> = {}) {
    this.disk = Buffer.alloc(sectorCount * SECTOR_SIZE);
    this.capabilities = { readOnly: false, trim: true, trimZeroes: true, ...capabilities };
  }

  get sizeBytes(): number {
    return this.disk.length;
  }

  submit(request: BlockRequest): void {
    this.pending.push(request);
  }

  /** Keeps write data, as a device must that did not write it yet. */
  kick(): void {
    this.kickCount += 1;
    for (const request of this.pending) {
      if (request.op === BlockOp.write) request.stashData();
    }
  }

  flushCovers(write: BlockRequest): boolean {
    return this.inOrder && this.pending.includes(write);
  }

  refresh(): boolean {
    return this.grown;
  }

  async close(): Promise<void> {
    this.closeCount += 1;
  }

  /** Ends `request`, which takes effect if `status` is ok. */
  end(request: BlockRequest, status: BlockStatus = BlockStatus.ok): void {
    const place = this.pending.indexOf(request);
    if (place < 0) throw new Error(`request ${request.index} is not with the device`);
    this.pending.splice(place, 1);
    if (status === BlockStatus.ok) this.#execute(request);
    request.complete(status);
  }

  /** Ends the oldest request of this kind. */
  endNext(op: BlockOp, status: BlockStatus = BlockStatus.ok): BlockRequest {
    const request = this.pending.find((each) => each.op === op);
    if (request === undefined) throw new Error('no such request is with the device');
    this.end(request, status);
    return request;
  }

  #execute({ op, offset, length, data, dataOffset }: BlockRequest): void {
    if (op === BlockOp.read) {
      this.disk.copy(data.bytes, dataOffset, offset, offset + length);
    } else if (op === BlockOp.write) {
      data.bytes.copy(this.disk, offset, dataOffset, dataOffset + length);
    } else if (op === BlockOp.trim) {
      this.disk.fill(0, offset, offset + length);
    }
  }
}

/** What became of a request. */
export interface Outcome {
  readonly request: BlockRequest;
  readonly status: BlockStatus;
}

/** Makes requests with room for `SLOT_SECTORS`, and records how they end. */
export class Requester {
  static readonly SLOT_SECTORS = 16;
  /** In the order of their ends. */
  readonly outcomes: Outcome[] = [];
  /** Stands for a receive ring: its content is lost with the next batch. */
  readonly ring: Memory = { bytes: Buffer.alloc(Requester.SLOT_SECTORS * SECTOR_SIZE), region: 1 };
  readonly #stash: Memory;
  #count = 0;

  constructor(countMax: number) {
    const slotBytes = Requester.SLOT_SECTORS * SECTOR_SIZE;
    this.#stash = { bytes: Buffer.alloc(countMax * slotBytes), region: 0 };
  }

  /** Sectors count from 0; `arrivalUs` 0 stands for a request that no clock has seen. */
  make(op: BlockOp, sector = 0, sectorCount = 1, arrivalUs = 0): BlockRequest {
    const index = this.#count;
    this.#count += 1;
    const slot = index * Requester.SLOT_SECTORS * SECTOR_SIZE;
    const request = new BlockRequest(index, this.#stash, slot);
    request.op = op;
    request.offset = sector * SECTOR_SIZE;
    request.length = sectorCount * SECTOR_SIZE;
    request.arrivalUs = arrivalUs;
    request.completer = {
      completed: (ended) => this.outcomes.push({ request: ended, status: ended.status }),
    };
    return request;
  }

  /** A write of sectors filled with `fill`, whose data lies in the ring. */
  makeWrite(sector: number, sectorCount: number, fill: number, arrivalUs = 0): BlockRequest {
    const request = this.make(BlockOp.write, sector, sectorCount, arrivalUs);
    this.ring.bytes.fill(fill, 0, request.length);
    request.data = this.ring;
    request.dataOffset = 0;
    return request;
  }

  /** The next batch overwrites the ring. */
  loseRing(): void {
    this.ring.bytes.fill(0xee);
  }

  statusOf(request: BlockRequest): BlockStatus | undefined {
    const ends = this.outcomes.filter((outcome) => outcome.request === request);
    if (ends.length > 1) throw new Error(`request ${request.index} ended ${ends.length} times`);
    return ends[0]?.status;
  }
}

/** The data that a read brought. */
export function dataOf(request: BlockRequest): Buffer {
  return request.data.bytes.subarray(request.dataOffset, request.dataOffset + request.length);
}
