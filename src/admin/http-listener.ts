/**
 * HTTP with hard bounds, for a few clients on this machine.
 *
 * Invariants: whatever clients do, there are at most CONNECTIONS_MAX of them, none stays longer
 * than its timeouts, and none makes the server keep more than one short request and its reply.
 * A connection serves one request.
 */
import { once } from 'node:events';
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Logger } from 'pino';
import type { ListenAddress } from '../net/listen-address.ts';
import { type Reply, RequestError, type Responder } from './request.ts';

const CONNECTIONS_MAX = 16;
const HEADER_BYTES_MAX = 8 << 10;
/** Nothing that is sent here is long: a list of 255 addresses takes 5 KiB. */
const BODY_BYTES_MAX = 64 << 10;
const REQUEST_MS_MAX = 5000;
/** For a client that does not read its reply. */
const IDLE_MS_MAX = 30_000;
/** For the work on a request: a change of targets may have to wait for storage. */
const WORK_MS_MAX = 600_000;
const CHECK_INTERVAL_MS = 1000;

export class HttpListener {
  readonly #server: Server;
  readonly #respond: Responder;
  readonly #log: Logger;
  readonly #headers: OutgoingHttpHeaders;

  /** Call {@link listen} then. @param headers of every reply */
  constructor(respond: Responder, log: Logger, headers: OutgoingHttpHeaders = {}) {
    this.#respond = respond;
    this.#log = log;
    this.#headers = { ...headers, connection: 'close' };
    this.#server = createServer({
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: REQUEST_MS_MAX,
      requestTimeout: REQUEST_MS_MAX,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    // Otherwise all that were sent at once are handled, whatever the reply says of the connection.
    this.#server.maxRequestsPerSocket = 1;
    this.#server.setTimeout(IDLE_MS_MAX);
    this.#server.on('request', (request, response) => void this.#handle(request, response));
  }

  /**
   * @param umask of the socket, when it is a file
   * @throws the system's error
   */
  async listen(address: ListenAddress, umask: number): Promise<void> {
    const usual = process.umask(umask);
    try {
      // The socket is made in this call; what comes later is the news of it.
      this.#server.listen(address);
    } finally {
      process.umask(usual);
    }
    await once(this.#server, 'listening');
  }

  /** Stops listening; requests in progress are cut off. A socket that is a file is removed. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type, text } = await this.#reply(request);
    request.socket.setTimeout(IDLE_MS_MAX);
    response.writeHead(status, { ...this.#headers, 'content-type': type });
    response.end(text);
  }

  async #reply(request: IncomingMessage): Promise<Reply> {
    try {
      const { method = '', url = '', headers } = request;
      const [path = ''] = url.split('?');
      const body = await readBody(request);
      request.socket.setTimeout(WORK_MS_MAX);
      return await this.#respond({ method, path, headers, body });
    } catch (error) {
      const isOurs = !(error instanceof RequestError) && !request.errored;
      if (isOurs) this.#log.error(error, 'a control request failed');
      return describe(error as Error);
    }
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  // Not destroyed when it is too long: the answer goes the same way.
  const received: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  for await (const chunk of received) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_BYTES_MAX) throw new RequestError(413, 'the request is too long');
    chunks.push(chunk);
  }
  if (sizeBytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new RequestError(400, 'the request is not JSON');
  }
}

function describe(error: Error): Reply {
  const status = error instanceof RequestError ? error.status : 500;
  const remedy = 'remedy' in error ? error.remedy : 'see the log of the server';
  const text = `${JSON.stringify({ error: error.message, remedy })}\n`;
  return { status, type: 'application/json', text };
}
