import { once } from 'node:events';
import http, { type RequestOptions } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RemoteStore } from '../../src/cli/cas/remote-store.ts';
import { askSocket } from '../../src/cli/control-client.ts';
import { TempDirectory } from '../support/tools.ts';

const VOLUME = { name: 'e1.0', sizeBytes: 4096, root: '' };

let directory: TempDirectory;
let server: http.Server;
let socketPath: string;
let answer: (response: http.ServerResponse) => void;

beforeEach(async () => {
  directory = await TempDirectory.create();
  socketPath = directory.join('control.sock');
  server = http.createServer((request, response) =>
    request.resume().on('end', () => answer(response)),
  );
  await once(server.listen(socketPath), 'listening');
});
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  server.closeAllConnections();
  server.close();
  await directory[Symbol.asyncDispose]();
});

describe('who asks a server', () => {
  it('waits for a change of a store or a target as long as for a reload', async () => {
    const { request } = http;
    // Seconds become milliseconds.
    vi.spyOn(http, 'request').mockImplementation(((options: RequestOptions, then: () => void) =>
      request({ ...options, timeout: Number(options.timeout) / 100 }, then)) as typeof request);
    syncBuiltinESMExports();
    answer = (response) => void setTimeout(() => response.end(JSON.stringify(VOLUME)), 1000);
    const store = new RemoteStore({ controlPath: socketPath, storePath: '/blobs' });
    expect(await store.rollback('e1.0', 'monday', true)).toEqual(VOLUME);
    expect(await askSocket(socketPath, 'DELETE', '/v1/targets/e1.0/mask-list')).toEqual(VOLUME);
    await expect(askSocket(socketPath, 'GET', '/v1/status')).rejects.toMatchObject({
      message: expect.stringMatching(/control.sock has not answered within 30 s$/),
      remedy: expect.stringContaining('may still do what it was asked for'),
    });
  });

  it('is not told that no server is running by one that hangs up', async () => {
    answer = (response) => response.destroy();
    await expect(askSocket(socketPath, 'GET', '/v1/status')).rejects.toMatchObject({
      message: expect.stringMatching(/^cannot reach a server at .*control.sock: socket hang up$/),
      remedy: expect.stringContaining('too many clients'),
    });
    await expect(askSocket(directory.join('absent'), 'GET', '/')).rejects.toMatchObject({
      remedy: 'is it running, with this configuration file?',
    });
  });

  it.each<[string, (response: http.ServerResponse) => void, RegExp]>([
    [
      'breaks off',
      (response) => response.writeHead(200).write('{', () => response.destroy()),
      /off/,
    ],
    ['is no JSON', (response) => response.end('<html>'), /as no aoe-server does, with status 200/],
    [
      'is not a refusal of a server',
      (response) => response.writeHead(404).end('{"message":""}'),
      /404/,
    ],
    ['is empty', (response) => response.writeHead(400).end(), /with status 400/],
  ])('is told when the answer %s', async (_, act, problem) => {
    answer = act;
    await expect(askSocket(socketPath, 'GET', '/v1/status')).rejects.toMatchObject({
      message: expect.stringMatching(problem),
      remedy: expect.any(String),
    });
  });
});
