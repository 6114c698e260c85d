/**
 * Composition root: from a checked configuration to a serving server, and back down. What must be
 * there once is here: the lock of the state directory, the look-out for rivals, and stores. The
 * data path runs in this thread, or in several of its own.
 */
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { ControlSocket } from './admin/control-socket.ts';
import type { Operations, Reloaded } from './admin/operations.ts';
import { Routes } from './admin/routes.ts';
import { RivalWatch, refuseRivals } from './aoe/rival-watch.ts';
import { addressOf, takes } from './aoe/share.ts';
import { StateStore } from './aoe/state-store.ts';
import type { ListChange } from './aoe/target-state.ts';
import { becomeUser } from './become-user.ts';
import { compareConfigs, findMovedStorage } from './config/compare.ts';
import type { Config, TargetConfig } from './config/config.ts';
import { LOG_LEVELS } from './config/schema.ts';
import { StartupError } from './core/startup-error.ts';
import { DataPath } from './data-path.ts';
import { setLogLevel } from './log.ts';
import { native } from './native.ts';
import { mergeStatus, type ServerStatus, type TargetStatus } from './status.ts';
import { type ServedStore, ServedStores } from './stores/served-stores.ts';
import { VERSION } from './version.ts';
import { type Callable, WorkerThread } from './worker-thread.ts';

export interface RunningServer {
  /**
   * Adds and removes targets as a new configuration says. Nothing changes when it fails.
   *
   * @throws {ConfigError} the configuration is wrong
   * @throws {StartupError} it changes what only a restart can, or a target cannot be opened
   */
  reload(): Promise<Reloaded>;
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
  loadAgain: () => Config = () => config,
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

/** @throws {StartupError} a store would have to be open in several threads */
function refuseSharedStores(targets: readonly TargetConfig[]): void {
  const stored = targets.find(({ backend }) => backend.type === 'cas');
  if (stored === undefined) return;
  throw new StartupError(
    `${stored.name} is in a content-addressed store, which one thread must have for itself`,
    'set workers = 1',
  );
}

function namesOf(targets: readonly TargetConfig[]): ReadonlyMap<number, string> {
  return new Map(targets.map((target) => [addressOf(target), target.name]));
}

function nameOf({ name }: TargetConfig): string {
  return name;
}

class Server implements RunningServer, Operations {
  readonly failed: Promise<Error>;
  #config: Config;
  readonly #loadAgain: () => Config;
  /** Reloads and pauses of targets: one after the other. */
  #changing: Promise<unknown> = Promise.resolve();
  readonly #stores: ServedStores;
  readonly #log: Logger;
  readonly #parts: Part[] = [];
  readonly #startedAt = new Date();
  #state: StateStore | undefined;
  #control: ControlSocket | undefined;
  #rivals: RivalWatch | undefined;
  /** Targets that were removed while their storage hung: it may still execute writes. */
  readonly #unclosed: TargetConfig[] = [];
  #fail: (error: Error) => void = () => {};
  #closing: Promise<void> | undefined;

  constructor(config: Config, log: Logger, loadAgain: () => Config) {
    this.#config = config;
    this.#loadAgain = loadAgain;
    this.#log = log;
    this.#stores = new ServedStores({
      findTarget: (path, volume) => this.#findTarget(path, volume),
      whilePaused: (target, work) => this.#whilePaused(target, work),
      log,
    });
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async start(): Promise<void> {
    const { server, targets } = this.#config;
    if (server.workers > 1) refuseSharedStores(targets);
    this.#state = await StateStore.open(server.stateDir, native.lockFile);
    this.#control = await ControlSocket.open({
      path: server.controlPath,
      metrics: server.metrics,
      dashboard: server.dashboard,
      tokenPath: join(server.stateDir, 'dashboard-token'),
      log: this.#log,
    });
    await refuseRivals(namesOf(targets), server.interfaces);
    for (let index = 0; index < server.workers; index++) {
      const part = this.#makePart(index, this.#state);
      this.#parts.push(part);
      await part.start();
    }
    if (server.user !== undefined) {
      const { stateDir, controlPath, metrics, dashboard } = server;
      const sockets = [{ path: controlPath }, metrics, dashboard].flatMap((address) =>
        address !== undefined && 'path' in address ? [address.path] : [],
      );
      await becomeUser(server.user, stateDir, sockets, this.#parts);
    }
    this.#watchRivals();
    this.#control.serve(new Routes(this));
    this.#log.info({ targets: targets.length, workers: server.workers }, 'serving');
  }

  reload(): Promise<Reloaded> {
    return this.#change(() => this.#reload());
  }

  async status(): Promise<ServerStatus> {
    const parts = await Promise.all(this.#parts.map((part) => part.status()));
    return {
      version: VERSION,
      pid: process.pid,
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

  async setLists(name: string, lists: ListChange): Promise<boolean> {
    const target = this.#config.targets.find((one) => one.name === name);
    if (target === undefined) return false;
    const address = addressOf(target);
    return (await this.#partOf(address)?.setLists(address, lists)) ?? false;
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

  #makePart(index: number, state: StateStore): Part {
    const { server, targets } = this.#config;
    const share = { index, count: server.workers };
    const onFailed = (error: Error) => this.#fail(error);
    return server.workers === 1
      ? new DataPath({ server, targets, share, state, log: this.#log, onFailed })
      : new WorkerThread({ server, targets, share, onFailed });
  }

  #partOf(address: number): Part | undefined {
    const count = this.#parts.length;
    return this.#parts.find((_, index) => takes({ index, count }, address));
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

  #whilePaused<T>({ shelf, slot }: TargetStatus, work: () => Promise<T>): Promise<T> {
    const address = addressOf({ shelf, slot });
    return this.#change(async () => {
      const part = this.#partOf(address);
      try {
        await part?.pauseTarget(address);
        return await work();
      } finally {
        await part?.resumeTarget(address);
      }
    });
  }

  async #reload(): Promise<Reloaded> {
    const next = this.#loadAgain();
    const { added, removed, fixed } = compareConfigs(this.#config, next);
    if (fixed.length > 0) {
      throw new StartupError(
        `only a restart can change ${fixed.join(', ')}`,
        'undo these changes, or restart the server',
      );
    }
    const moved = findMovedStorage([...this.#config.targets, ...this.#unclosed], added);
    if (moved !== undefined) {
      throw new StartupError(
        moved,
        'reload twice: remove the other target first; if its storage hangs, restart the server',
      );
    }
    if (next.server.workers > 1) refuseSharedStores(next.targets);
    await refuseRivals(namesOf(added), next.server.interfaces);
    await this.#addTargets(added);
    await this.#removeTargets(removed);
    const { logLevel } = this.#config.server;
    this.#config = next;
    // Otherwise the operator's choice stays.
    if (next.server.logLevel !== logLevel) await this.setLogLevel(next.server.logLevel);
    this.#watchRivals();
    const names = { added: added.map(nameOf), removed: removed.map(nameOf) };
    this.#log.info(names, 'reloaded');
    return names;
  }

  /** Adds all of them, or none. */
  async #addTargets(added: readonly TargetConfig[]): Promise<void> {
    try {
      for (const part of this.#parts) await part.openTargets(added);
    } catch (error) {
      await Promise.all(this.#parts.map((part) => part.discardTargets()));
      throw error;
    }
    await Promise.all(this.#parts.map((part) => part.serveTargets()));
  }

  async #removeTargets(removed: readonly TargetConfig[]): Promise<void> {
    const addresses = removed.map(addressOf);
    const unclosed = await Promise.all(this.#parts.map((part) => part.removeTargets(addresses)));
    const left = new Set(unclosed.flat());
    this.#unclosed.push(...removed.filter((target) => left.has(addressOf(target))));
  }

  #watchRivals(): void {
    const { server, targets } = this.#config;
    this.#rivals?.close();
    this.#rivals = new RivalWatch(namesOf(targets), server.interfaces, this.#log);
  }

  async #close(): Promise<void> {
    await this.#changing;
    await this.#control?.close();
    await this.#stores.close();
    this.#rivals?.close();
    const closed = await Promise.allSettled(this.#parts.map((part) => part.close()));
    await this.#state?.close();
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }
}
