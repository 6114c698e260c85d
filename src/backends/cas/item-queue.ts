/**
 * What waits to be logged, in order: slots of dirty blocks, and trims as negative numbers. At full
 * load thousands of them wait, so that the list is not copied for each batch that leaves it.
 */
export class ItemQueue {
  #items: number[] = [];
  /** Items at the start that have left. */
  #head = 0;

  get count(): number {
    return this.#items.length - this.#head;
  }

  push(item: number): void {
    this.#items.push(item);
  }

  /** A copy of the first items, at most `countMax`. */
  first(countMax: number): number[] {
    return this.#items.slice(this.#head, this.#head + countMax);
  }

  removeFirst(count: number): void {
    this.#head += count;
    if (2 * this.#head < this.#items.length) return;
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
}
