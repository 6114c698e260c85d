/**
 * What goes into one record: rows for the engine, and afterwards the maps are pointed to the
 * result. Items are slots of dirty blocks, and trims as negative numbers.
 */
import { BlockStatus } from '../../core/block-error.ts';
import { type BlockCache, SlotState } from './block-cache.ts';
import {
  alignUp,
  BLOCK_SIZE,
  ENTRY_SIZE,
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  RECORD_ALIGNMENT,
  RECORD_HEADER_SIZE,
} from './format.ts';
import type { Patience } from './patience.ts';
import { DamageError } from './reader.ts';
import type { Volume } from './volume.ts';

const ROW_LENGTH = 6;

export interface Trim {
  readonly volume: Volume;
  readonly lba: number;
  readonly count: number;
  done(status: BlockStatus): void;
}

export class Batch {
  /** See `IngestRow` in native/cas/engine.h. */
  readonly rows: Int32Array;
  readonly #items: Int32Array;
  readonly #cache: BlockCache;
  readonly #trims = new Map<number, Trim>();
  #trimSerial = 0;
  #count = 0;
  /** Of the items that were taken, how many were slots, also of blocks that are dirty no more. */
  slotCount = 0;

  /** @param countMax items in a batch at most */
  constructor(cache: BlockCache, countMax: number) {
    this.#cache = cache;
    this.rows = new Int32Array(countMax * ROW_LENGTH);
    this.#items = new Int32Array(countMax);
  }

  get count(): number {
    return this.#count;
  }

  /** A copy of the items. */
  items(): Int32Array {
    return this.#items.slice(0, this.#count);
  }

  /** @returns the item that stands for a trim */
  add(trim: Trim): number {
    this.#trims.set(--this.#trimSerial, trim);
    return this.#trimSerial;
  }

  /** Fills the rows with items of the queue. */
  gather(items: readonly number[]): void {
    const cache = this.#cache;
    this.slotCount = 0;
    let count = 0;
    for (const item of items) {
      const row = count * ROW_LENGTH;
      if (item < 0) {
        const trim = this.#trims.get(item) as Trim;
        this.#setRow(row, EntryKind.trim, trim.volume, trim.lba, 0, trim.count);
      } else {
        this.slotCount++;
        if (cache.state[item] === SlotState.lost) cache.release(item);
        if (!cache.isQueued(item)) continue;
        cache.state[item] = SlotState.sealed;
        const volume = cache.owner[item] as Volume;
        const lba = cache.lba[item] as number;
        this.#setRow(row, EntryKind.block, volume, lba, item * BLOCK_SIZE, 1);
      }
      this.#items[count++] = item;
    }
    this.#count = count;
  }

  #setRow(
    row: number,
    kind: number,
    volume: Volume,
    lba: number,
    memory: number,
    count: number,
  ): void {
    const { rows } = this;
    rows[row] = kind;
    rows[row + 1] = volume.id;
    rows[row + 2] = lba % 2 ** 32;
    rows[row + 3] = Math.floor(lba / 2 ** 32);
    rows[row + 4] = memory;
    rows[row + 5] = count;
  }

  /** Points the maps to what the record of the batch says; `sequence` is the record's. */
  async pointMaps(record: Uint8Array, sequence: number, patiently: Patience): Promise<void> {
    const cache = this.#cache;
    const count = this.#count;
    const words = entryWords(record, count);
    for (let i = 0; i < count; i++) {
      const item = this.#items[i] as number;
      const at = i * ENTRY_WORDS;
      if (item < 0) {
        const trim = this.#trims.get(item) as Trim;
        const status = await patiently(() => clear(trim));
        this.#trims.delete(item);
        trim.done(status);
        continue;
      }
      const volume = cache.owner[item] as Volume;
      const { tree } = volume;
      volume.changeCount++;
      const lba = cache.lba[item] as number;
      const source = words[at + EntryWord.kind] === EntryKind.zero ? undefined : words;
      while (!tree.set(lba, source, at + EntryWord.hash)) {
        await patiently(() => tree.fetch(lba));
      }
      cache.state[item] = SlotState.writing;
      cache.sequence[item] = sequence;
    }
  }

  /** Refuses the trims that are left. */
  abandon(): void {
    for (const trim of this.#trims.values()) trim.done(BlockStatus.ioError);
    this.#trims.clear();
  }
}

/** What a record of these items takes at most. */
export function batchBytesMax(items: readonly number[]): number {
  const blockCount = items.filter((item) => item >= 0).length;
  const bytes = RECORD_HEADER_SIZE + items.length * ENTRY_SIZE + blockCount * BLOCK_SIZE;
  return alignUp(bytes, RECORD_ALIGNMENT);
}

async function clear(trim: Trim): Promise<BlockStatus> {
  try {
    await trim.volume.tree.clear(trim.lba, trim.count);
    return BlockStatus.ok;
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    return BlockStatus.ioError;
  }
}
