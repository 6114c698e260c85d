/**
 * The stores that this server has open, as operators see them: what must not happen to a disk that
 * is being served is refused here, and long work is done in the background, at a pace that leaves
 * room for clients.
 */
import type { Logger } from 'pino';
import {
  BACKGROUND_BYTES_PER_SECOND,
  type CasStore,
  openStorePaths,
  whenUnusedStoresClosed,
  withOpenStore,
} from '../backends/cas/index.ts';
import { StartupError } from '../core/startup-error.ts';
import { within } from '../hanging-storage.ts';
import type { TargetStatus } from '../status.ts';
import { endsWithin } from '../wait-while.ts';
import type {
  Deleted,
  Job,
  JobRequest,
  JobStatus,
  JobWatch,
  StoreList,
  StoreReport,
  StoreSnapshot,
  StoreStatus,
  StoreVolume,
} from './contract.ts';
import { JobBoard } from './job-board.ts';
import { measureFree, RoomKeeper } from './room-keeper.ts';
import { ServedStreams } from './served-streams.ts';
import { StoreActions, type StoreActionsOptions } from './store-actions.ts';

const EXTENTS_MAX = 1 << 16;
/** A target that was read or written in this time counts as used. */
const USED_MS = 60_000;
const FIRST_SURVEY_MS = 60_000;
const SURVEY_INTERVAL_MS = 3_600_000;
const ROOM_INTERVAL_MS = 10_000;
/** As long as requests in flight have to end. */
const CLOSE_MS_MAX = 10_000;
/** As long as storage has to make writes durable. */
const LATE_MS_MAX = 60_000;

export interface ServedStoresOptions {
  /** The target that serves a volume of a store, if any. */
  findTarget(path: string, volume: string): Promise<TargetStatus | undefined>;
  /** Does something while a target gets no requests, and announces it then. */
  whilePaused<T>(target: TargetStatus, work: () => Promise<T>): Promise<T>;
  readonly log: Logger;
}

export class ServedStores {
  readonly #options: ServedStoresOptions;
  /** By path, also of stores that are not open any more. */
  readonly #stores = new Map<string, ServedStore>();
  readonly #timers: NodeJS.Timeout[];
  #closed = false;

  constructor(options: ServedStoresOptions) {
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
    if (this.#closed || !openStorePaths().includes(path)) return undefined;
    const store = this.#stores.get(path) ?? new ServedStore(path, this.#options);
    this.#stores.set(path, store);
    return store;
  }

  /** Collects a store whose writes wait for room. @returns whether there is some now */
  async makeRoom(path: string): Promise<boolean> {
    return (await this.find(path)?.room.make()) ?? false;
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
    await Promise.all(
      Array.from(this.#stores.values(), (store) =>
        within(CLOSE_MS_MAX, store.close(), store.path).catch(() =>
          this.#options.log.warn({ store: store.path }, 'work on a store goes on'),
        ),
      ),
    );
  }

  /** Waits for stores that work has kept open longer than targets: what they lack is stored then. */
  async whenClosed(): Promise<void> {
    if (await endsWithin(LATE_MS_MAX, whenUnusedStoresClosed())) return;
    this.#options.log.error('a store is left as it is: work on it does not end');
  }

  #forEach(care: (store: ServedStore) => Promise<void>): void {
    for (const path of openStorePaths()) {
      const store = this.find(path);
      if (store === undefined) continue;
      care(store).catch((error) => this.#options.log.error(error, `${path} gets no care`));
    }
  }
}

/** A store of a running server. Its methods throw a {@link StartupError} for what is refused. */
export class ServedStore {
  readonly path: string;
  readonly room: RoomKeeper;
  readonly streams: ServedStreams;
  readonly #options: ServedStoresOptions;
  readonly #board = new JobBoard();
  /** For what takes its time. */
  readonly #background: StoreActionsOptions = {
    bytesPerSecondMax: BACKGROUND_BYTES_PER_SECOND,
    isUrgent: () => this.room.isUrgent,
    extentsMax: EXTENTS_MAX,
  };
  /** What is being done, jobs included. */
  readonly #work = new Set<Promise<unknown>>();
  #measured: StoreStatus['measured'] = null;
  /** Of the store when it was measured. */
  #generation = 0;

  constructor(path: string, options: ServedStoresOptions) {
    this.path = path;
    this.#options = options;
    this.streams = new ServedStreams({ path, log: options.log, ...this.#background });
    this.room = new RoomKeeper({
      path,
      board: this.#board,
      collect: (enoughBytes) => this.startJob({ kind: 'collect', enoughBytes })?.id,
      onScrubCancelled: () =>
        options.log.warn({ store: path }, 'a scrub is cancelled for a collection'),
    });
  }

  list(): Promise<StoreList> {
    return this.#act((actions) => actions.list());
  }

  snapshot(volume: string, name: string): Promise<StoreSnapshot> {
    this.#note({ volume, name }, 'a snapshot is taken');
    return this.#act((actions) => actions.snapshot(volume, name));
  }

  clone(source: string, name: string): Promise<StoreVolume> {
    this.#note({ source, name }, 'a clone is made');
    return this.#act((actions) => actions.clone(source, name));
  }

  /**
   * Gives a volume the content of a snapshot, and announces the target that serves it.
   *
   * @param signal nobody wants it any more, unless it is being done
   */
  async rollback(
    volume: string,
    source: string,
    force: boolean,
    signal: AbortSignal,
  ): Promise<StoreVolume> {
    const rolledBack = await this.#rollBack(volume, source, force, signal);
    await this.#act((actions) => actions.confirm());
    return rolledBack;
  }

  async #rollBack(
    volume: string,
    source: string,
    force: boolean,
    signal: AbortSignal,
  ): Promise<StoreVolume> {
    const target = await this.#options.findTarget(this.path, volume);
    if (target === undefined) {
      return this.#act((actions) => actions.rollback(volume, source, false));
    }
    const use = refuseUse(target, force);
    this.#note({ volume, source, use }, 'a volume is rolled back');
    return this.#options.whilePaused(target, async () => {
      // It may have waited long. By now whoever gave it up may have mounted the disk again.
      signal.throwIfAborted();
      // While this waited for its turn, initiators went on, and the configuration may have changed.
      const paused = await this.#options.findTarget(this.path, volume);
      if (paused !== undefined) refuseUse(paused, force);
      return this.#act((actions) => actions.rollback(volume, source, paused !== undefined));
    });
  }

  delete(name: string): Promise<Deleted> {
    this.#note({ name }, 'a volume or snapshot is deleted');
    return this.#act((actions) => actions.delete(name));
  }

  /** @returns undefined when there are too many jobs already */
  startJob(request: JobRequest): JobStatus | undefined {
    return this.#board.start(request, async (watch) => {
      this.#note(request, 'a job is started');
      try {
        return await this.#with((store) => this.#runJob(store, request, watch));
      } catch (error) {
        if (!watch.signal.aborted) this.#options.log.error(error, `${request.kind} has failed`);
        throw error;
      }
    });
  }

  job(id: number): Job | undefined {
    return this.#board.find(id);
  }

  cancelJob(id: number): JobStatus | undefined {
    return this.#board.cancel(id);
  }

  /** Measures the store, when it has changed. */
  async survey(): Promise<void> {
    const isChanged = await withOpenStore(this.path, async ({ generation, readOnly }) => {
      return !readOnly && generation !== this.#generation;
    });
    if (isChanged?.result) this.startJob({ kind: 'stats' });
  }

  /** @returns undefined when it is not open any more */
  async status(): Promise<StoreStatus | undefined> {
    const told = await withOpenStore(this.path, async (store) => {
      const { usedBytes, physicalBytes, logBytes, indexCount, indexBytes } = store.stats();
      return {
        path: this.path,
        damaged: store.readOnly,
        failed: store.failure !== undefined,
        volumes: [...store.volumes].length,
        snapshots: store.snapshotCount,
        ...{ usedBytes, physicalBytes, logBytes, indexEntries: indexCount, indexBytes },
        freeBytes: await measureFree(store),
        measured: this.#measured,
        blobStore: describeReplica(store.replica),
        jobs: this.#board.list(),
      };
    });
    return told?.result;
  }

  async close(): Promise<void> {
    await Promise.all([this.#board.close(), this.streams.close()]);
    await Promise.allSettled(this.#work);
  }

  async #runJob(store: CasStore, request: JobRequest, watch: JobWatch) {
    try {
      const result = await new StoreActions(store, this.#background).run(request, watch);
      if (request.kind === 'stats') this.#remember(result as StoreReport, store.generation);
      return result;
    } finally {
      // One that has failed is not begun again before more was written.
      if (request.kind === 'collect') this.room.collected(store.stats().usedBytes);
    }
  }

  #act<T>(work: (actions: StoreActions) => Promise<T>): Promise<T> {
    return this.#with((store) => work(new StoreActions(store)));
  }

  async #with<T>(work: (store: CasStore) => Promise<T>): Promise<T> {
    const working = withOpenStore(this.path, work);
    this.#work.add(working);
    const done = await working.finally(() => this.#work.delete(working));
    if (done !== undefined) return done.result;
    throw new StartupError(`the store ${this.path} is not open any more`, 'ask again');
  }

  #remember(report: StoreReport, generation: number): void {
    const { logicalBytes, uniqueBytes, compressedBytes, liveBytes, garbageBytes } = report;
    const figures = { logicalBytes, uniqueBytes, compressedBytes, liveBytes, garbageBytes };
    this.#measured = { at: new Date().toISOString(), figures };
    this.#generation = generation;
    this.room.surveyed(report);
  }

  #note(what: object, message: string): void {
    this.#options.log.info({ store: this.path, ...what }, message);
  }
}

/** @returns why it counts as used, if it does; @throws {StartupError} that must not be, unless forced */
function refuseUse(target: TargetStatus, force: boolean): string | undefined {
  const use = describeUse(target);
  if (use === undefined || force) return use;
  throw new StartupError(
    `initiators have ${target.name} in use: ${use}`,
    'let them unmount it first; --force goes back all the same, and damages what is mounted',
  );
}

/**
 * Why a target counts as used by initiators. A filesystem that is mounted and idle sends nothing,
 * so this finds mistakes and proves nothing.
 *
 * @returns undefined when it does not
 */
function describeUse({ inFlight, lastAccess, reserveList }: TargetStatus): string | undefined {
  if (reserveList.length > 0) return `it is reserved for ${reserveList.join(', ')}`;
  if (inFlight > 0) return 'a request is in flight';
  const idleMs = lastAccess === null ? USED_MS : Date.now() - Date.parse(lastAccess);
  return idleMs < USED_MS ? `it was accessed ${Math.floor(idleMs / 1000)} s ago` : undefined;
}

function describeReplica(replica: CasStore['replica']): StoreStatus['blobStore'] {
  if (replica === undefined) return null;
  const { lagBytes, lagMs, unreachable, damage } = replica.state;
  return {
    lagBytes,
    lagSeconds: lagMs / 1000,
    unreachable: unreachable?.message ?? null,
    localDamage: damage?.message ?? null,
  };
}
