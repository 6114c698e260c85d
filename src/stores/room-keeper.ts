/** Sees to it that a served store has room: collects it in time, or at once when writes wait. */
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { type CasStore, withOpenStore } from '../backends/cas/index.ts';
import { CollectPolicy } from './collect-policy.ts';
import type { Collected, StoreReport } from './contract.ts';
import type { JobBoard } from './job-board.ts';

/** How long a write waits for a collection. */
const WAIT_MS_MAX = 60_000;
/** How long whoever asks for the status waits for a file system. */
const ANSWER_MS_MAX = 1000;

export interface RoomKeeperOptions {
  /** Of the store. */
  readonly path: string;
  readonly board: JobBoard;
  /**
   * Starts a collection.
   *
   * @param enoughBytes what to free; undefined for all garbage that is worth it
   * @returns the number of the job, undefined when there are too many
   */
  collect(enoughBytes: number | undefined): number | undefined;
  onScrubCancelled(): void;
}

export class RoomKeeper {
  readonly #options: RoomKeeperOptions;
  readonly #policy = new CollectPolicy();
  /** Writes wait for this. */
  #making: Promise<boolean> | undefined;
  #resting = false;
  #closed = false;

  constructor(options: RoomKeeperOptions) {
    this.#options = options;
  }

  /** Do writes wait for room? */
  get isUrgent(): boolean {
    return this.#making !== undefined;
  }

  /** Takes notice of a survey. */
  surveyed(report: StoreReport): void {
    this.#policy.surveyed(report);
  }

  /** Takes notice of a collection that is done. */
  collected(usedBytes: number): void {
    this.#policy.collected(usedBytes);
  }

  /** Collects the store when that is worth it. */
  async keep(): Promise<void> {
    const { path, board, collect } = this.#options;
    const looked = await withOpenStore(path, async (store) => {
      if (store.readOnly) return undefined;
      const freeBytes = (await measureFree(store)) ?? Number.MAX_SAFE_INTEGER;
      return { usedBytes: store.stats().usedBytes, freeBytes };
    });
    const room = looked?.result;
    if (room === undefined || this.#resting || board.unfinished('collect').length > 0) return;
    const isWasteful = this.#policy.isWasteful();
    if (!isWasteful && !this.#policy.isScarce(room)) return;
    const id = collect(isWasteful ? undefined : this.#policy.enoughBytes(room.usedBytes));
    // One that is cancelled before its turn is not asked for again either.
    if (id !== undefined) this.#policy.collected(room.usedBytes);
  }

  /** Collects the store because writes wait for room. @returns whether there is some now */
  make(): Promise<boolean> {
    if (!this.#policy.isHopeful(performance.now())) return Promise.resolve(false);
    this.#making ??= this.#collectAtOnce().finally(() => {
      this.#making = undefined;
    });
    return Promise.race([this.#making, delay(WAIT_MS_MAX, false, { ref: false })]);
  }

  /** Makes room only for writes that wait. */
  rest(): void {
    this.#resting = true;
  }

  /** Makes no more room for them. */
  close(): void {
    this.#closed = true;
  }

  async #collectAtOnce(): Promise<boolean> {
    const { path, board, collect, onScrubCancelled } = this.#options;
    for (const id of board.unfinished('scrub')) {
      onScrubCancelled();
      board.cancel(id);
    }
    // One that runs already may have missed what is garbage by now.
    for (const id of board.unfinished('collect')) {
      if (await this.#hasFreed(id)) return true;
    }
    const used = await withOpenStore(path, async (store) => store.stats().usedBytes);
    const enoughBytes = this.#policy.enoughBytes(used?.result ?? 0);
    // A server that stops cancels what goes on, but initiators still get answers: try once more.
    for (let attempt = 0; attempt < 2 && !this.#closed; attempt++) {
      const id = collect(enoughBytes);
      if (id === undefined) break;
      if (await this.#hasFreed(id)) return true;
      if (board.find(id)?.state !== 'cancelled') break;
    }
    this.#policy.wasVain(performance.now());
    return false;
  }

  /** Waits for a collection. */
  async #hasFreed(id: number): Promise<boolean> {
    const job = await this.#options.board.ended(id);
    const result = job?.result as Collected | null | undefined;
    return (result?.freedSegments ?? 0) > 0;
  }
}

/** Questions without an answer yet: storage that hangs is asked once. */
const asked = new WeakMap<CasStore, Promise<number | null>>();

/** @returns what the server may still take of a filesystem; null when it does not tell, or hangs */
export function measureFree(store: CasStore): Promise<number | null> {
  const question = asked.get(store) ?? askFree(store).finally(() => asked.delete(store));
  asked.set(store, question);
  return Promise.race([question, delay(ANSWER_MS_MAX, null, { ref: false })]);
}

function askFree({ path, options }: CasStore): Promise<number | null> {
  return options.files.freeBytes(path).catch(() => null);
}
