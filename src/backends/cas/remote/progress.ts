/**
 * How far the blob store has come, and who waits for it to come further. Each waiter is told once:
 * that it is there, or that it will not be for now.
 */
import { BlockStatus } from '../../../core/block-error.ts';

/** A point in the life of a store. */
export interface Milestone {
  /** Records of the log below this sequence are there. */
  readonly sequence: number;
  /** The checkpoint that is there, as a generation. */
  readonly generation: number;
}

interface Waiter {
  readonly milestone: Milestone;
  readonly done: (status: BlockStatus) => void;
}

export class Progress {
  #reached: Milestone = { sequence: 0, generation: 0 };
  #waiters: Waiter[] = [];

  /** Up to here the log is stored. */
  get sequence(): number {
    return this.#reached.sequence;
  }

  has({ sequence, generation }: Milestone): boolean {
    return sequence <= this.#reached.sequence && generation <= this.#reached.generation;
  }

  /** @returns a function that ends the waiting: it is refused */
  wait(milestone: Milestone, done: (status: BlockStatus) => void): () => void {
    const waiter = { milestone, done };
    this.#waiters.push(waiter);
    return () => {
      const index = this.#waiters.indexOf(waiter);
      if (index !== -1) this.#tell(this.#waiters.splice(index, 1), BlockStatus.ioError);
    };
  }

  advance(reached: Milestone): void {
    this.#reached = reached;
    const isThere = ({ milestone }: Waiter) => this.has(milestone);
    const there = this.#waiters.filter(isThere);
    this.#waiters = this.#waiters.filter((waiter) => !isThere(waiter));
    this.#tell(there, BlockStatus.ok);
  }

  refuse(): void {
    this.#tell(this.#waiters.splice(0), BlockStatus.ioError);
  }

  #tell(waiters: readonly Waiter[], status: BlockStatus): void {
    for (const { done } of waiters) done(status);
  }
}
