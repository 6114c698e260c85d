/**
 * A store that this server has open, as operators see it: what must not happen to a disk that is
 * being served is refused here, and long work is done in the background, at a pace that leaves
 * room for clients.
 */
import type { Logger } from 'pino';
import {
  BACKGROUND_BYTES_PER_SECOND,
  type CasStore,
  withOpenStore,
} from '../backends/cas/index.ts';
import { StartupError } from '../core/startup-error.ts';
import type { TargetStatus } from '../status.ts';
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

export interface ServedStoreOptions {
  /** The target that serves a volume of a store, if any. */
  findTarget(path: string, volume: string): Promise<TargetStatus | undefined>;
  /** Does something while a target gets no requests, and announces it then. */
  whilePaused<T>(target: TargetStatus, work: () => Promise<T>): Promise<T>;
  readonly log: Logger;
}

/** Its methods throw a {@link StartupError} for what is refused. */
export class ServedStore {
  readonly path: string;
  readonly room: RoomKeeper;
  readonly streams: ServedStreams;
  readonly #options: ServedStoreOptions;
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

  constructor(path: string, options: ServedStoreOptions) {
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
    this.#note({ volume, name }, 'a snapshot is to be taken');
    return this.#act((actions) => actions.snapshot(volume, name));
  }

  clone(source: string, name: string): Promise<StoreVolume> {
    this.#note({ source, name }, 'a clone is to be made');
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
    this.#note({ volume, source, use }, 'a volume is to be rolled back');
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
    this.#note({ name }, 'a volume or snapshot is to be deleted');
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
    await withOpenStore(this.path, async ({ generation, readOnly }) => {
      // At once: a moment later the server may have cancelled all jobs, as it stops.
      if (!readOnly && generation !== this.#generation) this.startJob({ kind: 'stats' });
    });
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

  /** Cancels what goes on, and waits for its end. For writes that wait room is still made. */
  async cancelAll(): Promise<void> {
    this.room.rest();
    await Promise.all([this.#board.cancelAll(), this.streams.close()]);
    await Promise.allSettled(this.#work);
  }

  /** The same, when no write waits any more. */
  async close(): Promise<void> {
    this.room.close();
    await this.cancelAll();
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
