import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { text } from 'node:stream/consumers';
import type { ServerStatus } from '../../src/status.ts';

export interface ControlAnswer {
  status: number;
  type: string;
  headers: IncomingHttpHeaders;
  text: string;
}

/** Asks a server on its control socket, as any HTTP client would. */
export function askControl(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: OutgoingHttpHeaders = {},
): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const options = { socketPath, method, path, headers, timeout: 20_000 };
    const outgoing = request(options, async (response) => {
      const { statusCode: status = 0, headers } = response;
      const type = headers['content-type'] ?? '';
      text(response).then((received) => resolve({ status, type, headers, text: received }), reject);
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
