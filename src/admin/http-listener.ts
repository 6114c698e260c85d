/**
 * HTTP with hard bounds, for a few clients on this machine.
 *
 * Invariants: whatever clients do, there are at most CONNECTIONS_MAX of them, none stays longer
 * than its timeouts, and none makes the server keep more than one short request and its reply, or
 * a piece of a stream. A connection serves one request. A stream that breaks off never looks whole.
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
import { BYTES_TYPE, type Bytes, type Reply, RequestError, type Responder } from './request.ts';

const CONNECTIONS_MAX = 16;
/** Snapshots take long: others must find a connection. */
const STREAMS_MAX = 4;
const HEADER_BYTES_MAX = 8 << 10;
/** Nothing that is sent here is long: a list of 255 addresses takes 5 KiB. */
const BODY_BYTES_MAX = 64 << 10;
const REQUEST_MS_MAX = 5000;
/** For a client that does not read its reply. */
const IDLE_MS_MAX = 30_000;
/** For the work on a request: a change of targets may have to wait for storage. */
const WORK_MS_MAX = 600_000;
/** For the other end of a stream, which may have to wait for storage as well. */
const STREAM_IDLE_MS_MAX = 600_000;
const CHECK_INTERVAL_MS = 1000;
/** All but the owner's reading and writing. */
const UMASK = 0o177;

type ShortReply = Reply & { readonly content: string };

export class HttpListener {
  readonly #server: Server;
  readonly #respond: Responder;
  readonly #log: Logger;
  readonly #headers: OutgoingHttpHeaders;
  readonly #streams = new Set<ServerResponse>();

  /** Call {@link listen} then. @param headers of every reply */
  constructor(respond: Responder, log: Logger, headers: OutgoingHttpHeaders = {}) {
    this.#respond = respond;
    this.#log = log;
    this.#headers = { ...headers, connection: 'close' };
    this.#server = createServer({
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: REQUEST_MS_MAX,
      // It would end streams as well.
      requestTimeout: 0,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    // Otherwise all that were sent at once are handled, whatever the reply says of the connection.
    this.#server.maxRequestsPerSocket = 1;
    this.#server.setTimeout(IDLE_MS_MAX);
    this.#server.on('request', (request, response) => void this.#handle(request, response));
  }

  /** A socket that is a file is for its owner. @throws the system's error */
  async listen(address: ListenAddress): Promise<void> {
    const usual = process.umask(UMASK);
    try {
      // The socket is made in this call; what comes later is the news of it.
      this.#server.listen(address);
    } finally {
      process.umask(usual);
    }
    await once(this.#server, 'listening');
    // A client that cannot be taken, for a lack of memory or descriptors, sees that itself. Without
    // this it would end the process.
    this.#server.on('error', () => {});
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
    const gone = new AbortController();
    const { signal } = gone;
    response.once('close', () => gone.abort(new Error('the client is gone')));
    const isBytes = request.headers['content-type'] === BYTES_TYPE;
    const sent = isBytes ? request.iterator({ destroyOnReturn: false }) : undefined;
    try {
      const reply = await this.#reply(request, response, sent, signal);
      if (typeof reply.content === 'string') {
        await this.#tell(response, { ...reply, content: reply.content }, sent);
        return;
      }
      const isLong = reply.type === BYTES_TYPE;
      if (isLong) this.#enter(response);
      const idleMs = isLong ? STREAM_IDLE_MS_MAX : IDLE_MS_MAX;
      const head = () => response.writeHead(reply.status, this.#headersOf(reply));
      await stream(reply.content, response, head, idleMs, signal);
    } catch (error) {
      const isTold = error instanceof RequestError && !response.headersSent;
      const isOurs = !isTold && !request.errored && !signal.aborted;
      if (isOurs) this.#log.error(error, 'a control request failed');
      // Only a connection that breaks tells that this is not all.
      if (response.headersSent) response.destroy();
      else await this.#tell(response, describe(error as Error), sent);
    }
  }

  async #reply(
    request: IncomingMessage,
    response: ServerResponse,
    sent: AsyncIterator<Uint8Array> | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { method = '', url = '', headers, socket } = request;
    const [path = '', query] = url.split('?');
    const asked = { method, path, query: new URLSearchParams(query), headers, signal };
    if (sent === undefined) {
      const body = await readBody(request);
      socket.setTimeout(WORK_MS_MAX);
      return await this.#respond({ ...asked, body, bytes: undefined });
    }
    this.#enter(response);
    // The client's time runs while it is waited for. What is done with it takes as long as it takes.
    socket.setTimeout(0);
    const next = () => {
      socket.setTimeout(STREAM_IDLE_MS_MAX);
      return sent.next().finally(() => socket.setTimeout(0));
    };
    // The rest is read here when nobody else does.
    const bytes = { [Symbol.asyncIterator]: () => ({ next }) };
    return await this.#respond({ ...asked, body: undefined, bytes });
  }

  /** @param sent what the client may still be sending */
  async #tell(
    response: ServerResponse,
    reply: ShortReply,
    sent: AsyncIterator<Uint8Array> | undefined,
  ): Promise<void> {
    const { status, content } = reply;
    response.socket?.setTimeout(IDLE_MS_MAX);
    const length = Buffer.byteLength(content);
    response.writeHead(status, { ...this.#headersOf(reply), 'content-length': length });
    response.write(content);
    // From a connection that is closed it would not hear the answer.
    if (sent !== undefined) await drain(sent);
    response.end();
  }

  #headersOf({ type }: Reply): OutgoingHttpHeaders {
    return { ...this.#headers, 'content-type': type };
  }

  /** Makes it one of the streams until it ends. @throws {RequestError} there are too many */
  #enter(response: ServerResponse): void {
    if (this.#streams.has(response)) return;
    if (this.#streams.size >= STREAMS_MAX) {
      throw new RequestError(503, 'too many snapshots are on their way already', 'wait for them');
    }
    this.#streams.add(response);
    response.once('close', () => this.#streams.delete(response));
  }
}

/**
 * Sends bytes as fast as they are taken.
 *
 * @param head sends what comes before them
 * @param idleMs how long a client may take nothing
 */
async function stream(
  bytes: Bytes,
  response: ServerResponse,
  head: () => unknown,
  idleMs: number,
  signal: AbortSignal,
): Promise<void> {
  const chunks = bytes[Symbol.asyncIterator]();
  try {
    // Preparing them takes as long as it takes.
    response.socket?.setTimeout(0);
    let next = await chunks.next();
    response.socket?.setTimeout(idleMs);
    head();
    for (; !next.done; next = await chunks.next()) {
      signal.throwIfAborted();
      if (!response.write(next.value)) await once(response, 'drain', { signal });
    }
    response.end();
  } finally {
    await chunks.return?.();
  }
}

/** Lets a client send what nobody wants, for as long as it needs to hear that. */
async function drain(sent: AsyncIterator<Uint8Array>): Promise<void> {
  const deadlineMs = performance.now() + REQUEST_MS_MAX;
  try {
    while (!(await sent.next()).done) if (performance.now() > deadlineMs) return;
  } catch {
    // It has gone, which is what it should do.
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  // Not destroyed when it is too long: the answer goes the same way.
  const received: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  const late = setTimeout(() => request.destroy(), REQUEST_MS_MAX);
  try {
    for await (const chunk of received) {
      sizeBytes += chunk.length;
      if (sizeBytes > BODY_BYTES_MAX) throw new RequestError(413, 'the request is too long');
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(late);
  }
  if (sizeBytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new RequestError(400, 'the request is not JSON');
  }
}

function describe(error: Error): ShortReply {
  const status = error instanceof RequestError ? error.status : 500;
  const remedy = 'remedy' in error ? error.remedy : 'see the log of the server';
  const content = `${JSON.stringify({ error: error.message, remedy })}\n`;
  return { status, type: 'application/json', content };
}
