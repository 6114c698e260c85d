/**
 * A set of whole hashes, for very many: 43 to 64 bytes each.
 *
 * It is in shards, which grow one at a time: no addition takes long.
 */
import { HASH_WORDS } from './format.ts';
import { isZeroHash } from './hash-words.ts';

/** A power of two. */
const SHARD_COUNT = 1 << 10;
/** The first one gives the row. */
const SHARD_WORD = 1;
const FULL_SHARE = 3 / 4;
const GROWTH = 1.5;
const ROW_COUNT_MIN = 16;

export class HashSet {
  readonly #shards = Array.from({ length: SHARD_COUNT }, () => new Shard());
  #count = 0;

  get count(): number {
    return this.#count;
  }

  has(words: Uint32Array, index: number): boolean {
    return this.#shardOf(words, index).has(words, index);
  }

  /** @returns whether it was not there before */
  add(words: Uint32Array, index: number): boolean {
    const isAdded = this.#shardOf(words, index).add(words, index);
    if (isAdded) this.#count++;
    return isAdded;
  }

  /** Yields copies of up to `countMax` hashes, one after the other, in no order. */
  *groups(countMax: number): Generator<Uint32Array> {
    let group = new Uint32Array(countMax * HASH_WORDS);
    let used = 0;
    for (const shard of this.#shards) {
      for (const hash of shard.hashes()) {
        group.set(hash, used);
        used += HASH_WORDS;
        if (used < group.length) continue;
        yield group;
        group = new Uint32Array(group.length);
        used = 0;
      }
    }
    if (used > 0) yield group.subarray(0, used);
  }

  #shardOf(words: Uint32Array, index: number): Shard {
    const number = (words[index + SHARD_WORD] as number) % SHARD_COUNT;
    return this.#shards[number] as Shard;
  }
}

/** Open addressing, at most three quarters full. No hash is zero, so rows of zeroes are free. */
class Shard {
  #rows = new Uint32Array(ROW_COUNT_MIN * HASH_WORDS);
  #count = 0;

  has(words: Uint32Array, index: number): boolean {
    return !this.#isFree(this.#find(words, index));
  }

  /** @returns whether it was not there before */
  add(words: Uint32Array, index: number): boolean {
    let row = this.#find(words, index);
    if (!this.#isFree(row)) return false;
    if (++this.#count * HASH_WORDS > this.#rows.length * FULL_SHARE) {
      this.#grow();
      row = this.#find(words, index);
    }
    this.#copy(words, index, row);
    return true;
  }

  *hashes(): Generator<Uint32Array> {
    const rows = this.#rows;
    for (let row = 0; row < rows.length; row += HASH_WORDS) {
      if (!this.#isFree(row)) yield rows.subarray(row, row + HASH_WORDS);
    }
  }

  /** Where a hash is, or would be. */
  #find(words: Uint32Array, index: number): number {
    const rowCount = this.#rows.length / HASH_WORDS;
    let row = ((words[index] as number) % rowCount) * HASH_WORDS;
    while (!this.#isFree(row) && !this.#isAt(row, words, index)) {
      row = (row + HASH_WORDS) % this.#rows.length;
    }
    return row;
  }

  #isFree(row: number): boolean {
    return isZeroHash(this.#rows, row);
  }

  #isAt(row: number, words: Uint32Array, index: number): boolean {
    for (let word = 0; word < HASH_WORDS; word++) {
      if (this.#rows[row + word] !== words[index + word]) return false;
    }
    return true;
  }

  #copy(words: Uint32Array, index: number, row: number): void {
    for (let word = 0; word < HASH_WORDS; word++) {
      this.#rows[row + word] = words[index + word] as number;
    }
  }

  #grow(): void {
    const before = this.#rows;
    const rowCount = Math.ceil((before.length / HASH_WORDS) * GROWTH);
    this.#rows = new Uint32Array(rowCount * HASH_WORDS);
    for (let row = 0; row < before.length; row += HASH_WORDS) {
      if (isZeroHash(before, row)) continue;
      this.#copy(before, row, this.#find(before, row));
    }
  }
}
