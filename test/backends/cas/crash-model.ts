/** What a store must hold, and may hold, after a crash. */
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { blockOf } from './tiny-store.ts';

export const BLOCKS = 200;
export const SIZE = BLOCKS * BLOCK_SIZE;
/** Blocks that are written, over two leaves: every tenth. */
export const STRIDE = 10;
/** Fewer than are written, so that some are evicted. */
export const CACHE_BYTES = 12 * BLOCK_SIZE;
/** How many snapshots are kept, about: each is compared in each state. */
const SNAPSHOTS = 2;

/** What is confirmed, and what was written since. */
export interface Expected {
  readonly confirmed: readonly number[];
  readonly possible: ReadonlyMap<number, ReadonlySet<number>>;
  readonly snapshots: readonly ExpectedSnapshot[];
}

export interface ExpectedSnapshot {
  readonly name: string;
  readonly content: readonly number[];
  /** Undefined until it is confirmed. */
  readonly root: string | undefined;
}

/** What a store was found to hold. */
export type Found = Pick<Expected, 'confirmed' | 'snapshots'>;

export const NOTHING: Found = { confirmed: new Array(BLOCKS).fill(0), snapshots: [] };

export class Model {
  #snapshots: readonly ExpectedSnapshot[];
  readonly confirmed: number[];
  #latest = new Map<number, number>();
  #possible = new Map<number, Set<number>>();

  constructor({ confirmed, snapshots }: Found) {
    this.confirmed = [...confirmed];
    this.#snapshots = snapshots;
  }

  change(lba: number, seed: number): void {
    this.#latest.set(lba, seed);
    const seeds = this.#possible.get(lba) ?? new Set();
    this.#possible.set(lba, seeds.add(seed));
  }

  confirm(): void {
    for (const [lba, seed] of this.#latest) this.confirmed[lba] = seed;
    this.#latest = new Map();
    this.#possible = new Map();
  }

  /** Takes notice of a snapshot of what was written; with its root, it is confirmed. */
  keep(name: string, root: string | undefined): void {
    if (root !== undefined) this.confirm();
    const content = [...this.confirmed];
    for (const [lba, seed] of this.#latest) content[lba] = seed;
    const others = this.#snapshots.filter((snapshot) => snapshot.name !== name);
    this.#snapshots = [...others, { name, content, root }];
  }

  /** Takes notice that a snapshot is being deleted: from now on it need not be there. */
  deleting(name: string): void {
    this.#snapshots = this.#snapshots.map((snapshot) =>
      snapshot.name === name ? { ...snapshot, root: undefined } : snapshot,
    );
  }

  /** Takes notice that a snapshot has been deleted: from now on it must not be there. */
  deleted(name: string): void {
    this.#snapshots = this.#snapshots.filter((snapshot) => snapshot.name !== name);
  }

  /** A snapshot to be deleted, if there are enough. */
  get surplus(): string | undefined {
    return this.#snapshots.length > SNAPSHOTS ? this.#snapshots[0]?.name : undefined;
  }

  snapshot(): Expected {
    const possible = new Map([...this.#possible].map(([lba, seeds]) => [lba, new Set(seeds)]));
    return { confirmed: [...this.confirmed], possible, snapshots: this.#snapshots };
  }
}

const blocks = new Map<number, Buffer>();

/** The block of a seed, as {@link blockOf} makes it: each is looked for in many states. */
export function knownBlock(seed: number): Buffer {
  const block = blocks.get(seed) ?? blockOf(seed);
  blocks.set(seed, block);
  return block;
}
