import { chmod, readFile, stat } from 'node:fs/promises';
import type { OutgoingHttpHeaders } from 'node:http';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MIB, Setup, TOOLS } from '../faults/setup.ts';
import { askControl } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';

const STORE = { type: 'file', path: 'blobs' };
const TARGET = { shelf: 1, slot: 0, backend: 'cas', cas: { size: 8 * MIB, blob_store: STORE } };

/** Asks from inside a network, and tells the status of the answer. */
const ASK = `
  const [url, headers] = JSON.parse(process.argv[1]);
  require('node:http').get(url, { headers }, ({ statusCode }) => {
    console.log(statusCode);
    process.exit();
  });
`;

let setup: Setup;
let token: string;

function ask(method: string, path: string, headers: OutgoingHttpHeaders = {}, body?: object) {
  return askControl(setup.join('dashboard.sock'), method, path, body, headers);
}

async function statusOf(...asked: Parameters<typeof ask>): Promise<number> {
  return (await ask(...asked)).status;
}

function bearer(text: string): Record<string, string> {
  return { authorization: `Bearer ${text}` };
}

function inStore(path: string): string {
  return `/v1/stores/${encodeURIComponent(setup.join('blobs'))}${path}`;
}

async function countSnapshots(): Promise<number> {
  const { text } = await askControl(setup.join('state/control.sock'), 'GET', '/v1/status');
  return JSON.parse(text).stores[0].snapshots;
}

describeWith(TOOLS, 'the dashboard', () => {
  beforeAll(async () => {
    setup = await Setup.create();
    await setup.serverNetwork.run('ip', ['addr', 'add', '192.0.2.1/24', 'dev', 's0']);
    await setup.initiatorNetwork.run('ip', ['addr', 'add', '192.0.2.2/24', 'dev', 'c0']);
    await setup.start([TARGET], { settings: { dashboard: './dashboard.sock' } });
    token = (await readFile(setup.join('state/dashboard-token'), 'utf8')).trim();
  });
  afterAll(() => disposeAll(setup));

  it('makes a token of its own at the first start, for its owner only, and tells where', async () => {
    const path = setup.join('state/dashboard-token');
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(setup.server.logText()).toContain(path);
    expect(setup.server.logText()).not.toContain(token);
  });

  it('lets this machine look without the token', async () => {
    const { status, text } = await ask('GET', '/v1/status');
    expect([status, JSON.parse(text).targets[0].name]).toEqual([200, 'e1.0']);
    expect(await statusOf('GET', inStore(''))).toBe(200);
    expect(await statusOf('GET', '/v1/status', bearer('x'.repeat(43)))).toBe(401);
  });

  it('changes nothing without the token, and what is asked with it', async () => {
    const snapshot = { volume: 'e1.0', name: 'monday' };
    const wrong = [{}, bearer(`${token}x`), bearer(''), { authorization: `Basic ${token}` }];
    for (const headers of wrong) {
      const refused = await ask('POST', inStore('/snapshots'), headers, snapshot);
      expect([refused.status, JSON.parse(refused.text)]).toEqual([
        401,
        { error: expect.stringMatching(/token/), remedy: expect.stringMatching(/dashboard-token/) },
      ]);
    }
    expect(await statusOf('DELETE', inStore('/roots/monday'))).toBe(401);
    expect(await countSnapshots()).toBe(0);
    expect(await statusOf('POST', inStore('/snapshots'), bearer(token), snapshot)).toBe(200);
    expect(await countSnapshots()).toBe(1);
    expect(await statusOf('DELETE', inStore('/roots/monday'), bearer(token))).toBe(200);
  });

  it('has nothing but what the page needs', async () => {
    const others = ['/metrics', '/v1/openapi.json', '/v1/statuses', '/../package.json', '/main.ts'];
    for (const path of [...others, '/v1/targets/e1.0/mask-list', '/v1/log-level']) {
      expect(await statusOf('GET', path, bearer(token)), path).toBe(404);
    }
    for (const path of ['/v1/reload', '/v1/announce', '/']) {
      expect(await statusOf('POST', path, bearer(token)), path).toBe(404);
    }
    // Nor what is on the disks.
    for (const method of ['GET', 'POST', 'PUT']) {
      for (const path of ['/streams/e1.0', '/hashes']) {
        expect(await statusOf(method, inStore(path), bearer(token)), path).toBe(404);
      }
    }
  });

  it('is not taken in by names that are made to mean this machine', async () => {
    for (const host of [
      'attacker.example',
      'localhost.attacker.example:8088',
      '127.0.0.1.example',
    ]) {
      for (const path of ['/', '/v1/status']) {
        expect(await statusOf('GET', path, { host }), host + path).toBe(403);
      }
    }
    for (const host of ['localhost:1234', '[::1]:8088', '127.0.0.1']) {
      expect(await statusOf('GET', '/v1/status', { host }), host).toBe(200);
    }
  });

  it('does no work for pages of other sites', async () => {
    const ask = (site: string) => statusOf('GET', inStore(''), { 'sec-fetch-site': site });
    expect([await ask('cross-site'), await ask('same-site')]).toEqual([403, 403]);
    expect([await ask('same-origin'), await ask('none')]).toEqual([200, 200]);
  });

  it('lets the page take nothing from elsewhere, nor be part of another', async () => {
    for (const path of ['/', '/main.js', '/nothing']) {
      const { headers } = await ask('GET', path);
      expect(headers['content-security-policy'], path).toMatch(
        /^default-src 'none'; script-src 'self'; style-src 'self';.*frame-ancestors 'none'$/,
      );
      expect(headers['content-security-policy']).not.toContain('unsafe');
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
    expect((await ask('GET', '/')).headers['content-type']).toMatch(/^text\/html/);
  });

  it('tells other machines nothing without the token, where they can reach it', async () => {
    await setup.server.stop();
    // The server must still reach its directory after it has become another user.
    await chmod(setup.directory.path, 0o755);
    const memory = { shelf: 2, slot: 0, backend: 'memory', memory: { size: MIB } };
    await setup.start([memory], { settings: { dashboard: '192.0.2.1:8088', user: 'nobody' } });
    expect((await stat(setup.join('state/dashboard-token'))).uid).not.toBe(0);
    const fromAfar = async (path: string, headers: OutgoingHttpHeaders = {}) => {
      const asked = JSON.stringify([`http://192.0.2.1:8088${path}`, headers]);
      return Number(await setup.initiatorNetwork.run(process.execPath, ['-e', ASK, asked]));
    };
    expect(await fromAfar('/')).toBe(200);
    expect(await fromAfar('/v1/status')).toBe(401);
    expect(await fromAfar('/v1/status', { host: 'attacker.example' })).toBe(401);
    // The token is the one of the first start.
    expect(await fromAfar('/v1/status', { ...bearer(token), host: 'aoe.example' })).toBe(200);
  });
});
