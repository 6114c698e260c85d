/**
 * Removes parts that no journal entry names any more, or ever did, in the background: whoever waits
 * for what is stored does not wait for this. What cannot be removed is tried again after the next
 * round, and what is not known any more is found by the sweep after the next start.
 *
 * Only parts are removed that will never be named: those which an entry of ours has left out, and,
 * by the sweep, those of earlier epochs that the journal does not name.
 */
import type { BlobStore } from '../blob-store.ts';
import { PART_PREFIX, parsePartName } from './blob-names.ts';
import type { Journal } from './journal.ts';

/** Names to remember; a service that refuses to remove anything must not fill the memory. */
const NAMES_MAX = 10_000;

export interface ObsoleteBlobsParts {
  readonly journal: Journal;
  readonly blobs: BlobStore;
  /** Something cannot be removed, for a new reason; it is tried again. */
  onTrouble(error: Error): void;
}

export class ObsoleteBlobs {
  readonly #parts: ObsoleteBlobsParts;
  readonly #names = new Set<string>();
  #isSwept = false;
  #trouble: string | undefined;
  #removing: Promise<void> | undefined;
  #isStopped = false;

  constructor(parts: ObsoleteBlobsParts) {
    this.#parts = parts;
  }

  /** Takes up parts that are stored and that the last entry does not name. */
  add(names: Iterable<string>): void {
    for (const name of names) if (this.#names.size < NAMES_MAX) this.#names.add(name);
  }

  /** Begins to remove what is known, unless that is under way. */
  remove(): void {
    this.#removing ??= this.#removeAll().finally(() => {
      this.#removing = undefined;
    });
  }

  /** Waits for what is under way. */
  async settled(): Promise<void> {
    await this.#removing;
  }

  /** Begins no further request, and waits for the one under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#removing;
  }

  async #removeAll(): Promise<void> {
    try {
      if (!this.#isSwept) await this.#sweep();
      for (const name of this.#names) {
        if (this.#isStopped) return;
        await this.#parts.blobs.delete(name);
        this.#names.delete(name);
      }
      this.#trouble = undefined;
    } catch (error) {
      const message = `obsolete blobs cannot be removed: ${(error as Error).message}`;
      if (this.#trouble !== message) this.#parts.onTrouble(new Error(message, { cause: error }));
      this.#trouble = message;
    }
  }

  /** Finds what an interrupted round, or a removal that failed, has left behind. */
  async #sweep(): Promise<void> {
    const { journal, blobs } = this.#parts;
    const ours = journal.epoch;
    for await (const { name } of blobs.list(PART_PREFIX)) {
      if (this.#isStopped || this.#names.size === NAMES_MAX) return;
      // Those of later epochs are of a server that has taken over, though we may not know it yet.
      const mayCount = parsePartName(name).epoch >= ours || journal.names(name);
      if (!mayCount) this.#names.add(name);
    }
    this.#isSwept = true;
  }
}
