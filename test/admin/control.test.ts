import { once } from 'node:events';
import { chmod, rm, stat, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { ROUTES } from '../../src/admin/routes.ts';
import { STORE_ROUTES } from '../../src/admin/store-routes.ts';
import { STREAM_ROUTES } from '../../src/admin/stream-routes.ts';
import type { ServerStatus } from '../../src/status.ts';
import { PROGRAM } from '../cli/run.ts';
import {
  ataRequest,
  INITIATOR_MAC,
  maskRequest,
  reserveRequest,
  sectors,
} from '../protocol/frames.ts';
import { memoryTarget, Served, TOOLS } from '../protocol/served.ts';
import { askControl, askStatus, type ControlAnswer } from '../support/control.ts';
import { AoeServer } from '../support/server.ts';
import {
  type CommandResult,
  describeWith,
  disposeAll,
  eventually,
  tryRun,
} from '../support/tools.ts';

const READ_EXT = 0x24;
const WRITE_EXT = 0x34;
const LBA48 = 0x40;
const WRITES = 0x41;
const FLUSH = 0xe7;
const MASK_EDIT = 1;
const MASK_ADD = 1;
const RESERVE_SET = 1;
const RESERVED = 6;
const OTHER_MAC = '02:00:00:00:00:42';
const EVERY_CONNECTION = 16;

let served: Served;

function ask(method: string, path: string, body?: unknown): Promise<ControlAnswer> {
  return askControl(served.join('state/control.sock'), method, path, body);
}

function status(): Promise<ServerStatus> {
  return askStatus(served.join('state/control.sock'));
}

/** Runs a command of the program about the server. */
function program(...args: string[]): Promise<CommandResult> {
  const [command = '', ...rest] = args;
  return tryRun(process.execPath, [PROGRAM, command, served.join('aoe-server.toml'), ...rest]);
}

function read(slot: number, fields: object = {}): Buffer {
  return ataRequest({ slot, opcode: READ_EXT, aflags: LBA48, sectorCount: 2, ...fields });
}

function write(slot: number): Buffer {
  const fields = { opcode: WRITE_EXT, aflags: WRITES, sectorCount: 1, data: sectors(1, 7) };
  return ataRequest({ slot, ...fields });
}

/** The AoE error that a read of e1.`slot` is answered with; 0 for none. */
async function readError(slot: number): Promise<number | undefined> {
  const [reply] = await served.client.exchange(read(slot), 1);
  return reply?.readUInt8(15);
}

/** A read of e1.`slot` is counted as denied, and not answered. */
async function expectDenied(slot: number): Promise<void> {
  const before = (await status()).frames.denied;
  served.client.send(read(slot));
  await eventually(async () => expect((await status()).frames.denied).toBe(before + 1));
  expect(await served.client.receive(0)).toEqual([]);
}

/** Two targets, divided among threads that are not root's, or not. */
const WAYS = [
  { way: 'in one thread', keys: {} },
  { way: 'in two threads, after giving up root', keys: { workers: 2, user: 'nobody' } },
];

describeWith(TOOLS, 'the control socket', () => {
  for (const { way, keys } of WAYS) {
    describe(way, () => {
      beforeAll(async () => {
        const file = { path: 'disk.img', size: 1 << 20 };
        const targets = [memoryTarget(1, 0), { shelf: 1, slot: 1, backend: 'file', file }];
        served = await Served.start(targets, 1500, { metrics: './metrics.sock', ...keys });
        // Made for root alone; who takes over must reach what is inside.
        await chmod(served.directory, 0o755);
        await chmod(served.join('disk.img'), 0o666);
      });
      afterAll(() => disposeAll(served));

      it('is for its owner only', async () => {
        const { mode } = await stat(served.join('state/control.sock'));
        expect(mode & 0o777).toBe(0o600);
      });

      it('answers as its description says, which has all there is', async () => {
        const samples: Record<string, unknown> = {
          '/v1/log-level': { level: 'info' },
          '/v1/targets/{target}/mask-list': [INITIATOR_MAC],
          '/v1/targets/{target}/reserve-list': [INITIATOR_MAC],
        };
        const described = JSON.parse((await ask('GET', '/v1/openapi.json')).text) as {
          paths: Record<string, Record<string, unknown>>;
        };
        const operations = Object.entries(described.paths).flatMap(([path, methods]) =>
          Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
        );
        expect(operations).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`));
        for (const { method, path, answer } of ROUTES) {
          if ([...STORE_ROUTES, ...STREAM_ROUTES].some((route) => route.path === path)) continue;
          const url = path.replace('{target}', 'e1.1');
          const body = method === 'PUT' ? samples[path] : undefined;
          const { status: code, text, type } = await ask(method, url, body);
          expect(code, `${method} ${url}: ${text}`).toBe(200);
          if (answer === undefined) expect(type).toMatch(/^text\/plain/);
          else expect(() => (answer as z.ZodType).parse(JSON.parse(text))).not.toThrow();
        }
      });

      it('tells of requests, how long they took, and who sent them', async () => {
        const flush = ataRequest({ slot: 1, opcode: FLUSH });
        await served.client.exchange([read(1), write(1), flush], 3);
        await served.client.exchange(read(1, { lba: 2 ** 40 }), 1);
        const { targets, frames } = await status();
        expect(frames.requests).toBeGreaterThanOrEqual(4);
        expect(targets.map(({ name }) => name)).toEqual(['e1.0', 'e1.1', 'e9.9']);
        const target = targets[1];
        expect(target).toMatchObject({
          ...{ backend: 'file', sizeBytes: 1 << 20, readOnly: false, writeCache: false },
          ...{ failed: false, drained: false, inFlight: 0 },
          counters: { reads: 1, writes: 1, flushes: 1, readBytes: 1024, writtenBytes: 512 },
          latencyUs: { read: { count: 2 }, write: { count: 1 }, flush: { count: 1 } },
          clients: [{ mac: INITIATOR_MAC }],
        });
        const { p50, p99, p999, sum } = target?.latencyUs.write ?? {
          p50: 0,
          p99: 0,
          p999: 0,
          sum: 0,
        };
        expect([p50 > 0, p99 === p50, p999 === p50, p50 >= sum]).not.toContain(false);
        expect(p50).toBeLessThan(5e6);
        const age = Date.now() - Date.parse(target?.clients[0]?.lastSeen ?? '');
        expect(age).toBeGreaterThanOrEqual(0);
        expect(age).toBeLessThan(10_000);
        expect(target?.groups.count).toBeGreaterThan(0);
      });

      it('counts frames that are dropped, by cause', async () => {
        const before = (await status()).frames;
        const group = read(0, { source: '03:00:00:00:00:01' });
        await served.client.exchange([group, read(0).subarray(0, 30)]);
        const { frames } = await status();
        expect(frames.badSource - before.badSource).toBe(1);
        expect(frames.malformed - before.malformed).toBe(1);
      });

      it('shows the same as metrics, there and where the configuration says', async () => {
        const { type, text } = await ask('GET', '/metrics');
        expect(type).toMatch(/^text\/plain/);
        expect(text).toMatch(/^aoe_target_requests_total\{target="e1.1",operation="read"\} \d+$/m);
        const latency = 'aoe_target_latency_seconds';
        const labels = 'target="e1.1",operation="read"';
        const [, count] = text.match(`${latency}_count\\{${labels}\\} (\\d+)`) ?? [];
        expect(Number(count)).toBeGreaterThan(0);
        expect(text).toContain(`${latency}_bucket{${labels},le="+Inf"} ${count}\n`);
        expect(text).toMatch(/^aoe_target_group_size_count\{target="e1.1"\} [1-9]/m);

        const other = served.join('metrics.sock');
        const same = await askControl(other, 'GET', '/metrics');
        expect(same.text.split('\n').length).toBe(text.split('\n').length);
        expect((await askControl(other, 'GET', '/v1/status')).status).toBe(404);
        const cleared = await askControl(other, 'DELETE', '/v1/targets/e1.0/mask-list');
        expect(cleared.status).toBe(404);
      });

      for (const slot of [0, 1]) {
        it(`lets the operator undo and set lists of e1.${slot}`, async () => {
          await ask('DELETE', `/v1/targets/e1.${slot}/mask-list`);
          await ask('DELETE', `/v1/targets/e1.${slot}/reserve-list`);
          await served.client.exchange(reserveRequest(RESERVE_SET, [OTHER_MAC], { slot }), 1);
          expect(await readError(slot)).toBe(RESERVED);
          await served.client.exchange(
            maskRequest(MASK_EDIT, [[MASK_ADD, OTHER_MAC]], { slot }),
            1,
          );
          await expectDenied(slot);

          const name = `e1.${slot}`;
          expect((await program('mask', name)).stdout).toBe(`${name} answers ${OTHER_MAC} only\n`);
          expect((await program('mask', name, '--clear')).status).toBe(0);
          expect(await readError(slot)).toBe(RESERVED);
          const json = await program('reserve', name, '--clear', '--json');
          expect(JSON.parse(json.stdout)).toEqual({ target: name, reserveList: [] });
          expect(await readError(slot)).toBe(0);

          const set = await program('reserve', name, '--set', OTHER_MAC, OTHER_MAC);
          expect(set.stdout).toBe(`${name} is reserved for ${OTHER_MAC}\n`);
          expect(await readError(slot)).toBe(RESERVED);
        });
      }

      it('keeps what the operator has set over a crash', async () => {
        await ask('PUT', '/v1/targets/e1.1/reserve-list', [OTHER_MAC]);
        await ask('DELETE', '/v1/targets/e1.0/reserve-list');
        await served.server.kill();
        await served.start();
        expect([await readError(0), await readError(1)]).toEqual([0, RESERVED]);
        await ask('DELETE', '/v1/targets/e1.1/reserve-list');
      });

      it('changes what is logged', async () => {
        expect((await program('log-level', 'error')).stdout).toBe('the log level is error\n');
        const isSilent = served.server.log.length;
        await program('mask', 'e1.0', '--clear');
        expect(served.server.log.length).toBe(isSilent);
        await program('log-level', 'info');
        await program('mask', 'e1.0', '--clear');
        expect(served.server.logText()).toMatch(/the operator has set lists/);
        expect((await status()).logLevel).toBe('info');
        expect((await ask('PUT', '/v1/log-level', { level: 'loud' })).status).toBe(400);
        expect((await program('log-level', 'loud')).status).toBe(2);
      });

      it('lets targets be announced', async () => {
        expect((await program('announce')).stdout).toBe('announced e1.0, e1.1, e9.9 on aoe0\n');
        await served.client.settle();
      });

      it('shows people what it tells programs', async () => {
        await served.client.exchange(read(1), 1);
        const { stdout } = await program('status');
        expect(stdout).toMatch(/^e1\.1 +ok +1MiB +file +durable/m);
        expect(stdout).toMatch(/^e1\.1 +read +\d+ +\S+ [um]s/m);
        expect(stdout).toContain(INITIATOR_MAC);
        const json = JSON.parse((await program('status', '--json')).stdout) as ServerStatus;
        expect(json.targets.length).toBe(3);
      });

      it('refuses what makes no sense, with a remedy', async () => {
        const many = Array.from({ length: 256 }, () => INITIATOR_MAC);
        const list = '/v1/targets/e1.0/mask-list';
        const cases: [method: string, path: string, body: unknown, status: number][] = [
          ['GET', '/', undefined, 404],
          ['GET', '/v1/targets/e7.7/mask-list', undefined, 404],
          ['GET', '/v1/targets/e1.0/x/mask-list', undefined, 404],
          ['PUT', '/v1/targets/e7.7/mask-list', [], 404],
          ['PATCH', '/v1/status', undefined, 405],
          ['PUT', list, undefined, 400],
          ['PUT', list, ['ff:ff:ff:ff:ff:ff'], 400],
          ['PUT', list, many, 400],
        ];
        for (const [method, path, body, expected] of cases) {
          const { status: code, text } = await ask(method, path, body);
          expect(code, `${method} ${path}`).toBe(expected);
          expect(JSON.parse(text)).toEqual({
            error: expect.stringMatching(/./),
            remedy: expect.stringMatching(/./),
          });
        }
        const { status: exit, output } = await program('mask', 'e7.7');
        expect([exit, output]).toEqual([1, expect.stringMatching(/the targets are e1\.0, e1\.1/)]);
      });

      it('goes with the server', async () => {
        expect(await served.server.stop()).toBe(0);
        await expect(stat(served.join('state/control.sock'))).rejects.toThrow(/ENOENT/);
        const { status: exit, output } = await program('status');
        expect([exit, output]).toEqual([1, expect.stringMatching(/is it running/)]);
      });
    });
  }
});

describeWith(TOOLS, 'the control socket, when somebody misuses it', () => {
  const open: Socket[] = [];

  /** Opens a connection that says `text` and no more. */
  function say(text: string | Buffer): Socket {
    const socket = connect(served.join('state/control.sock'));
    socket.on('error', () => {});
    socket.write(text);
    open.push(socket);
    return socket;
  }

  beforeAll(async () => {
    served = await Served.start([memoryTarget(1, 0)]);
  });
  afterEach(() => {
    for (const socket of open.splice(0)) socket.destroy();
  });
  afterAll(() => disposeAll(served));

  it('gets rid of clients that say nothing, or too slowly', async () => {
    const all = Array.from({ length: EVERY_CONNECTION }, () => say('GET /v1/status HTTP/1.1\r\n'));
    // The server takes them before what comes after them.
    await Promise.all(all.map((socket) => once(socket, 'connect')));
    await expect(ask('GET', '/v1/status')).rejects.toThrow();
    // Those on the segment do not notice.
    expect(await readError(0)).toBe(0);
    await eventually(() => status());
  });

  it('handles one request of a connection, however many were sent', async () => {
    const put = (level: string) => {
      const body = JSON.stringify({ level });
      const head = `PUT /v1/log-level HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}`;
      return `${head}\r\n\r\n${body}`;
    };
    const sent = say(put('debug') + put('warn'));
    await once(sent.resume(), 'close');
    expect((await status()).logLevel).toBe('debug');
    await ask('PUT', '/v1/log-level', { level: 'info' });
  });

  it('takes no long request, and no garbage', async () => {
    const long = await ask('PUT', '/v1/log-level', 'x'.repeat(70_000)).catch(() => undefined);
    expect([413, undefined]).toContain(long?.status);
    const endless = say(
      'PUT /v1/log-level HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n',
    );
    for (let index = 0; index < 64; index++) endless.write(Buffer.alloc(1 << 20));
    say(`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`);
    say(Buffer.from([0x16, 0x03, 0x01, 0x00, 0xff, 0x0a, 0x0d]));
    const notJson = say('PUT /v1/log-level HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{');
    const [answer] = await new Promise<Buffer[]>((resolve) => {
      notJson.once('data', (data) => resolve([data]));
    });
    expect(answer?.toString()).toMatch(/^HTTP\/1.1 400/);
    say('GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n').destroy();
    expect(await readError(0)).toBe(0);
    expect((await status()).frames.requests).toBeGreaterThan(0);
    expect(served.server.logText()).not.toMatch(/a control request failed/);
  });
});

describeWith(TOOLS, 'the control socket, when something is there already', () => {
  beforeAll(async () => {
    served = await Served.start([memoryTarget(1, 0)]);
  });
  afterAll(() => disposeAll(served));

  /** Starts a second server with this control socket; what it dies with. */
  async function startOther(control: string): Promise<Error> {
    const directory = served.join('other');
    return AoeServer.start({
      namespace: served.network,
      interfaces: ['lo'],
      directory,
      targets: [memoryTarget(2, 0)],
      settings: { control },
    }).then(
      async (server) => {
        await server.stop();
        throw new Error('the other server has started');
      },
      (error: Error) => error,
    );
  }

  it('takes the place of one that a killed server left', async () => {
    await served.server.kill();
    expect((await stat(served.join('state/control.sock'))).isSocket()).toBe(true);
    await served.start();
    expect((await status()).targets.length).toBe(2);
  });

  it('leaves a living server its socket', async () => {
    const error = await startOther(served.join('state/control.sock'));
    expect(error.message).toMatch(/another server listens on/);
    expect((await status()).targets.length).toBe(2);
  });

  it('leaves alone what is no socket', async () => {
    const path = served.join('precious');
    await writeFile(path, 'data');
    expect((await startOther(path)).message).toMatch(/is no socket/);
    expect((await stat(path)).size).toBe(4);
    await rm(path);
  });
});
