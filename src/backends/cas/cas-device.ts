/**
 * A volume as a block device. Writes are taken into memory and complete at once; a flush makes
 * them durable. The layer above decides who has to wait for one.
 */
import type { BlockCapabilities, BlockDevice, BlockRequest } from '../../core/block-device.ts';
import { BlockOp, SECTOR_SIZE } from '../../core/block-device.ts';
import { BlockStatus } from '../../core/block-error.ts';
import { type BlockCache, MASK_FULL, SlotState, sectorMask } from './block-cache.ts';
import { BLOCK_SIZE } from './format.ts';
import { HeldRequests, type HeldRequestsParts } from './held-requests.ts';
import { type BlockReader, DamageError } from './reader.ts';
import { isNoSpace } from './spares.ts';
import type { Volume } from './volume.ts';

export interface DeviceParts extends Omit<HeldRequestsParts, 'take'> {
  readonly cache: BlockCache;
  readonly reader: BlockReader;
  readonly readOnly: boolean;
  /** Makes what was written so far durable. */
  flush(done: (status: BlockStatus) => void): void;
  /** Called when a read may have brought more of the map into memory. */
  onMapRead(): void;
  reportDamage(volume: Volume, lba: number, error: DamageError): void;
  /** Called once. */
  onClose(): Promise<void>;
}

const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE);
const NO_BYTES = Buffer.alloc(0);

export class CasDevice implements BlockDevice {
  readonly capabilities: BlockCapabilities;
  readonly #volume: Volume;
  readonly #parts: DeviceParts;
  readonly #held: HeldRequests;
  #closed = false;

  constructor(volume: Volume, parts: DeviceParts) {
    this.#volume = volume;
    this.#parts = parts;
    this.#held = new HeldRequests({ ...parts, take: (request) => this.#change(request) });
    this.capabilities = {
      readOnly: parts.readOnly,
      trim: !parts.readOnly,
      trimZeroes: true,
    };
  }

  get sizeBytes(): number {
    return this.#volume.servedBytes;
  }

  get failed(): boolean {
    return this.#parts.writer.failed && !this.#parts.readOnly;
  }

  submit(request: BlockRequest): void {
    switch (request.op) {
      case BlockOp.read:
        if (this.#read(request)) request.complete(BlockStatus.ok);
        else void this.#readSlowly(request);
        return;
      case BlockOp.write:
      case BlockOp.trim:
        if (this.#parts.writer.failed) request.complete(BlockStatus.failed);
        else if (!this.#held.isEmpty || !this.#change(request)) this.#held.hold(request);
        return;
      case BlockOp.flush:
        this.#parts.flush((status) => {
          const { lostWrite } = this.#volume;
          if (lostWrite === undefined) request.complete(status);
          else request.complete(isNoSpace(lostWrite) ? BlockStatus.noSpace : BlockStatus.ioError);
        });
        return;
    }
  }

  kick(): void {
    this.#parts.writer.kick();
  }

  refresh(): boolean {
    return false;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#parts.onClose();
  }

  /** Takes a write or trim. @returns false when there is no room now */
  #change(request: BlockRequest): boolean {
    const { offset, length } = request;
    if (request.op === BlockOp.write) {
      const { data, dataOffset } = request;
      if (!this.#writeRange(offset, length, data.bytes, dataOffset)) return false;
      request.complete(BlockStatus.ok);
      return true;
    }
    if (!this.#parts.writer.room.hasRoomForTrim) return false;
    const first = Math.ceil(offset / BLOCK_SIZE);
    const last = Math.floor((offset + length) / BLOCK_SIZE);
    if (last <= first) {
      if (!this.#zeroRange(offset, length)) return false;
      request.complete(BlockStatus.ok);
      return true;
    }
    const head = first * BLOCK_SIZE - offset;
    const tail = offset + length - last * BLOCK_SIZE;
    if (!this.#zeroRange(offset, head) || !this.#zeroRange(last * BLOCK_SIZE, tail)) return false;
    const count = last - first;
    const { cache, writer } = this.#parts;
    for (const slot of cache.within(this.#volume, first, count)) cache.retire(slot);
    const done = (status: BlockStatus) => request.complete(status);
    writer.trim({ volume: this.#volume, lba: first, count, done });
    // It may be submitted from a completion, behind which no kick comes.
    queueMicrotask(() => this.kick());
    return true;
  }

  #zeroRange(offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, BLOCK_SIZE);
      if (!this.#writeRange(offset + done, part, ZERO_BLOCK, 0)) return false;
      done += part;
    }
    return true;
  }

  #writeRange(offset: number, length: number, data: Buffer, dataOffset: number): boolean {
    const { cache } = this.#parts;
    for (let done = 0; done < length; ) {
      const lba = Math.floor((offset + done) / BLOCK_SIZE);
      const start = offset + done - lba * BLOCK_SIZE;
      const part = Math.min(length - done, BLOCK_SIZE - start);
      const slot = this.#dirtySlot(lba);
      if (slot === -1) return false;
      const from = dataOffset + done;
      data.copy(cache.slab, slot * BLOCK_SIZE + start, from, from + part);
      cache.mask[slot] = (cache.mask[slot] as number) | sectorMask(start, part);
      done += part;
    }
    return true;
  }

  /** The slot in which a block may be changed. @returns -1 when there is no room now */
  #dirtySlot(lba: number): number {
    const { cache, writer } = this.#parts;
    const known = cache.find(this.#volume, lba);
    const state = known === -1 ? SlotState.free : cache.state[known];
    if (state === SlotState.dirty) return known;
    if (writer.isFull || !writer.hasRoom) return -1;
    if (state === SlotState.clean || state === SlotState.writing) {
      cache.state[known] = SlotState.dirty;
      cache.touch(known);
      writer.queue(known);
      return known;
    }
    const slot = cache.take(this.#volume, lba, SlotState.dirty);
    if (slot === -1) return -1;
    if (state === SlotState.kept || state === SlotState.sealed) {
      const start = known * BLOCK_SIZE;
      cache.slab.copyWithin(slot * BLOCK_SIZE, start, start + BLOCK_SIZE);
      cache.mask[slot] = cache.mask[known] as number;
    }
    writer.queue(slot);
    return slot;
  }

  /** Reads what takes no waiting. @returns false when some of it does */
  #read(request: BlockRequest): boolean {
    const { offset, length, data, dataOffset } = request;
    const { cache } = this.#parts;
    for (let done = 0; done < length; ) {
      const lba = Math.floor((offset + done) / BLOCK_SIZE);
      const start = offset + done - lba * BLOCK_SIZE;
      const part = Math.min(length - done, BLOCK_SIZE - start);
      const found = cache.find(this.#volume, lba);
      const slot = found === -1 ? this.#loadNow(lba) : found;
      if (slot === -1 || !this.#hasSectors(slot, start, part)) return false;
      cache.touch(slot);
      const from = slot * BLOCK_SIZE + start;
      cache.slab.copy(data.bytes, dataOffset + done, from, from + part);
      done += part;
    }
    return true;
  }

  #hasSectors(slot: number, start: number, length: number): boolean {
    const { cache } = this.#parts;
    const needed = sectorMask(start, length);
    return (
      cache.state[slot] !== SlotState.loading && ((cache.mask[slot] as number) & needed) === needed
    );
  }

  #loadNow(lba: number): number {
    const { cache, reader } = this.#parts;
    const slot = cache.take(this.#volume, lba, SlotState.loading);
    if (slot === -1) return -1;
    if (!reader.readNow(this.#volume, lba, cache.slab, slot * BLOCK_SIZE)) {
      cache.release(slot);
      return -1;
    }
    cache.state[slot] = SlotState.clean;
    cache.mask[slot] = MASK_FULL;
    return slot;
  }

  async #readSlowly(request: BlockRequest): Promise<void> {
    const { offset, length, data, dataOffset } = request;
    let lba = 0;
    try {
      for (let done = 0; done < length; ) {
        lba = Math.floor((offset + done) / BLOCK_SIZE);
        const start = offset + done - lba * BLOCK_SIZE;
        const part = Math.min(length - done, BLOCK_SIZE - start);
        const block = await this.#load(lba);
        block.copy(data.bytes, dataOffset + done, start, start + part);
        done += part;
      }
      request.complete(BlockStatus.ok);
    } catch (error) {
      if (error instanceof DamageError) this.#parts.reportDamage(this.#volume, lba, error);
      request.complete(BlockStatus.ioError);
    }
  }

  /**
   * A copy of a block. The sectors that are read do not change meanwhile, as the layer above keeps
   * order, but others do, and with them the place of all: what only memory knows now may be logged
   * and evicted before this ends, and the map was read before. So memory is read first.
   */
  async #load(lba: number): Promise<Buffer> {
    const { cache, reader } = this.#parts;
    const volume = this.#volume;
    const { changeCount } = volume;
    const slot = cache.find(volume, lba);
    const mask = slot === -1 ? 0 : (cache.mask[slot] as number);
    const from = slot * BLOCK_SIZE;
    const known =
      slot === -1 ? NO_BYTES : Buffer.from(cache.slab.subarray(from, from + BLOCK_SIZE));
    if (mask === MASK_FULL) return known;
    const block = Buffer.alloc(BLOCK_SIZE);
    await reader.read(volume, lba, block, 0);
    this.#parts.onMapRead();
    for (let start = 0; start < BLOCK_SIZE; start += SECTOR_SIZE) {
      const isKnown = (mask & sectorMask(start, SECTOR_SIZE)) !== 0;
      if (isKnown) known.copy(block, start, start, start + SECTOR_SIZE);
    }
    // Other sectors may have been written, and even logged and evicted, meanwhile.
    const isWhole = volume.changeCount === changeCount && cache.find(volume, lba) === -1;
    if (slot === -1 && isWhole) this.#remember(lba, block);
    return block;
  }

  #remember(lba: number, block: Buffer): void {
    const { cache } = this.#parts;
    const slot = cache.take(this.#volume, lba, SlotState.clean);
    if (slot === -1) return;
    block.copy(cache.slab, slot * BLOCK_SIZE);
    cache.mask[slot] = MASK_FULL;
  }
}
