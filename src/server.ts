/**
 * Composition root: from a checked configuration to a serving server, and back down. The state
 * directory and the control socket are there once; the data path runs in this thread, or in several
 * of its own.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { ControlSocket } from './admin/control-socket.ts';
import { Routes } from './admin/routes.ts';
import { StateStore } from './aoe/state-store.ts';
import { becomeUser } from './become-user.ts';
import type { Config, TargetConfig } from './config/config.ts';
import { DataPath } from './data-path.ts';
import { LiveOperations } from './live-operations.ts';
import { native } from './native.ts';
import type { Reloaded } from './status.ts';
import { allEnded } from './wait-while.ts';
import { type Callable, WorkerThread } from './worker-thread.ts';

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

class Server implements RunningServer {
  readonly failed: Promise<Error>;
  /** What it was started with. */
  readonly #config: Config;
  readonly #log: Logger;
  readonly #parts: Part[] = [];
  readonly #operations: LiveOperations;
  #state: StateStore | undefined;
  #control: ControlSocket | undefined;
  #fail: (error: Error) => void = () => {};
  #closing: Promise<void> | undefined;

  constructor(config: Config, log: Logger, loadAgain: () => Promise<Config>) {
    this.#config = config;
    this.#log = log;
    this.#operations = new LiveOperations({ config, loadAgain, parts: this.#parts, log });
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
    await this.#operations.refuseRivals(targets);
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
    await this.#operations.start(stored);
    this.#control.serve(new Routes(this.#operations));
    this.#log.info({ targets: targets.length, workers: server.workers }, 'serving');
  }

  reload(): Promise<Reloaded> {
    return this.#operations.reload();
  }

  async answer(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.status()));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #makePart(index: number, targets: readonly TargetConfig[], state: StateStore): Part {
    const { server } = this.#config;
    const share = { index, count: server.workers };
    const onFailed = (error: Error) => this.#fail(error);
    const makeRoom = (path: string) => this.#operations.stores.makeRoom(path);
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

  async #close(): Promise<void> {
    await this.#operations.stop();
    await this.#control?.close();
    await this.#operations.close();
    try {
      await allEnded(this.#parts.map((part) => part.close()));
    } finally {
      await this.#operations.stores.whenClosed();
      await this.#state?.close();
    }
  }
}
