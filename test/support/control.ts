import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import type { ServerStatus } from '../../src/status.ts';

export interface ControlAnswer {
  status: number;
  type: string;
  text: string;
}

/** Asks a server on its control socket, as any HTTP client would. */
export function askControl(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, timeout: 20_000 }, async (response) => {
      const status = response.statusCode ?? 0;
      const type = response.headers['content-type'] ?? '';
      text(response).then((received) => resolve({ status, type, text: received }), reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')));
    outgoing.on('error', reject);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** What a server tells of itself. */
export async function askStatus(socketPath: string): Promise<ServerStatus> {
  return JSON.parse((await askControl(socketPath, 'GET', '/v1/status')).text) as ServerStatus;
}
