import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { z } from 'zod';
import { STORE_ROUTES } from '../../src/admin/store-routes.ts';
import type { ServerStatus } from '../../src/status.ts';
import type { Job, JobStatus, StoreStatus } from '../../src/stores/contract.ts';
import { PROGRAM } from '../cli/run.ts';
import { MIB, SECTOR_SIZE, Setup, TOOLS, UNHARMED } from '../faults/setup.ts';
import { askControl, askStatus } from '../support/control.ts';
import {
  type CommandResult,
  describeWith,
  disposeAll,
  eventually,
  tryRun,
} from '../support/tools.ts';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });

const VOLUME_BYTES = 16 * MIB;
/** Before the load ends. */
const SNAPSHOT_MS_MAX = 4000;
const STAMP = 0x796669726576n;
const ACK_RECORD_BYTES = 12;
const LOAD = ['-q', 24, '-w', 70];

let setup: Setup;
let store: string;

/** What the server begins with. */
const DISK = { shelf: 1, slot: 0, backend: 'cas', cas: casOf({ size: VOLUME_BYTES }) };

function casOf(fields: TomlTable): TomlTable {
  return { ...fields, blob_store: { type: 'file', path: 'blobs' } };
}

function program(...args: string[]): Promise<CommandResult> {
  return tryRun(process.execPath, [PROGRAM, ...args], { timeoutMs: 60_000 });
}

/** Runs a command on the store, which must succeed. */
async function cas(command: string, ...args: string[]): Promise<string> {
  const { status, stdout, output } = await program('cas', command, store, ...args);
  expect([status, output.slice(stdout.length)]).toEqual([
    0,
    expect.stringMatching(/^waiting.*|^$/),
  ]);
  return stdout;
}

async function refusal(...args: string[]): Promise<string> {
  const { status, stdout, output } = await program(...args);
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  return output;
}

async function ask(method: string, path: string, body?: unknown) {
  return askControl(setup.join('state/control.sock'), method, path, body);
}

function status(): Promise<ServerStatus> {
  return askStatus(setup.join('state/control.sock'));
}

async function storeStatus(): Promise<StoreStatus> {
  return (await status()).stores[0] as StoreStatus;
}

/** The last scrub, also when the server has begun to measure the store since. */
async function lastScrub(): Promise<JobStatus | undefined> {
  return (await storeStatus()).jobs.findLast(({ kind }) => kind === 'scrub');
}

async function reload(targets: TomlTable[]): Promise<string> {
  const server = { interfaces: setup.serverInterfaces, state_dir: 'state' };
  await writeFile(setup.join('aoe-server.toml'), stringify({ server, target: targets }));
  return (await program('reload', setup.join('aoe-server.toml'))).output;
}

/** What verify knows of each sector, as its journal says now: acknowledged, sent generation. */
async function knowledge(journal: string): Promise<Uint32Array> {
  const bytes = await readFile(setup.join(journal));
  return new Uint32Array(new Uint8Array(bytes).buffer);
}

/** Makes a journal of a disk that has what was sent until `after`, and nothing older than `before`. */
async function know(journal: string, before: Uint32Array, after: Uint32Array): Promise<void> {
  const either = before.map((acked, index) => (index % 2 === 0 ? acked : (after[index] as number)));
  await writeFile(setup.join(journal), either);
}

async function expectBetween(target: string, before: Uint32Array, after: Uint32Array) {
  await know('between', before, after);
  const report = await setup.verify(target, '-c', '-j', setup.join('between'));
  expect(report).toMatchObject(UNHARMED);
}

/** Is the image what the disk was at some moment? Each sector tells what was acknowledged then. */
function expectOneMoment(image: Buffer, acks: Buffer): void {
  const stamps = Array.from({ length: image.length / SECTOR_SIZE }, (_, lba) => {
    const at = lba * SECTOR_SIZE;
    if (image.readBigUInt64LE(at) !== STAMP) return { generation: 0, ackCount: 0 };
    const [generation, ackCount] = [at + 16, at + 24].map((word) => image.readBigUInt64LE(word));
    return { generation: Number(generation), ackCount: Number(ackCount) };
  });
  const ackCount = Math.max(...stamps.map((stamp) => stamp.ackCount));
  expect(ackCount).toBeGreaterThan(100);
  const older: number[] = [];
  for (let at = 0; at < ackCount * ACK_RECORD_BYTES; at += ACK_RECORD_BYTES) {
    const lba = acks.readUInt32LE(at);
    const acked = acks.readUInt32LE(at + 8);
    stamps.slice(lba, lba + acks.readUInt32LE(at + 4)).forEach(({ generation }, index) => {
      if (generation < acked) older.push(lba + index);
    });
  }
  expect(older).toEqual([]);
}

/** Starts a command that is not waited for. */
function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

describeWith(TOOLS, 'a store that is served', () => {
  let atSnapshot: Uint32Array;
  let sentBySnapshot: Uint32Array;

  beforeAll(async () => {
    setup = await Setup.create();
    store = setup.join('blobs');
    await setup.start([DISK]);
  });
  afterAll(() => disposeAll(setup));

  it('keeps in a snapshot all that was acknowledged, as of one moment, under load', async () => {
    const files = ['-j', setup.join('journal'), '-a', setup.join('acks')];
    const load = setup.verify('1.0', '-t', 5, '-m', 1000, ...LOAD, ...files);
    await eventually(async () => {
      expect((await status()).targets[0]?.counters.writes).toBeGreaterThan(500);
    });
    const path = `/v1/stores/${encodeURIComponent(store)}`;
    atSnapshot = await knowledge('journal');
    const startMs = performance.now();
    const body = { volume: 'e1.0', name: 'monday' };
    const answer = await ask('POST', `${path}/snapshots`, body);
    expect(performance.now() - startMs).toBeLessThan(SNAPSHOT_MS_MAX);
    sentBySnapshot = await knowledge('journal');
    expect(answer.status, answer.text).toBe(200);
    await cas('clone', 'monday', 'e1.2');
    expect(await load).toMatchObject(UNHARMED);

    const clone = { shelf: 1, slot: 2, backend: 'cas', cas: casOf({ size: VOLUME_BYTES }) };
    const snapshot = { shelf: 1, slot: 1, backend: 'cas', cas: casOf({ root: 'monday' }) };
    expect(await reload([DISK, snapshot, clone])).toBe(
      'added e1.1, e1.2, changed none, removed none\n',
    );
    await expectBetween('1.1', atSnapshot, sentBySnapshot);
    const latest = await knowledge('journal');
    await expectBetween('1.0', latest, latest);
  });

  it('is closed and opened again when all of its targets change', async () => {
    const clone = { shelf: 1, slot: 2, backend: 'cas', cas: casOf({ size: VOLUME_BYTES }) };
    const snapshot = { shelf: 1, slot: 1, backend: 'cas', cas: casOf({ root: 'monday' }) };
    const targets = [DISK, snapshot, clone];
    const { root } = JSON.parse(await cas('list', '--json')).snapshots[0];
    const byHash = { ...snapshot, cas: casOf({ root }) };
    const changed = [DISK, byHash, clone].map((target) => {
      return { ...target, config_string: 'changed' };
    });
    const latest = await knowledge('journal');
    const { lastAccess } = (await status()).targets[0] ?? {};
    for (const next of [changed, targets]) {
      expect(await reload(next)).toBe('added none, changed e1.0, e1.1, e1.2, removed none\n');
      await expectBetween('1.1', atSnapshot, sentBySnapshot);
    }
    // A rollback must still see that it is in use.
    expect((await status()).targets[0]).toMatchObject({ lastAccess });
    await expectBetween('1.0', latest, latest);
  });

  it('goes back to a snapshot, unless initiators use the volume', async () => {
    const { lastAccess } = (await status()).targets[2] ?? {};
    expect(lastAccess).toBeNull();
    expect(await cas('rollback', 'e1.2', 'monday')).toBe('volume e1.2: rolled back to monday\n');
    const reserve = ['reserve', setup.join('aoe-server.toml'), 'e1.2'];
    await program(...reserve, '--set', '02:00:00:00:00:01');
    expect(await refusal('cas', 'rollback', store, 'e1.2', 'monday')).toMatch(
      /e1.2 in use: it is reserved for 02:00:00:00:00:01\n.*--force/,
    );
    await program(...reserve, '--clear');
    await expectBetween('1.2', atSnapshot, sentBySnapshot);
    expect(await refusal('cas', 'rollback', store, 'e1.0', 'monday')).toMatch(
      /e1.0 in use: it was accessed \d+ s ago\n/,
    );
    const latest = await knowledge('journal');
    await expectBetween('1.0', latest, latest);
  });

  it('goes back under load when it is forced, and announces the target', async () => {
    const load = setup.verify('1.0', '-t', 3, '-q', 24, '-w', 100, '-j', setup.join('journal'));
    await eventually(async () => {
      expect((await status()).targets[0]?.inFlight).toBeGreaterThan(0);
    });
    await cas('rollback', 'e1.0', 'monday', '--force');
    expect(await load).toMatchObject({ ...UNHARMED, failed: 0 });
    await expectBetween('1.0', atSnapshot, await knowledge('journal'));

    const sent = async () => (await status()).links[0]?.counters?.sent ?? 0;
    const before = await sent();
    await cas('rollback', 'e1.0', 'monday', '--force');
    expect((await sent()) - before).toBe(1);
    await expectBetween('1.0', atSnapshot, sentBySnapshot);
  });

  it('refuses what would take a disk from a target, or needs the store for itself', async () => {
    for (const name of ['e1.0', 'e1.2', 'monday']) {
      expect(await refusal('cas', 'delete', store, name)).toMatch(/ is in use\n.*reload/);
    }
    expect(await refusal('export', store, 'monday', setup.join('copy.img'))).toMatch(
      /a server has the store .* open\n.*import, export/,
    );
    expect(await refusal('cas', 'fsck', store)).toContain('in use by another process');
    expect(await refusal('cas', 'rollback', store, 'e1.0', 'nothing', '--force')).toContain(
      'no volume, snapshot or root nothing',
    );
    await expectBetween('1.0', atSnapshot, sentBySnapshot);
  });

  it('collects and scrubs under load, one after the other', async () => {
    const journal = ['-j', setup.join('journal')];
    await cas('rollback', 'e1.0', 'monday', '--force');
    await know('journal', atSnapshot, sentBySnapshot);
    while ((await storeStatus()).usedBytes < 200 * MIB) {
      expect(await setup.verify('1.0', '-t', 2, '-w', 100, ...journal)).toMatchObject(UNHARMED);
    }
    const load = setup.verify('1.0', '-t', 6, ...LOAD, ...journal);
    const work = await Promise.all([
      cas('collect', '--json', '--rate', '256MiB'),
      cas('scrub', '--json', '--rate', '256MiB'),
      cas('du'),
    ]);
    const [collected, scrubbed] = work.slice(0, 2).map((text) => JSON.parse(text));
    expect(collected.freedSegments).toBeGreaterThan(0);
    expect(scrubbed).toMatchObject({ damage: [], lost: [] });
    expect(scrubbed.verifiedBytes).toBeGreaterThan(VOLUME_BYTES);
    expect(await load).toMatchObject(UNHARMED);
    const latest = await knowledge('journal');
    await expectBetween('1.0', latest, latest);
    await expectBetween('1.1', atSnapshot, sentBySnapshot);
    expect(setup.server.logText()).not.toMatch(/"level":"(warn|error|fatal)".*store/);
  });

  it('shows how far a job is, and ends it when the command is interrupted', async () => {
    const command = start('cas', 'scrub', store, '--rate', '1MiB');
    const running = { kind: 'scrub', state: 'running', phase: 'scrubbing' };
    await eventually(async () =>
      expect((await storeStatus()).jobs).toContainEqual(expect.objectContaining(running)),
    );
    const { output } = await program('status', setup.join('aoe-server.toml'));
    expect(output).toMatch(/scrub +running +scrubbing, .* of /);
    const exited = once(command, 'exit');
    command.kill('SIGINT');
    expect(await exited).toEqual([1, null]);
    const cancelled = { kind: 'scrub', state: 'cancelled' };
    await eventually(async () =>
      expect((await storeStatus()).jobs).toContainEqual(expect.objectContaining(cancelled)),
    );
  });

  it('ends a job when it is told its number, and says when there is none', async () => {
    const command = start('cas', 'scrub', store, '--rate', '1MiB');
    const exited = once(command, 'exit');
    await eventually(async () => expect((await lastScrub())?.state).toBe('running'));
    const { id } = (await lastScrub()) as JobStatus;
    expect(await cas('cancel', `${id}`)).toBe(`job ${id}, scrub: cancelled\n`);
    expect(await exited).toEqual([1, null]);
    expect(await refusal('cas', 'cancel', store, '99999')).toMatch(/no job 99999/);
    expect(await program('cas', 'cancel', store, 'scrub')).toMatchObject({ status: 2 });
  });

  it('tells its figures in the status and as metrics', async () => {
    const stats = JSON.parse(await cas('stats', '--json'));
    const told = await storeStatus();
    const { logicalBytes, uniqueBytes, garbageBytes } = stats;
    expect(told).toMatchObject({ path: store, damaged: false, failed: false, snapshots: 1 });
    expect(told.measured?.figures).toMatchObject({ logicalBytes, uniqueBytes, garbageBytes });
    expect(told.freeBytes).toBeGreaterThan(0);
    expect(told.blobStore).toBeNull();
    const { text } = await ask('GET', '/metrics');
    const labels = `figure="logical",store="${store}"`;
    expect(text).toMatch(/^aoe_store_physical_bytes\{store=".*"\} \d{8,}$/m);
    const measured = text.split('\n').find((line) => line.includes('figure="logical"'));
    expect(measured, labels).toMatch(new RegExp(` ${logicalBytes}$`));
  });

  it('answers as its description says', async () => {
    const base = `/v1/stores/${encodeURIComponent(store)}`;
    const samples: Record<string, unknown> = {
      '/snapshots': { volume: 'e1.0', name: 'tuesday' },
      '/clones': { source: 'tuesday', name: 'spare' },
      '/rollback': { volume: 'spare', source: 'tuesday' },
      '/jobs': { kind: 'diff', before: 'monday', after: 'e1.0' },
    };
    for (const { method, path, answer } of STORE_ROUTES) {
      const rest = path.replace('/v1/stores/{store}', '');
      const { jobs } = await storeStatus();
      const url = `${base}${rest.replace('{name}', 'spare').replace('{job}', `${jobs.at(-1)?.id}`)}`;
      const { status: code, text } = await ask(method, url, samples[rest]);
      expect(code, `${method} ${url}: ${text}`).toBe(200);
      expect(() => (answer as z.ZodType).parse(JSON.parse(text)), text).not.toThrow();
    }
    for (const [code, method, path, body] of [
      [404, 'GET', '/v1/stores/elsewhere'],
      [404, 'GET', `${base}/jobs/99999`],
      [400, 'POST', `${base}/snapshots`, { volume: 'e1.0', name: 'a b' }],
      [400, 'POST', `${base}/jobs`, { kind: 'nonsense' }],
      [409, 'POST', `${base}/snapshots`, { volume: 'e1.0', name: 'tuesday' }],
      [405, 'PUT', base],
    ] as const) {
      expect((await ask(method, path, body)).status, `${method} ${path}`).toBe(code);
    }
  });

  it('bounds the jobs that wait', async () => {
    const base = `/v1/stores/${encodeURIComponent(store)}/jobs`;
    const started: Job[] = [];
    for (;;) {
      const answer = await ask('POST', base, { kind: 'scrub', bytesPerSecondMax: 1 });
      if (answer.status === 503) break;
      started.push(JSON.parse(answer.text) as Job);
    }
    expect(started.length).toBeLessThan(16);
    // One that waits need not wait to be cancelled.
    const last = await ask('DELETE', `${base}/${started.at(-1)?.id}`);
    expect(JSON.parse(last.text)).toMatchObject({ state: 'cancelled' });
    for (const { id } of started) await ask('DELETE', `${base}/${id}`);
    await eventually(async () => {
      for (const { state } of (await storeStatus()).jobs)
        expect(state).not.toMatch(/waiting|running/);
    });
  });

  it('tells the same when no server has it open', async () => {
    const served = [await cas('list'), await cas('du'), await cas('diff', 'monday', 'e1.0')];
    const job = start('cas', 'scrub', store, '--rate', '1MiB');
    await eventually(async () => expect((await lastScrub())?.state).toBe('running'));
    const exited = once(job, 'exit');
    expect(await setup.server.stop()).toBe(0);
    await exited;
    const alone = [await cas('list'), await cas('du'), await cas('diff', 'monday', 'e1.0')];
    expect(alone).toEqual(served);
    await cas('fsck');
    await program('export', store, 'monday', setup.join('monday.img'));
    const image = await readFile(setup.join('monday.img'));
    expectOneMoment(image, await readFile(setup.join('acks')));
  });
});
