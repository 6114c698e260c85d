/**
 * What waits to be logged, in order: slots of dirty blocks, trims as negative numbers, and notes,
 * which are records of their own. At full load thousands of items wait, so that the list is not
 * copied for each batch that leaves it.
 *
 * Everything has a ticket: how much was queued before it. What has left are the lowest tickets.
 */

/** What is logged in a record of its own. */
export interface Note {
  readonly text: Uint8Array;
  /** Called when it has its place in the log. */
  readonly logged: () => void;
}

export class ItemQueue {
  #items: number[] = [];
  /** Items at the start that have left. */
  #head = 0;
  readonly #notes: { readonly ticket: number; readonly note: Note }[] = [];
  #queuedCount = 0;
  #takenCount = 0;

  /** Of all that was ever queued. */
  get queuedCount(): number {
    return this.#queuedCount;
  }

  /** Of that, how much has left. */
  get takenCount(): number {
    return this.#takenCount;
  }

  /** Items that wait. */
  get count(): number {
    return this.#items.length - this.#head;
  }

  push(item: number): void {
    this.#items.push(item);
    this.#queuedCount++;
  }

  pushNote(note: Note): void {
    this.#notes.push({ ticket: this.#queuedCount++, note });
  }

  /** Takes the note that comes before all that waits. @returns undefined when that is an item */
  takeNote(): Note | undefined {
    if (this.#notes[0]?.ticket !== this.#takenCount) return undefined;
    this.#takenCount++;
    return this.#notes.shift()?.note;
  }

  /** A copy of all items. */
  all(): number[] {
    return this.#items.slice(this.#head);
  }

  /** A copy of the first items, at most `countMax`, and those before the next note. */
  first(countMax: number): number[] {
    const [next] = this.#notes;
    const count =
      next === undefined ? countMax : Math.min(countMax, next.ticket - this.#takenCount);
    return this.#items.slice(this.#head, this.#head + count);
  }

  takeFirst(count: number): void {
    this.#takenCount += count;
    this.#head += count;
    if (2 * this.#head < this.#items.length) return;
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
}
