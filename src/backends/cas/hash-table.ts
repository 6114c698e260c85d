/**
 * A table by hash for counts and places of very many blocks: JavaScript's own maps end at 16
 * million entries and take several times the memory.
 *
 * Open addressing, at most half full. A row is the first 128 bits of the hash and one value, which
 * is above 0 in a row that is taken.
 */
const KEY_WORDS = 4;
const ROW_WORDS = KEY_WORDS + 2;
const ROW_COUNT_MIN = 1 << 10;

export class HashTable {
  #rows = new Uint32Array(ROW_COUNT_MIN * ROW_WORDS);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @returns the value of the hash at `words[index]`; 0 when there is none */
  get(words: Uint32Array, index: number): number {
    const row = this.#find(words, index);
    return rowValue(this.#rows, row);
  }

  /** @param value a whole number from 1 to 2^53 - 1 */
  set(words: Uint32Array, index: number, value: number): void {
    let row = this.#find(words, index);
    if (rowValue(this.#rows, row) === 0) {
      if (++this.#count * 2 > this.#rows.length / ROW_WORDS) {
        this.#grow();
        row = this.#find(words, index);
      }
      for (let word = 0; word < KEY_WORDS; word++) {
        this.#rows[row + word] = words[index + word] as number;
      }
    }
    this.#rows[row + KEY_WORDS] = value % 2 ** 32;
    this.#rows[row + KEY_WORDS + 1] = Math.floor(value / 2 ** 32);
  }

  /** Where the row of a hash is, or would be. */
  #find(words: Uint32Array, index: number): number {
    const rowCount = this.#rows.length / ROW_WORDS;
    let row = ((words[index] as number) % rowCount) * ROW_WORDS;
    while (rowValue(this.#rows, row) !== 0 && !this.#isAt(row, words, index)) {
      row = (row + ROW_WORDS) % this.#rows.length;
    }
    return row;
  }

  #isAt(row: number, words: Uint32Array, index: number): boolean {
    for (let word = 0; word < KEY_WORDS; word++) {
      if (this.#rows[row + word] !== words[index + word]) return false;
    }
    return true;
  }

  #grow(): void {
    const before = this.#rows;
    this.#rows = new Uint32Array(before.length * 2);
    for (let row = 0; row < before.length; row += ROW_WORDS) {
      if (rowValue(before, row) === 0) continue;
      this.#rows.set(before.subarray(row, row + ROW_WORDS), this.#find(before, row));
    }
  }
}

function rowValue(rows: Uint32Array, row: number): number {
  const high = rows[row + KEY_WORDS + 1] as number;
  return (rows[row + KEY_WORDS] as number) + high * 2 ** 32;
}
