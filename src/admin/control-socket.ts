/**
 * The way in for operators and monitoring: HTTP on a unix socket that only its owner and root can
 * open, and the metrics alone on a loopback address, if one is configured.
 *
 * Invariants: the sockets exist before the server serves, while it may still open anything, and
 * answer 503 until it does. A socket that a living server listens on is never taken from it.
 */
import { once } from 'node:events';
import { lstat, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import { HttpListener, type Responder } from './http-listener.ts';
import { RequestError } from './request.ts';
import type { Routes } from './routes.ts';

/** All but the owner's reading and writing. */
const UMASK = 0o177;
const METRICS_PATH = '/metrics';

/** A unix socket, or a port of this machine. */
export type MetricsAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

export interface ControlOptions {
  /** The control socket. */
  readonly path: string;
  /** Where metrics are, too. */
  readonly metrics: MetricsAddress | undefined;
  readonly log: Logger;
}

export class ControlSocket {
  readonly #control: HttpListener;
  readonly #metrics: HttpListener;
  #routes: Routes | undefined;

  private constructor(log: Logger) {
    const control: Responder = (method, path, body) => this.#ready().handle(method, path, body);
    this.#control = new HttpListener(control, log);
    this.#metrics = new HttpListener(async (method, path, body) => {
      if (path !== METRICS_PATH) throw new RequestError(404, `only ${METRICS_PATH} is here`);
      return control(method, path, body);
    }, log);
  }

  /**
   * Opens the sockets. One that a killed server left is replaced.
   *
   * Call it before there are threads that make files: the process's umask changes for a moment.
   *
   * @throws {StartupError} one of them cannot be opened, or another server listens there
   */
  static async open({ path, metrics, log }: ControlOptions): Promise<ControlSocket> {
    const socket = new ControlSocket(log);
    try {
      await replaceLeftover(path);
      await listen(socket.#control, 'control socket', { path });
      if (metrics !== undefined) {
        if ('path' in metrics) await replaceLeftover(metrics.path);
        await listen(socket.#metrics, 'metrics socket', metrics);
      }
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
    await Promise.all([this.#control.close(), this.#metrics.close()]);
  }

  #ready(): Routes {
    if (this.#routes !== undefined) return this.#routes;
    throw new RequestError(503, 'the server is starting', 'try again in a moment');
  }
}

async function listen(listener: HttpListener, what: string, address: MetricsAddress) {
  try {
    await listener.listen(address, UMASK);
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
