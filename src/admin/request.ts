/** What is said between a listener and those who answer. */
import type { IncomingHttpHeaders } from 'node:http';
import { StartupError } from '../core/startup-error.ts';

/** In place of a schema: bytes, as a stream. */
export const BYTES = 'bytes';
export const BYTES_TYPE = 'application/octet-stream';
export type Bytes = AsyncIterable<Uint8Array>;

export interface Inquiry {
  readonly method: string;
  /** Without what follows a question mark. */
  readonly path: string;
  /** What follows it. */
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** From JSON; undefined when nothing was sent. */
  readonly body: unknown;
  /** What is sent and is no JSON, as it comes; however long it is. */
  readonly bytes: Bytes | undefined;
  /** The client is gone. */
  readonly signal: AbortSignal;
}

/** A request that is refused; the program shows `message` and `remedy` to people. */
export class RequestError extends Error {
  /** The HTTP status. */
  readonly status: number;
  readonly remedy: string;

  constructor(status: number, message: string, remedy = 'docs/CONTROL.md tells what can be asked') {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

/** Tells a client what a {@link StartupError} tells the operator; other errors are not its business. */
export async function refusing<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw refusal(error);
  }
}

/** The same for bytes. */
export async function* refusingBytes(bytes: Bytes): AsyncGenerator<Uint8Array> {
  try {
    yield* bytes;
  } catch (error) {
    throw refusal(error);
  }
}

function refusal(error: unknown): unknown {
  if (!(error instanceof StartupError)) return error;
  return new RequestError(409, error.message, error.remedy);
}

export interface Reply {
  /** The HTTP status. */
  readonly status: number;
  /** The content type. */
  readonly type: string;
  /** Bytes are made as they are sent; what goes wrong before the first is an answer, too. */
  readonly content: string | Bytes;
}

/** @throws {RequestError} the request is refused */
export type Responder = (inquiry: Inquiry) => Promise<Reply>;
