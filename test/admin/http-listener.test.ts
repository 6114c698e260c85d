import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { Server, Socket } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { HttpListener } from '../../src/admin/http-listener.ts';
import { BYTES_TYPE, type Bytes, RequestError, type Responder } from '../../src/admin/request.ts';

const CHUNK = Buffer.alloc(64 << 10, 'chunk');
/** What sockets and one write hold. */
const HELD_BYTES_MAX = 2 << 20;

interface Handle {
  onconnection(error: number): void;
}

const directory = mkdtempSync(join(tmpdir(), 'aoe-listener-'));
const path = join(directory, 'socket');
const logged: string[] = [];
let listener: HttpListener;

async function listen(respond: Responder): Promise<void> {
  const log = pino({}, { write: (line: string) => void logged.push(JSON.parse(line).msg) });
  listener = new HttpListener(respond, log);
  await listener.listen({ path });
}

/** Answers with what `make` yields. */
function listenFor(make: (signal: AbortSignal) => Bytes): Promise<void> {
  return listen(async ({ signal }) => {
    return { status: 200, type: BYTES_TYPE, content: make(signal) };
  });
}

async function* forever(): AsyncGenerator<Uint8Array> {
  for (;;) yield CHUNK;
}

function ask(method = 'GET', type?: string): ClientRequest {
  const headers = type === undefined ? {} : { 'content-type': type };
  return request({ socketPath: path, method, headers }).on('error', () => {});
}

async function answerTo(outgoing: ClientRequest): Promise<IncomingMessage> {
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return response.on('error', () => {});
}

afterEach(async () => {
  await listener.close();
  logged.length = 0;
});
afterAll(() => rmSync(directory, { recursive: true }));

it('goes on when there is no memory for a client', async () => {
  const listened = vi.spyOn(Server.prototype, 'listen');
  await listen(async () => ({ status: 200, type: 'text/plain', content: 'here' }));
  expect(listened).toHaveBeenCalledOnce();
  const [server] = listened.mock.contexts as [Server & { _handle: Handle }];
  // As libuv does when accept(2) fails.
  server._handle.onconnection(constants.errno.ENOMEM * -1);
  expect(await text(await answerTo(ask().end()))).toBe('here');
  listened.mockRestore();
});

describe('a stream', () => {
  it('is sent whole', async () => {
    await listenFor(async function* () {
      for (let count = 0; count < 100; count++) yield CHUNK;
    });
    const response = await answerTo(ask().end());
    expect((await buffer(response)).equals(Buffer.alloc(100 * CHUNK.length, CHUNK))).toBe(true);
  });

  it.each([
    new Error('the disk is gone'),
    // Its reader cannot be told any more.
    new RequestError(409, 'the snapshot is damaged'),
  ])('never looks whole when it breaks off, and the log says why: $message', async (error) => {
    await listenFor(async function* () {
      yield CHUNK;
      throw error;
    });
    await expect(buffer(await answerTo(ask().end()))).rejects.toThrow('aborted');
    expect(logged).toEqual(['a control request failed']);
  });

  it('is refused as anything else before it begins', async () => {
    // biome-ignore lint/correctness/useYield: it does not come so far
    await listenFor(async function* () {
      throw new RequestError(409, 'there is no such snapshot');
    });
    const response = await answerTo(ask().end());
    expect(response.statusCode).toBe(409);
    expect(JSON.parse(await text(response))).toMatchObject({ error: 'there is no such snapshot' });
  });

  it('waits for its reader, and ends with it', async () => {
    let [sentBytes, hasEnded] = [0, false];
    await listenFor(async function* () {
      try {
        for (; ; sentBytes += CHUNK.length) yield CHUNK;
      } finally {
        hasEnded = true;
      }
    });
    const response = await answerTo(ask().end());
    for (let before = -1; before !== sentBytes; await sleep(300)) before = sentBytes;
    expect(sentBytes).toBeLessThan(HELD_BYTES_MAX);
    expect(hasEnded).toBe(false);
    response.destroy();
    await expect.poll(() => hasEnded).toBe(true);
    expect(logged).toEqual([]);
  });

  it('is one of few, unless it is text', async () => {
    let type = BYTES_TYPE;
    await listen(async () => ({ status: 200, type, content: forever() }));
    const streams = [ask().end(), ask().end(), ask().end(), ask().end()];
    await Promise.all(streams.map(answerTo));
    expect((await answerTo(ask().end())).statusCode).toBe(503);
    type = 'text/plain';
    const told = ask().end();
    expect((await answerTo(told)).statusCode).toBe(200);
    for (const stream of [...streams, told]) stream.destroy();
  });

  it('ends with a reader that goes while it is prepared', async () => {
    let [hasBegun, hasEnded] = [false, false];
    // biome-ignore lint/correctness/useYield: it does not come so far
    await listenFor(async function* (signal) {
      hasBegun = true;
      await once(signal, 'abort');
      hasEnded = true;
    });
    const outgoing = ask().end();
    await expect.poll(() => hasBegun).toBe(true);
    outgoing.destroy();
    await expect.poll(() => hasEnded).toBe(true);
  });
});

describe('a body of bytes', () => {
  it('may be long, and is taken no faster than it is read', async () => {
    let takenBytes = 0;
    let go = () => {};
    const going = new Promise<void>((resolve) => {
      go = resolve;
    });
    await listen(async ({ bytes }) => {
      await going;
      for await (const chunk of bytes as Bytes) takenBytes += chunk.length;
      return { status: 200, type: 'text/plain', content: `${takenBytes}` };
    });
    const outgoing = ask('PUT', BYTES_TYPE);
    outgoing.end(Buffer.alloc(8 << 20));
    await sleep(200);
    expect(outgoing.socket?.writableLength).toBeGreaterThan(4 << 20);
    go();
    expect(Number(await text(await answerTo(outgoing)))).toBe(8 << 20);
  });

  it('lets its client be silent for minutes, and who takes it for as long as it takes', async () => {
    const limits: number[] = [];
    vi.spyOn(Socket.prototype, 'setTimeout').mockImplementation(function (this: Socket, ms) {
      limits.push(ms);
      return this;
    });
    const found: Record<string, number | undefined> = {};
    await listen(async ({ bytes }) => {
      found['before'] = limits.at(-1);
      const chunks = (bytes as Bytes)[Symbol.asyncIterator]();
      const next = chunks.next();
      found['waiting'] = limits.at(-1);
      await next;
      found['working'] = limits.at(-1);
      return { status: 200, type: 'text/plain', content: '' };
    });
    const outgoing = ask('PUT', BYTES_TYPE);
    outgoing.end(CHUNK);
    await text(await answerTo(outgoing));
    vi.restoreAllMocks();
    expect(found).toEqual({ before: 0, waiting: 600_000, working: 0 });
  });

  it('is heard to be refused, though nobody reads it', async () => {
    await listen(async () => {
      throw new RequestError(409, 'not this one');
    });
    for (let round = 0; round < 20; round++) {
      const outgoing = ask('PUT', BYTES_TYPE);
      const answered = answerTo(outgoing);
      const isAnswered = answered.then(() => true);
      // It goes on to send while it is refused.
      do outgoing.write(CHUNK);
      while (!(await Promise.race([isAnswered, nextTurn(false)])));
      const response = await answered;
      expect([response.statusCode, await text(response)]).toEqual([
        409,
        expect.stringMatching(/not/),
      ]);
      outgoing.destroy();
    }
  });

  it('that comes to an end too early is an error for who reads it', async () => {
    let [hasBegun, message] = [false, ''];
    await listen(async ({ bytes }) => {
      hasBegun = true;
      const work = buffer(bytes as Bytes);
      await work.catch((error: Error) => {
        message = error.message;
      });
      return { status: 200, type: 'text/plain', content: '' };
    });
    const outgoing = ask('PUT', BYTES_TYPE);
    outgoing.write(CHUNK);
    await expect.poll(() => hasBegun).toBe(true);
    outgoing.destroy();
    await expect.poll(() => message).toBe('aborted');
  });

  it('is cut off when it is JSON that comes too slowly', async () => {
    await listen(async () => ({ status: 200, type: 'text/plain', content: '' }));
    const outgoing = ask('PUT');
    outgoing.write('{');
    const startMs = performance.now();
    await new Promise((resolve) => outgoing.once('close', resolve));
    expect(performance.now() - startMs).toBeLessThan(8000);
  }, 10_000);
});
