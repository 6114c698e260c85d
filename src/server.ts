/**
 * Composition root: from a checked configuration to a serving server, and back down. What must be
 * there once is here: the lock of the state directory, the look-out for rivals, and stores. The
 * data path runs in this thread, or in several of its own.
 */
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { ControlSocket } from './admin/control-socket.ts';
import type { Operations } from './admin/operations.ts';
import { Routes } from './admin/routes.ts';
import { RivalWatch, refuseRivals } from './aoe/rival-watch.ts';
import { addressOf } from './aoe/share.ts';
import { StateStore } from './aoe/state-store.ts';
import type { ListChange } from './aoe/target-state.ts';
import { becomeUser } from './become-user.ts';
import type { Config, TargetConfig } from './config/config.ts';
import { LOG_LEVELS } from './config/schema.ts';
import { StartupError } from './core/startup-error.ts';
import { DataPath } from './data-path.ts';
import { LiveTargets } from './live-targets.ts';
import { setLogLevel } from './log.ts';
import { native } from './native.ts';
import { planReload } from './reload-plan.ts';
import { mergeStatus, type Reloaded, type ServerStatus, type TargetStatus } from './status.ts';
import type { ServedStore } from './stores/served-store.ts';
import { ServedStores } from './stores/served-stores.ts';
import { VERSION } from './version.ts';
import { endsWithin } from './wait-while.ts';
import { type Callable, WorkerThread } from './worker-thread.ts';

/** How long a stop waits for a change of targets, such as a store that is being fetched. */
const CHANGE_MS_MAX = 5000;

export interface RunningServer {
  /**
   * Adds, changes and removes targets as a new configuration says. Nothing changes when it fails.
   *
   * @throws {ConfigError} the configuration is wrong
   * @throws {StartupError} it changes what only a restart can, or a target cannot be opened
   * @throws {UnrestoredError} what was changed before it failed could not be undone
   */
  reload(): Promise<Reloaded>;
  /** Resolves when every thread that serves has answered: none of them hangs. */
  answer(): Promise<void>;
  /** Takes no more requests, ends those in flight, makes all writes durable. Idempotent. */
  close(): Promise<void>;
  /** Resolves when the server cannot go on. */
  readonly failed: Promise<Error>;
}

/** What the server runs on: a data path here, or in a thread of its own. */
interface Part extends Callable {
  start(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens everything that `config` names and serves it.
 *
 * @param loadAgain reads the configuration anew
 * @throws {StartupError} with a remedy; everything opened so far is closed again
 */
export async function startServer(
  config: Config,
  log: Logger,
  loadAgain: () => Promise<Config> = async () => config,
): Promise<RunningServer> {
  const server = new Server(config, log, loadAgain);
  try {
    await server.start();
  } catch (error) {
    // What failed first is what the operator must hear of.
    await server.close().catch((cause: Error) => log.error(cause, 'closing failed, too'));
    throw error;
  }
  return server;
}

function namesOf(targets: readonly (TargetConfig | TargetStatus)[]): ReadonlyMap<number, string> {
  return new Map(targets.map((target) => [addressOf(target), target.name]));
}

function nameOf({ name }: TargetConfig): string {
  return name;
}

class Server implements RunningServer, Operations {
  readonly failed: Promise<Error>;
  #config: Config;
  readonly #loadAgain: () => Promise<Config>;
  /** Whatever changes targets: one after the other. */
  #changing: Promise<unknown> = Promise.resolve();
  readonly #stores: ServedStores;
  readonly #log: Logger;
  readonly #parts: Part[] = [];
  readonly #live: LiveTargets;
  readonly #startedAt = new Date();
  #state: StateStore | undefined;
  #control: ControlSocket | undefined;
  #rivals: RivalWatch | undefined;
  #fail: (error: Error) => void = () => {};
  #closing: Promise<void> | undefined;

  constructor(config: Config, log: Logger, loadAgain: () => Promise<Config>) {
    this.#config = config;
    this.#loadAgain = loadAgain;
    this.#log = log;
    this.#live = new LiveTargets(this.#parts, log);
    this.#stores = new ServedStores({
      findTarget: (path, volume) => this.#findTarget(path, volume),
      whilePaused: (target, work) =>
        this.#change(() => this.#live.whileDrained(addressOf(target), work)),
      log,
    });
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async start(): Promise<void> {
    const { server, targets } = this.#config;
    this.#state = await StateStore.open(server.stateDir, native.lockFile);
    this.#control = await ControlSocket.open({
      path: server.controlPath,
      metrics: server.metrics,
      dashboard: server.dashboard,
      tokenPath: join(server.stateDir, 'dashboard-token'),
      log: this.#log,
    });
    await refuseRivals(namesOf(targets), server.interfaces);
    // A store makes files as long as it is open: those that root makes, a user could not open.
    const stored = targets.filter(
      ({ backend }) => backend.type === 'cas' && server.user !== undefined,
    );
    const first = targets.filter((target) => !stored.includes(target));
    for (let index = 0; index < server.workers; index++) {
      const part = this.#makePart(index, first, this.#state);
      this.#parts.push(part);
      await part.start();
    }
    if (server.user !== undefined) await this.#becomeUser(server.user);
    await this.#live.change({ added: stored, changed: [], removed: [] });
    await this.#watchRivals();
    this.#control.serve(new Routes(this));
    this.#log.info({ targets: targets.length, workers: server.workers }, 'serving');
  }

  reload(): Promise<Reloaded> {
    return this.#change(() => this.#reload());
  }

  async answer(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.status()));
  }

  async status(): Promise<ServerStatus> {
    const parts = await Promise.all(this.#parts.map((part) => part.status()));
    return {
      version: VERSION,
      pid: process.pid,
      configPath: this.#config.path,
      startedAt: this.#startedAt.toISOString(),
      workers: this.#parts.length,
      logLevel: this.#log.level,
      ...mergeStatus(parts),
      stores: await this.#stores.status(),
    };
  }

  store(path: string): ServedStore | undefined {
    return this.#stores.find(path);
  }

  async announce(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.announce()));
  }

  setLists(name: string, lists: ListChange): Promise<boolean> {
    // Not while the target is replaced: the new one would not know.
    return this.#change(async () => {
      const target = this.#config.targets.find((one) => one.name === name);
      return target !== undefined && (await this.#live.setLists(addressOf(target), lists));
    });
  }

  drain(name: string): Promise<TargetStatus | undefined> {
    return this.#onTarget(name, (target) => this.#live.drain([addressOf(target)]));
  }

  resume(name: string): Promise<TargetStatus | undefined> {
    return this.#onTarget(name, async (target) => {
      await this.#refuseRivalOf(target);
      await this.#live.resume([addressOf(target)]);
    });
  }

  readd(name: string): Promise<TargetStatus | undefined> {
    return this.#onTarget(name, async (target) => {
      if (target.backend.type === 'memory') {
        throw new StartupError(
          `${name} is a disk in memory: opened anew, it would be empty`,
          'remove the target, and add it again, if that is what you want',
        );
      }
      await this.#refuseRivalOf(target);
      await this.#live.readd(target);
    });
  }

  async setLogLevel(text: string): Promise<boolean> {
    const level = LOG_LEVELS.find((known) => known === text);
    if (level === undefined) return false;
    setLogLevel(this.#log, level);
    await Promise.all(this.#parts.map((part) => part.setLogLevel(level)));
    return true;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #makePart(index: number, targets: readonly TargetConfig[], state: StateStore): Part {
    const { server } = this.#config;
    const share = { index, count: server.workers };
    const onFailed = (error: Error) => this.#fail(error);
    const makeRoom = (path: string) => this.#stores.makeRoom(path);
    return server.workers === 1
      ? new DataPath({ server, targets, share, state, log: this.#log, makeRoom, onFailed })
      : new WorkerThread({ server, targets, share, onFailed });
  }

  async #becomeUser(name: string): Promise<void> {
    const { stateDir, controlPath, metrics, dashboard } = this.#config.server;
    const sockets = [{ path: controlPath }, metrics, dashboard].flatMap((address) =>
      address !== undefined && 'path' in address ? [address.path] : [],
    );
    await becomeUser(name, stateDir, sockets, this.#parts);
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const changed = this.#changing.then(() => {
      if (this.#closing === undefined) return work();
      throw new StartupError('the server is stopping', 'start it');
    });
    this.#changing = changed.catch(() => {});
    return changed;
  }

  async #findTarget(path: string, volume: string): Promise<TargetStatus | undefined> {
    const config = this.#config.targets.find(({ name }) => name === volume);
    if (config?.backend.type !== 'cas' || config.backend.root !== undefined) return undefined;
    if (resolve(config.backend.blobStore.path) !== path) return undefined;
    const { targets } = await this.status();
    return targets.find(({ name }) => name === volume);
  }

  /** Works on the target called `name`. @returns what became of it; undefined when there is none */
  #onTarget(
    name: string,
    work: (target: TargetConfig) => Promise<unknown>,
  ): Promise<TargetStatus | undefined> {
    return this.#change(async () => {
      const target = this.#config.targets.find((one) => one.name === name);
      if (target === undefined) return undefined;
      try {
        await work(target);
      } finally {
        await this.#watchRivals();
      }
      return this.#statusOf(name);
    });
  }

  async #statusOf(name: string): Promise<TargetStatus | undefined> {
    const { targets } = await this.status();
    return targets.find((target) => target.name === name);
  }

  /** @throws {StartupError} a drained target is served by another server now */
  async #refuseRivalOf(target: TargetConfig): Promise<void> {
    const status = await this.#statusOf(target.name);
    if (status?.drained) await refuseRivals(namesOf([target]), this.#config.server.interfaces);
  }

  async #reload(): Promise<Reloaded> {
    const now = this.#config;
    const next = await this.#loadAgain();
    const change = planReload(now, next);
    const { added, changed, removed } = change;
    await this.#live.refuseMovedStorage(now.targets, change);
    await refuseRivals(namesOf(added), next.server.interfaces);
    await this.#live.change(change);
    this.#config = next;
    await this.#follow(now, next).catch((error: Error) =>
      // Whoever hears of an error takes it that nothing has changed.
      this.#log.error(error, 'the targets are as configured now, but not all else'),
    );
    const names = {
      added: added.map(nameOf),
      changed: changed.map(nameOf),
      removed: removed.map(nameOf),
    };
    this.#log.info(names, 'reloaded');
    return names;
  }

  /** What else a new configuration changes, once it is that of the targets. */
  async #follow(now: Config, next: Config): Promise<void> {
    // Otherwise the operator's choice stays.
    if (next.server.logLevel !== now.server.logLevel) await this.setLogLevel(next.server.logLevel);
    await this.#watchRivals();
  }

  /** Others may serve what is drained here. */
  async #watchRivals(): Promise<void> {
    const { targets } = await this.status();
    const served = targets.filter(({ drained }) => !drained);
    this.#rivals?.close();
    this.#rivals = new RivalWatch(namesOf(served), this.#config.server.interfaces, this.#log);
  }

  async #close(): Promise<void> {
    await endsWithin(CHANGE_MS_MAX, this.#changing);
    this.#live.stop();
    await this.#control?.close();
    await this.#stores.close();
    this.#rivals?.close();
    const closed = await Promise.allSettled(this.#parts.map((part) => part.close()));
    await this.#stores.whenClosed();
    await this.#state?.close();
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }
}
