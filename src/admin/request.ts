/** What is said between a listener and those who answer. */
import type { IncomingHttpHeaders } from 'node:http';
import { StartupError } from '../core/startup-error.ts';

export interface Inquiry {
  readonly method: string;
  /** Without what follows a question mark. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** From JSON; undefined when nothing was sent. */
  readonly body: unknown;
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
    if (!(error instanceof StartupError)) throw error;
    throw new RequestError(409, error.message, error.remedy);
  }
}

export interface Reply {
  /** The HTTP status. */
  readonly status: number;
  /** The content type. */
  readonly type: string;
  readonly text: string;
}

/** @throws {RequestError} the request is refused */
export type Responder = (inquiry: Inquiry) => Promise<Reply>;
