/**
 * The control socket: HTTP on a unix socket that only its owner and root can open.
 *
 * Invariants:
 * - It exists before the server serves and answers 503 until it does: `#routes` is then set.
 * - The state directory's `control.sock` is the socket, or a link to it: clients need to know no
 *   more than the state directory. The lock of that directory keeps other servers away from it.
 */
import { once } from 'node:events';
import { rm, symlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import { type Reply, RequestError, type Routes } from './routes.ts';

/** Nothing that is sent here is long. */
const BODY_BYTES_MAX = 64 << 10;
/** All but the owner's reading and writing. */
const UMASK = 0o177;

export class ControlSocket {
  readonly #server: Server;
  readonly #link: string | undefined;
  readonly #log: Logger;
  #routes: Routes | undefined;

  private constructor(server: Server, link: string | undefined, log: Logger) {
    this.#server = server;
    this.#link = link;
    this.#log = log;
    server.on('request', (request, response) => void this.#handle(request, response));
  }

  /**
   * Opens the socket at `path`. A socket that a crashed server left there is replaced.
   *
   * Call it before there are threads that make files: the process's umask changes for a moment.
   *
   * @param stateDir the state directory, locked by this process
   * @throws {StartupError} it cannot be opened
   */
  static async open(path: string, stateDir: string, log: Logger): Promise<ControlSocket> {
    const usual = join(resolve(stateDir), 'control.sock');
    const server = createServer();
    try {
      await rm(path, { force: true });
      await listen(server, path);
      if (path === usual) return new ControlSocket(server, undefined, log);
      await rm(usual, { force: true });
      await symlink(path, usual);
    } catch (cause) {
      server.close();
      throw new StartupError(
        `cannot open the control socket ${path}: ${(cause as Error).message}`,
        'set control to a path of at most 107 bytes, in a directory that this user can write',
        { cause },
      );
    }
    return new ControlSocket(server, usual, log);
  }

  /** Answers by `routes` from now on. */
  serve(routes: Routes): void {
    this.#routes = routes;
  }

  /** Removes the socket; requests in progress are cut off. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
    if (this.#link !== undefined) await rm(this.#link, { force: true });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type, text } = await this.#reply(request);
    response.writeHead(status, { 'content-type': type });
    response.end(text);
  }

  async #reply(request: IncomingMessage): Promise<Reply> {
    try {
      if (this.#routes === undefined) {
        throw new RequestError(503, 'the server is starting', 'try again in a moment');
      }
      const { method = '', url = '' } = request;
      const [path = ''] = url.split('?');
      return await this.#routes.handle(method, path, await readBody(request));
    } catch (error) {
      if (!(error instanceof RequestError)) this.#log.error(error, 'a control request failed');
      return failure(error as Error);
    }
  }
}

/** Listens at `path`; the socket never exists with more rights than its owner's. */
async function listen(server: Server, path: string): Promise<void> {
  const umask = process.umask(UMASK);
  try {
    // The socket is made in this call; what comes later is the news of it.
    server.listen(path);
  } finally {
    process.umask(umask);
  }
  await once(server, 'listening');
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Not destroyed when it is too long: the answer goes the same way.
  const received: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  for await (const chunk of received) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw new RequestError(413, 'the request is too long');
    chunks.push(chunk);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new RequestError(400, 'the request is not JSON');
  }
}

function failure(error: Error): Reply {
  const status = error instanceof RequestError ? error.status : 500;
  const remedy = 'remedy' in error ? error.remedy : 'see the log of the server';
  const text = JSON.stringify({ error: error.message, remedy });
  return { status, type: 'application/json', text };
}
