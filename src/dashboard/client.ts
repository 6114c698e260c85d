/** Asks the server. The token is kept for as long as this tab of the browser is open. */
import type { ServerStatus } from '../status.ts';

const ANSWER_MS_MAX = 5000;
/** For what may have to wait for storage; as long as the commands wait. */
const CHANGE_MS_MAX = 600_000;
const TOKEN_KEY = 'aoe-server-token';

/** The server has answered, and refused. */
export class RefusedError extends Error {
  readonly isForToken: boolean;

  constructor(status: number, message: string) {
    super(message);
    this.isForToken = status === 401;
  }
}

export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN_KEY) !== null;
}

export function forgetToken(): void {
  sessionStorage.removeItem(TOKEN_KEY);
}

/** Keeps a token. @throws {RefusedError} it is not the server's */
export async function useToken(token: string): Promise<void> {
  await request('GET', '/v1/status', undefined, token);
  sessionStorage.setItem(TOKEN_KEY, token);
}

/**
 * @throws {RefusedError} a token is needed
 * @throws {TypeError | DOMException} there is no answer
 */
export async function readStatus(): Promise<ServerStatus> {
  return (await request('GET', '/v1/status')) as ServerStatus;
}

/** Asks about a store, or for a change of it. @throws as {@link readStatus} */
export function askStore(
  store: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: object,
): Promise<unknown> {
  return request(method, `/v1/stores/${encodeURIComponent(store)}${path}`, body);
}

async function request(
  method: string,
  path: string,
  body?: object,
  token = sessionStorage.getItem(TOKEN_KEY),
): Promise<unknown> {
  const response = await fetch(path, {
    method,
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    body: body === undefined ? null : JSON.stringify(body),
    signal: AbortSignal.timeout(method === 'GET' ? ANSWER_MS_MAX : CHANGE_MS_MAX),
  });
  const answer = await response.json();
  if (response.ok) return answer;
  throw new RefusedError(response.status, `${answer.error}: ${answer.remedy}`);
}
