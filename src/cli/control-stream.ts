/** Streams from and to a running server, on its control socket. */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { ControlError, requireOk, unreachable } from './control-client.ts';

type Bytes = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Sends a request, with `body` if there is one, and yields what is answered.
 *
 * @throws {ControlError} the server cannot be reached, refuses, or breaks off
 * @throws what `body` throws, or the signal's reason
 */
export async function* streamSocket(
  socketPath: string,
  method: string,
  path: string,
  body: Bytes | undefined,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const headers = body === undefined ? {} : { 'content-type': 'application/octet-stream' };
  const outgoing = request({ socketPath, method, path, signal, headers });
  // Also when nobody waits for it any more.
  outgoing.on('error', () => {});
  const source = new Source(body);
  let isReached = false;
  outgoing.once('socket', (socket) => socket.once('connect', () => (isReached = true)));
  try {
    const response = await exchange(outgoing, body && source);
    await requireOk(response);
    yield* response;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ControlError || error === source.error) throw error;
    if (!isReached) throw unreachable(socketPath, error as Error);
    throw new ControlError(
      'the server has broken off before the end',
      'see the log of the server; if it was stopped, start it, and try again',
      { cause: error },
    );
  } finally {
    outgoing.destroy();
  }
}

/** Remembers what was wrong with what is sent. */
class Source {
  error: unknown;
  readonly #chunks: Bytes;

  constructor(chunks: Bytes = []) {
    this.#chunks = chunks;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#chunks;
    } catch (error) {
      this.error = error;
      throw error;
    }
  }
}

/** @returns the answer, which may come before all is sent: then nobody wants the rest */
async function exchange(
  outgoing: ClientRequest,
  body: AsyncIterable<Uint8Array> | undefined,
): Promise<IncomingMessage> {
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  if (body === undefined) outgoing.end();
  else await Promise.race([answered, pipeline(body, outgoing)]);
  const [response] = await answered;
  return response;
}
