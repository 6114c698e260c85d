/**
 * A list that keeps its memory when it is emptied. An array gives its memory back and grows anew,
 * which on the data path is garbage for every batch. What was removed stays referenced until it
 * is overwritten: keep only pooled things in it.
 */
export class ReusedList<T> {
  readonly #items: T[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The item at `index`, below {@link count}. */
  at(index: number): T {
    return this.#items[index] as T;
  }

  /** @returns the index of the new item */
  push(item: T): number {
    this.#items[this.#count] = item;
    return this.#count++;
  }

  /** Removes and returns the last item; there must be one. */
  pop(): T {
    return this.#items[--this.#count] as T;
  }

  set(index: number, item: T): void {
    this.#items[index] = item;
  }

  clear(): void {
    this.#count = 0;
  }

  /** Removes the first `count` items; the others move up. */
  removeFirst(count: number): void {
    if (count < this.#count) this.#items.copyWithin(0, count, this.#count);
    this.#count -= count;
  }
}
