/** Asks a running server on its control socket. */
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { loadControlPath } from '../config/load.ts';

const STATUS_OK = 200;
const TIMEOUT_MS = 30_000;
/** For what changes something: it may have to wait for storage, and for other changes. */
const CHANGE_TIMEOUT_MS = 600_000;

/** The server cannot be reached, or refuses. */
export class ControlError extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: ErrorOptions) {
    super(message, options);
    this.remedy = remedy;
  }
}

/** The server was reached, and refuses. */
export class RefusedError extends ControlError {}

/**
 * Sends a request to the server of the configuration file `config`.
 *
 * @returns the JSON of its answer
 * @throws {ControlError} it cannot be reached, or refuses; @throws {ConfigError}
 */
export function ask(
  config: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  return askSocket(loadControlPath(config), method, path, body);
}

/**
 * The same for the server whose control socket is known.
 *
 * @throws {ControlError}; @throws when `signal` aborts it
 */
export async function askSocket(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  const response = await send(socketPath, method, path, body, signal);
  await requireOk(response);
  return readJson(response);
}

/** @throws {RefusedError} the server refuses; @throws {ControlError} it is no aoe-server */
export async function requireOk(response: IncomingMessage): Promise<void> {
  if (response.statusCode === STATUS_OK) return;
  const { error, remedy } = ((await readJson(response)) ?? {}) as Record<string, unknown>;
  if (typeof error !== 'string' || typeof remedy !== 'string') throw strange(response);
  throw new RefusedError(error, remedy);
}

async function readJson(response: IncomingMessage): Promise<unknown> {
  const answer = await text(response).catch((cause: Error) => {
    const problem = `the server has broken off its answer: ${cause.message}`;
    throw new ControlError(problem, 'see the log of the server', { cause });
  });
  try {
    return JSON.parse(answer);
  } catch {
    throw strange(response);
  }
}

function strange({ statusCode }: IncomingMessage): ControlError {
  return new ControlError(
    `what listens there answers as no aoe-server does, with status ${statusCode}`,
    'see what server.control names; a server also does so to names of thousands of characters',
  );
}

export function unreachable(socketPath: string, cause: NodeJS.ErrnoException): ControlError {
  const problem = `cannot reach a server at ${socketPath}: ${cause.message}`;
  return new ControlError(problem, remedyOf(cause.code), { cause });
}

function send(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  const timeout = method === 'GET' ? TIMEOUT_MS : CHANGE_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, timeout, ...(signal && { signal }) },
      resolve,
    );
    outgoing.on('timeout', () => outgoing.destroy(late(socketPath, timeout)));
    outgoing.on('error', (cause) =>
      reject(cause instanceof ControlError ? cause : unreachable(socketPath, cause)),
    );
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function late(socketPath: string, timeoutMs: number): ControlError {
  return new ControlError(
    `the server at ${socketPath} has not answered within ${timeoutMs / 1000} s`,
    'it may still do what it was asked for: see its log, and what aoe-server status tells',
  );
}

function remedyOf(code: string | undefined): string {
  switch (code) {
    case 'EACCES':
      return 'run this command as root, or as the user that runs the server';
    case 'ENOENT':
    case 'ECONNREFUSED':
      return 'is it running, with this configuration file?';
    default:
      return 'it may be stopping, or have too many clients: see its log, and try again';
  }
}
