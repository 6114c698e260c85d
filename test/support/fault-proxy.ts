/** An HTTP proxy before a service that does to requests what networks and busy services do. */
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export const FAULTS = [
  /** 503, and the service never sees the request. */
  'unavailable',
  /** The connection breaks before the service sees the request. */
  'reset',
  /** The service carries the request out, but the answer is lost. */
  'lost answer',
  /** The connection breaks while the body is under way: the service gets half of it. */
  'cut request',
  /** The answer breaks off in its body. */
  'cut off',
  'delay',
  /** The answer comes in pieces, all together in more time than a client bears silence. */
  'slow answer',
  /** Nothing ever comes back, and the service never sees the request. */
  'no answer',
  /** The answer stops in its body, and the connection stays. */
  'half an answer',
  /** The service gets the request twice; the second answer counts. */
  'twice',
  /** The same, but the second time long after the first was answered, when others have been. */
  'late copy',
  /** 409: S3 did nothing, because another conditional request for this name was under way. */
  'conflict',
] as const;
/** 501: the service knows no conditional requests. Not a fault that may strike any request. */
const NO_CONDITIONS = 'no conditions';
export type Fault = (typeof FAULTS)[number] | typeof NO_CONDITIONS;

const LATE_MS = 1500;

const CONDITIONS = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'];
const NOT_IMPLEMENTED =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NotImplemented</Code>' +
  '<Message>A header you provided implies functionality that is not implemented.</Message></Error>';

const CONFLICT =
  '<?xml version="1.0" encoding="UTF-8"?><Error><Code>ConditionalRequestConflict</Code></Error>';

export interface FaultProxy {
  readonly endpoint: string;
  /** Chooses what happens to a request. */
  choose: (method: string, path: string) => Fault | undefined;
  /** false: every request with a condition is answered with 501. */
  knowsConditions: boolean;
  /** How often each fault happened. */
  readonly counts: Map<Fault, number>;
  /** Waits until the late copies of requests have reached the service. */
  settled(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** @param service URL of what is behind it */
export async function startFaultProxy(service: string): Promise<FaultProxy> {
  const server = createServer((incoming, response) => {
    void handle(incoming, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const late: Promise<void>[] = [];
  const proxy: FaultProxy = {
    endpoint: `http://127.0.0.1:${port}${new URL(service).pathname}`.replace(/\/$/, ''),
    choose: () => undefined,
    knowsConditions: true,
    counts: new Map(),
    settled: async () => {
      await Promise.all(late);
    },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(incoming);
    const isRefused =
      !proxy.knowsConditions && CONDITIONS.some((name) => incoming.headers[name] !== undefined);
    const fault = isRefused
      ? NO_CONDITIONS
      : proxy.choose(incoming.method ?? '', incoming.url ?? '');
    if (fault !== undefined) proxy.counts.set(fault, (proxy.counts.get(fault) ?? 0) + 1);
    if (fault === NO_CONDITIONS) {
      response.writeHead(501, { 'content-type': 'application/xml' }).end(NOT_IMPLEMENTED);
      return;
    }
    if (fault === 'unavailable') {
      response.writeHead(503).end();
      return;
    }
    if (fault === 'conflict') {
      response.writeHead(409, { 'content-type': 'application/xml' }).end(CONFLICT);
      return;
    }
    if (fault === 'reset') {
      response.destroy();
      return;
    }
    if (fault === 'cut request') {
      await forwardHalf(service, incoming, body);
      response.destroy();
      return;
    }
    if (fault === 'no answer') return;
    if (fault === 'delay') await delay(50);
    if (fault === 'twice') await forward(service, incoming, body);
    const answer = await forward(service, incoming, body);
    if (fault === 'late copy') late.push(forwardLate(service, incoming, body));
    if (fault === 'lost answer') {
      response.destroy();
      return;
    }
    response.writeHead(answer.statusCode, answer.headers);
    if (fault === 'slow answer') {
      for (const piece of piecesOf(answer.body)) {
        response.write(piece);
        await delay(100);
      }
      response.end();
      return;
    }
    const isHalf = fault === 'cut off' || fault === 'half an answer';
    if (isHalf && answer.body.length > 0) {
      response.write(answer.body.subarray(0, answer.body.length / 2));
      if (fault === 'cut off') setTimeout(() => response.destroy(), 5);
    } else {
      response.end(answer.body);
    }
  }

  return proxy;
}

interface Answer {
  readonly statusCode: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

function forward(service: string, incoming: IncomingMessage, body: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method, headers } = incoming;
    const url = new URL(incoming.url ?? '/', service);
    // The Host header stays what the client signed.
    const outgoing = httpRequest(url, { method, headers, agent: false }, (answer) => {
      bodyOf(answer).then(
        (bytes) =>
          resolve({
            statusCode: answer.statusCode ?? 500,
            headers: answer.headers,
            body: bytes,
          }),
        reject,
      );
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** What the service answers then is nobody's. */
async function forwardLate(
  service: string,
  incoming: IncomingMessage,
  body: Buffer,
): Promise<void> {
  await delay(LATE_MS);
  await forward(service, incoming, body);
}

/** Waits until the service has closed the connection, too. */
function forwardHalf(service: string, incoming: IncomingMessage, body: Buffer): Promise<void> {
  if (body.length === 0) return Promise.resolve();
  return new Promise((resolve) => {
    const { method, headers } = incoming;
    const url = new URL(incoming.url ?? '/', service);
    const outgoing = httpRequest(url, { method, headers, agent: false });
    outgoing.on('error', () => {});
    outgoing.on('close', resolve);
    // Long enough for the service to have read it, so that it knows that more is to come.
    outgoing.write(body.subarray(0, body.length / 2), () => {
      setTimeout(() => outgoing.destroy(), 20);
    });
  });
}

function piecesOf(bytes: Buffer): Buffer[] {
  const size = Math.ceil(bytes.length / 10);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
  return pieces;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
