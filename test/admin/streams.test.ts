import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { buffer, text } from 'node:stream/consumers';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { PROGRAM } from '../cli/run.ts';
import { MIB, Setup, TOOLS, UNHARMED } from '../faults/setup.ts';
import { askControl, askStatus } from '../support/control.ts';
import {
  type CommandResult,
  describeWith,
  disposeAll,
  eventually,
  tryRun,
} from '../support/tools.ts';

/** Each test starts the program many times. */
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });

const VOLUME_BYTES = 24 * MIB;
/** Long before a reader that takes nothing is cut off. */
const STOP_MS_MAX = 20_000;
const STREAMS_MAX = 4;

/** Not in the store. */
const OTHER = { shelf: 2, slot: 0, backend: 'memory', memory: { size: MIB } };

let setup: Setup;
let store: string;
let backup: string;

function casOf(fields: TomlTable): TomlTable {
  return { ...fields, blob_store: { type: 'file', path: 'blobs' } };
}

function diskOf(slot: number): TomlTable {
  return { shelf: 1, slot, backend: 'cas', cas: casOf({ size: VOLUME_BYTES }) };
}

function program(...args: string[]): Promise<CommandResult> {
  return tryRun(process.execPath, [PROGRAM, ...args], { timeoutMs: 60_000 });
}

async function cas(command: string, path: string, ...args: string[]): Promise<string> {
  const { status, output } = await program('cas', command, path, ...args);
  expect(status, output).toBe(0);
  return output;
}

/** The snapshots of a store: their roots by name. */
async function snapshotsOf(path: string): Promise<Record<string, string>> {
  const { snapshots } = JSON.parse(await cas('list', path, '--json'));
  return Object.fromEntries(
    snapshots.map(({ name, root }: Record<string, string>) => [name, root]),
  );
}

/** Runs `command` in a shell, where `cas` is the program's. */
function pipe(command: string): Promise<CommandResult> {
  const cas = `cas() { '${process.execPath}' '${PROGRAM}' cas "$@"; }`;
  return tryRun('bash', ['-c', `set -o pipefail; ${cas}; ${command}`], { timeoutMs: 60_000 });
}

/** Reads and writes; it remembers from run to run what it has written. */
function load(): (string | number)[] {
  return ['-q', 24, '-w', 80, '-j', setup.join('journal')];
}

function controlPath(): string {
  return setup.join('state/control.sock');
}

function inStore(path: string): string {
  return `/v1/stores/${encodeURIComponent(store)}${path}`;
}

/** Begins to read a stream, and takes no more of it until asked to. */
async function beginStream(name: string): Promise<IncomingMessage> {
  const outgoing = request({ socketPath: controlPath(), path: inStore(`/streams/${name}`) });
  outgoing.on('error', () => {}).end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  expect(response.statusCode).toBe(200);
  return response;
}

/** Begins to send bytes. */
function put(path: string, method = 'PUT'): ClientRequest {
  const headers = { 'content-type': 'application/octet-stream' };
  const options = { socketPath: controlPath(), method, path: inStore(path), headers };
  return request(options).on('error', () => {});
}

/** @returns status and text of the answer, which may come before all is sent */
async function streamTo(method: string, path: string, bytes: Buffer): Promise<[number, string]> {
  const outgoing = put(path, method);
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  outgoing.end(bytes);
  const [response] = await answered;
  const answer = await text(response);
  outgoing.destroy();
  return [response.statusCode as number, answer];
}

async function reload(targets: TomlTable[]): Promise<string> {
  const server = { interfaces: setup.serverInterfaces, state_dir: 'state' };
  await writeFile(setup.join('aoe-server.toml'), stringify({ server, target: targets }));
  return (await program('reload', setup.join('aoe-server.toml'))).output;
}

describeWith(TOOLS, 'a store that is served', () => {
  beforeAll(async () => {
    setup = await Setup.create();
    store = setup.join('blobs');
    backup = setup.join('backup');
    // Nothing that compresses: a stream must be longer than what sockets hold.
    await writeFile(setup.join('disk.img'), randomBytes(VOLUME_BYTES));
    expect((await program('import', setup.join('disk.img'), store, 'e1.0')).status).toBe(0);
    await setup.start([OTHER, diskOf(0), diskOf(1)]);
    await cas('snapshot', store, 'e1.0', 'sunday');
  });
  afterAll(() => disposeAll(setup));

  it('sends snapshots and changes, under load and beside a collection', async () => {
    const verified = setup.verify('1.1', '-t', 8, ...load());
    const target = async () =>
      (await askStatus(controlPath())).targets.find(({ name }) => name === 'e1.1');
    await eventually(async () => expect((await target())?.counters.writes).toBeGreaterThan(500));
    await cas('snapshot', store, 'e1.1', 'monday');
    const collected = cas('collect', store);
    await cas('snapshot', store, 'e1.1', 'tuesday');
    // A volume is sent as it is at that moment.
    for (const [sent, received] of [
      ['sunday', 'sunday'],
      ['monday', 'monday'],
      ['tuesday --from monday', 'tuesday'],
      ['e1.1', 'now'],
    ]) {
      const piped = await pipe(`cas send ${store} ${sent} | cas receive ${backup} ${received}`);
      expect(piped.status, piped.output).toBe(0);
    }
    await collected;
    expect(await verified).toMatchObject(UNHARMED);
    const { now, ...rest } = await snapshotsOf(backup);
    expect(rest).toEqual(await snapshotsOf(store));
    expect(Object.values(rest)).not.toContain(now);
    await cas('fsck', backup);
    await program('export', backup, 'sunday', setup.join('sunday.img'));
    const sent = await readFile(setup.join('sunday.img'));
    expect(sent.equals(await readFile(setup.join('disk.img')))).toBe(true);
  });

  it('says what is wrong before it sends anything', async () => {
    for (const [args, message] of [
      [['nothing'], /no volume, snapshot or root nothing\n/],
      [['sunday', '--from', 'nothing'], /no volume, snapshot or root nothing\n/],
    ] as const) {
      const { status, stdout, output } = await program('cas', 'send', store, ...args);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(output).toMatch(message);
    }
    const wrong = await askControl(controlPath(), 'GET', inStore('/streams/nothing'));
    expect([wrong.status, JSON.parse(wrong.text)]).toEqual([
      409,
      { error: expect.stringMatching(/nothing/), remedy: expect.stringMatching(/cas list/) },
    ]);
  });

  it('sends to the end what is deleted meanwhile', async () => {
    await cas('snapshot', store, 'e1.0', 'deleted');
    const { deleted } = await snapshotsOf(store);
    const stream = await beginStream('deleted');
    await cas('delete', store, 'deleted');
    await cas('collect', store);
    await writeFile(setup.join('deleted.stream'), await buffer(stream));
    const received = await pipe(`cas receive ${backup} deleted <${setup.join('deleted.stream')}`);
    expect(received.status, received.output).toBe(0);
    expect(await snapshotsOf(backup)).toMatchObject({ deleted });
  });

  it('bounds the streams, and forgets readers that are gone', async () => {
    const streams: IncomingMessage[] = [];
    for (let count = 0; count < STREAMS_MAX; count++) streams.push(await beginStream('sunday'));
    const refused = await program('cas', 'send', store, 'sunday');
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.output).toMatch(/too many snapshots are on their way/);
    // Nothing else is kept from anybody.
    expect((await askStatus(controlPath())).targets.length).toBe(3);
    for (const stream of streams) stream.destroy();
    await eventually(async () => (await beginStream('sunday')).destroy());
    // Their works have ended as well: nobody has the store open but its targets.
    expect(await reload([OTHER])).toBe('added none, changed none, removed e1.0, e1.1\n');
    await eventually(() => cas('fsck', store));
    expect(await reload([OTHER, diskOf(0), diskOf(1)])).toMatch(/^added e1.0, e1.1/);
  });

  it('stays open until a stream ends, when its last target goes', async () => {
    const stream = await beginStream('sunday');
    expect(await reload([OTHER])).toBe('added none, changed none, removed e1.0, e1.1\n');
    expect((await program('cas', 'fsck', store)).output).toMatch(/in use/);
    await writeFile(setup.join('sunday.stream'), await buffer(stream));
    const received = await pipe(`cas receive ${backup} again <${setup.join('sunday.stream')}`);
    expect(received.status, received.output).toBe(0);
    await eventually(() => cas('fsck', store));
    expect(await reload([OTHER, diskOf(0), diskOf(1)])).toMatch(/^added e1.0, e1.1/);
  });

  it('receives, and serves what it has received', async () => {
    const verified = setup.verify('1.1', '-t', 4, ...load());
    const { sunday, tuesday } = await snapshotsOf(backup);
    for (const [sent, received, size] of [
      ['tuesday', 'other', ''],
      ['sunday', 'restored', '24MiB'],
    ]) {
      const piped = await pipe(`cas send ${backup} ${sent} | cas receive ${store} ${received}`);
      expect(piped.status, piped.output).toBe(0);
      expect(piped.output).toMatch(
        new RegExp(`^snapshot ${received} of .*: ${size}.* verified\n$`),
      );
    }
    expect(await verified).toMatchObject(UNHARMED);
    expect(await snapshotsOf(store)).toMatchObject({ restored: sunday, other: tuesday });
    const { volumes } = JSON.parse(await cas('list', store, '--json'));
    expect(volumes.map(({ name }: { name: string }) => name)).toEqual(['e1.0', 'e1.1']);
    const served = { shelf: 1, slot: 2, backend: 'cas', cas: casOf({ root: 'restored' }) };
    expect(await reload([OTHER, diskOf(0), diskOf(1), served])).toMatch(/^added e1.2/);
    expect(await reload([OTHER, diskOf(0), diskOf(1)])).toMatch(/removed e1.2\n$/);
  });

  it('tells what it has, and takes and sends what refers to that', async () => {
    const piped = await pipe(
      `cas have ${backup} | cas send ${store} sunday --have - | tee ${setup.join('held.stream')} |
        cas receive ${backup} again.2`,
    );
    expect(piped.status, piped.output).toBe(0);
    expect((await stat(setup.join('held.stream'))).size).toBeLessThan(MIB);
    const back = await pipe(
      `cas have ${store} | cas send ${backup} sunday --have - | cas receive ${store} again.2`,
    );
    expect(back).toMatchObject({
      status: 0,
      output: 'snapshot again.2 of e1.0: 24MiB received and verified, 24MiB of it found here\n',
    });
    const { 'again.2': root, sunday } = await snapshotsOf(store);
    expect(root).toBe(sunday);
    await writeFile(setup.join('no.list'), Buffer.alloc(3 * MIB, 'no list'));
    const list = setup.join('no.list');
    expect(await streamTo('POST', '/streams/sunday', await readFile(list))).toEqual([
      409,
      expect.stringMatching(/no list of what a store has/),
    ]);
  });

  it('keeps nothing of a stream that is cut off, damaged or unwelcome', async () => {
    const before = await cas('list', store);
    const path = setup.join('whole.stream');
    const made = await pipe(`cas send ${backup} sunday >${path}`);
    expect(made.status, made.output).toBe(0);
    const whole = await readFile(path);
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(9 * MIB) ^ 1, 9 * MIB);
    for (const [bytes, name, message] of [
      [whole.subarray(0, 9 * MIB), 'broken', /ends too early/],
      [damaged, 'broken', /not what was sent/],
      [Buffer.alloc(9 * MIB), 'broken', /no stream of a store/],
      [whole, 'e1.0', /there is a volume e1.0 already/],
      [whole, 'a b', /A name has/],
    ] as const) {
      const url = `/streams/${encodeURIComponent(name)}`;
      expect(await streamTo('PUT', url, bytes)).toEqual([
        expect.toBeOneOf([400, 409]),
        expect.stringMatching(message),
      ]);
      expect(await cas('list', store)).toBe(before);
    }
    // The command says the same, and what is wrong with its input.
    await writeFile(path, damaged);
    const refused = await pipe(`cas receive ${store} broken <${path}`);
    expect(refused).toMatchObject({ status: 1 });
    expect(refused.output).toMatch(/^aoe-server: what has arrived is not what was sent\n/);
    await writeFile(path, whole.subarray(0, 9 * MIB));
    const cut = await pipe(`cas receive ${store} broken <${path}`);
    expect(cut).toMatchObject({ status: 1, output: 'aoe-server: the stream ends too early\n' });
    // A client that goes away in the middle.
    const outgoing = put('/streams/left');
    outgoing.write(whole.subarray(0, 9 * MIB));
    const volumes = async () => (await askStatus(controlPath())).stores[0]?.volumes;
    await eventually(async () => expect(await volumes()).toBe(3));
    expect(await streamTo('PUT', '/streams/left', whole)).toEqual([
      409,
      expect.stringMatching(/left is being received already/),
    ]);
    outgoing.destroy();
    await eventually(async () => expect(await cas('list', store)).toBe(before));
  });

  it('takes long bodies for streams only', async () => {
    for (const [method, path] of [
      ['POST', '/snapshots'],
      ['POST', '/jobs'],
      ['PUT', ''],
    ] as const) {
      const [status] = await streamTo(method, path, Buffer.alloc(3 * MIB));
      expect([405, 415]).toContain(status);
    }
    const json = await askControl(controlPath(), 'PUT', inStore('/streams/x'), 'no stream');
    expect(json.status).toBe(415);
  });

  it.each(['stop', 'kill'] as const)('breaks off visibly at a %s', async (how) => {
    const go = setup.join(`go after ${how}`);
    const cut = setup.join('cut.stream');
    // It ends by itself where the test ends before.
    const wait = `for _ in {1..900}; do [ -e '${go}' ] && break; sleep 0.1; done`;
    const stalled = pipe(`cas send ${store} sunday | { ${wait}; cat >${cut}; }`);
    const sends = () => setup.server.log.filter(({ msg }) => msg === 'a snapshot is being sent');
    const before = sends().length;
    await eventually(async () => expect(sends().length).toBe(before + 1));
    const slow = await beginStream('sunday');
    const whole = await pipe(`cas send ${backup} sunday >${setup.join('whole.stream')}`);
    expect(whole.status, whole.output).toBe(0);
    put('/streams/half').write((await readFile(setup.join('whole.stream'))).subarray(0, 9 * MIB));
    const count = async () => (await askStatus(controlPath())).stores[0]?.volumes;
    await eventually(async () => expect(await count()).toBe(3));
    const startMs = performance.now();
    const ended = setup.server[how]();
    expect(await ended).toBe(how === 'stop' ? 0 : undefined);
    expect(performance.now() - startMs).toBeLessThan(STOP_MS_MAX);
    await expect(buffer(slow)).rejects.toThrow('aborted');
    await writeFile(go, '');
    const { status, output } = await stalled;
    expect(status).toBe(1);
    expect(output).toMatch(
      /^aoe-server: the server has broken off before the end\n {4}see the log/,
    );
    expect((await stat(cut)).size).toBeGreaterThan(0);
    const received = await pipe(`cas receive ${backup} cut <${cut}`);
    expect(received).toMatchObject({ status: 1 });
    expect(received.output).toBe('aoe-server: the stream ends too early\n');
    expect(Object.keys(await snapshotsOf(backup))).not.toContain('cut');
    await setup.start([OTHER, diskOf(0), diskOf(1)]);
    // What a crash leaves goes when the same is received again.
    const again = `cas receive ${store} half <${setup.join('whole.stream')}`;
    if (how === 'kill') expect(await pipe(again)).toMatchObject({ status: 0 });
    expect(await count()).toBe(2);
  });
});
