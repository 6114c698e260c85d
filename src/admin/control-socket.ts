/**
 * The ways in for operators and monitoring: HTTP on a unix socket that only its owner and root can
 * open; and where they are configured, the metrics alone on a loopback address, and the dashboard.
 *
 * Invariants: the sockets exist before the server serves, while it may still open anything, and
 * answer 503 until it does. A socket that a living server listens on is never taken from it.
 */
import { once } from 'node:events';
import { lstat, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import type { ListenAddress } from '../net/listen-address.ts';
import { DASHBOARD_HEADERS, Dashboard } from './dashboard.ts';
import { HttpListener } from './http-listener.ts';
import { RequestError, type Responder } from './request.ts';
import type { Routes } from './routes.ts';

const METRICS_PATH = '/metrics';

export interface ControlOptions {
  /** The control socket. */
  readonly path: string;
  /** Where metrics are, too. */
  readonly metrics: ListenAddress | undefined;
  readonly dashboard: ListenAddress | undefined;
  /** Keeps the token of the dashboard; made at the first start. */
  readonly tokenPath: string;
  readonly log: Logger;
}

export class ControlSocket {
  readonly #log: Logger;
  readonly #listeners: HttpListener[] = [];
  #routes: Routes | undefined;

  private constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Opens the sockets. One that a killed server left is replaced.
   *
   * Call it before there are threads that make files: the process's umask changes for a moment.
   *
   * @throws {StartupError} one of them cannot be opened, or another server listens there
   */
  static async open(options: ControlOptions): Promise<ControlSocket> {
    const socket = new ControlSocket(options.log);
    try {
      await socket.#open(options);
    } catch (error) {
      await socket.close();
      throw error;
    }
    return socket;
  }

  /** Answers by `routes` from now on. */
  serve(routes: Routes): void {
    this.#routes = routes;
  }

  /** Removes the sockets; requests in progress are cut off. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  async #open({ path, metrics, dashboard, tokenPath }: ControlOptions): Promise<void> {
    const control: Responder = async (inquiry) => this.#ready().handle(inquiry);
    await this.#listen('control socket', { path }, new HttpListener(control, this.#log));
    if (metrics !== undefined) {
      const onlyMetrics: Responder = async (inquiry) => {
        if (inquiry.path === METRICS_PATH) return control(inquiry);
        throw new RequestError(404, `only ${METRICS_PATH} is here`);
      };
      await this.#listen('metrics socket', metrics, new HttpListener(onlyMetrics, this.#log));
    }
    if (dashboard !== undefined) {
      const page = await Dashboard.load({ address: dashboard, tokenPath, control });
      const listener = new HttpListener(page.respond, this.#log, DASHBOARD_HEADERS);
      await this.#listen('dashboard', dashboard, listener);
      this.#log.info({ ...dashboard, tokenPath }, 'the dashboard is open');
    }
  }

  async #listen(what: string, address: ListenAddress, listener: HttpListener): Promise<void> {
    if ('path' in address) await replaceLeftover(address.path);
    this.#listeners.push(listener);
    await listen(listener, what, address);
  }

  #ready(): Routes {
    if (this.#routes !== undefined) return this.#routes;
    throw new RequestError(503, 'the server is starting', 'try again in a moment');
  }
}

async function listen(listener: HttpListener, what: string, address: ListenAddress) {
  try {
    await listener.listen(address);
  } catch (cause) {
    const remedy =
      'path' in address
        ? 'choose a path of at most 107 bytes, in a directory that exists and can be written'
        : 'choose a port that no other program uses';
    throw new StartupError(`cannot open the ${what}: ${(cause as Error).message}`, remedy, {
      cause,
    });
  }
}

/** Removes a socket at `path` that nobody listens on any more. */
async function replaceLeftover(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new StartupError(
      `${path} is there and is no socket`,
      'remove it, or choose another path',
    );
  }
  if (await isListenedOn(path)) {
    throw new StartupError(
      `another server listens on ${path}`,
      'stop that server, or choose another path',
    );
  }
  await rm(path, { force: true });
}

async function isListenedOn(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    // Anything else, such as a queue that is full, says that somebody is there.
    return (error as NodeJS.ErrnoException).code !== 'ECONNREFUSED';
  } finally {
    socket.destroy();
  }
}
