/**
 * The stores that this server has open: each is measured and kept from filling up as time goes by,
 * and closed at last, though it may hang.
 */
import { openStorePaths, whenUnusedStoresClosed } from '../backends/cas/index.ts';
import { endsWithin } from '../wait-while.ts';
import type { StoreStatus } from './contract.ts';
import { ServedStore, type ServedStoreOptions } from './served-store.ts';

const FIRST_SURVEY_MS = 60_000;
const SURVEY_INTERVAL_MS = 3_600_000;
const ROOM_INTERVAL_MS = 10_000;
/** As long as requests in flight have to end. */
const CLOSE_MS_MAX = 10_000;
/** As long as the storage of a target has to be closed. */
const LATE_MS_MAX = 60_000;

export class ServedStores {
  readonly #options: ServedStoreOptions;
  /** By path, also of stores that are not open any more. */
  readonly #stores = new Map<string, ServedStore>();
  readonly #timers: NodeJS.Timeout[];
  #closed = false;

  constructor(options: ServedStoreOptions) {
    this.#options = options;
    const survey = () => this.#forEach((store) => store.survey());
    const keepRoom = () => this.#forEach((store) => store.room.keep());
    this.#timers = [
      setTimeout(survey, FIRST_SURVEY_MS),
      setInterval(survey, SURVEY_INTERVAL_MS),
      setInterval(keepRoom, ROOM_INTERVAL_MS),
    ];
    for (const timer of this.#timers) timer.unref();
  }

  /** @returns undefined when there is no such store open */
  find(path: string): ServedStore | undefined {
    return this.#closed ? undefined : this.#find(path);
  }

  #find(path: string): ServedStore | undefined {
    if (!openStorePaths().includes(path)) return undefined;
    const store = this.#stores.get(path) ?? new ServedStore(path, this.#options);
    this.#stores.set(path, store);
    return store;
  }

  /**
   * Collects a store whose writes wait for room, while the server stops as well: initiators send
   * again what is not answered, and do not what is refused.
   *
   * @returns whether there is some now
   */
  async makeRoom(path: string): Promise<boolean> {
    return (await this.#find(path)?.room.make()) ?? false;
  }

  async status(): Promise<StoreStatus[]> {
    const stores = openStorePaths().flatMap((path) => this.find(path) ?? []);
    const found = await Promise.all(stores.map((store) => store.status()));
    return found.filter((status) => status !== undefined);
  }

  /** Cancels what goes on, and waits for its end, but not for long: the storage may hang. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(Array.from(this.#stores.values(), (store) => this.#cancelAll(store)));
  }

  /** Waits for stores that work has kept open longer than targets: what they lack is stored then. */
  async whenClosed(): Promise<void> {
    // For room for writes, and there are no more of these.
    for (const store of this.#stores.values()) void store.close();
    if (await endsWithin(LATE_MS_MAX, whenUnusedStoresClosed())) return;
    this.#options.log.error('a store is left as it is: work on it does not end');
  }

  async #cancelAll(store: ServedStore): Promise<void> {
    if (await endsWithin(CLOSE_MS_MAX, store.cancelAll())) return;
    this.#options.log.warn({ store: store.path }, 'work on a store goes on');
  }

  #forEach(care: (store: ServedStore) => Promise<void>): void {
    for (const path of openStorePaths()) {
      const store = this.find(path);
      if (store === undefined) continue;
      care(store).catch((error) => this.#options.log.error(error, `${path} gets no care`));
    }
  }
}
