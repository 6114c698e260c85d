import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { TARGET } from '../config/samples.ts';
import { stopChild } from '../support/netns.ts';
import { eventually } from '../support/tools.ts';
import { PROGRAM } from './run.ts';

/** Node has no unix datagram sockets. */
const RECEIVE_DATAGRAMS = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(4096).decode(), flush=True)
`;

/** Until the other end has no room. */
const SEND_DATAGRAMS = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setblocking(False)
try:
    while True: s.sendto(b'OTHER', sys.argv[1])
except BlockingIOError: pass
`;

/** A blob store that takes every connection, and never answers; it goes with its parent. */
const HANG = `
require("net").createServer(() => console.error("reached")).listen(9);
const { ppid } = process;
setInterval(() => process.ppid === ppid || process.exit(), 100);
`;

type Server = ChildProcessByStdio<null, null, Readable>;

const started: Server[] = [];
const receivers: ChildProcess[] = [];
let listenerCount = 0;
// The next server uses the same state directory.
afterEach(async () => {
  const children = [...started.splice(0), ...receivers.splice(0)];
  await Promise.all(children.map((child) => stopChild(child, 'SIGKILL')));
});

const directory = mkdtempSync(join(tmpdir(), 'aoe-serve-'));
afterAll(() => rmSync(directory, { recursive: true }));

const CONFIG = join(directory, 'aoe.toml');
writeFileSync(CONFIG, `[server]\ninterface = "lo"\nstate_dir = "state"\n${TARGET}`);

/**
 * Starts the program on the loopback interface of a network namespace of its own.
 *
 * @param beside a command that is begun there before
 */
async function startProgram(
  config: string,
  env = process.env,
  beside = 'true',
): Promise<{ server: Server; logged: string[]; log: Promise<string> }> {
  const program = `exec ${process.execPath} ${PROGRAM} ${config}`;
  const command = `ip link set lo up && { ${beside} & ${program}; }`;
  const server = spawn('unshare', ['--net', 'sh', '-c', command], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
  });
  started.push(server);
  const logged: string[] = [];
  server.stderr.on('data', (chunk) => logged.push(`${chunk}`));
  const log = text(server.stderr);
  await once(server.stderr, 'data');
  return { server, logged, log };
}

/** Hears what the program says to systemd. */
async function listenAsSystemd(): Promise<{
  said: string[];
  env: NodeJS.ProcessEnv;
  receiver: ChildProcess;
}> {
  listenerCount += 1;
  const socket = join(directory, `notify-${listenerCount}`);
  const receiver = spawn('python3', ['-c', RECEIVE_DATAGRAMS, socket], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  receivers.push(receiver);
  const said: string[] = [];
  receiver.stdout.setEncoding('utf8').on('data', (text) => said.push(text));
  await eventually(() => expect(said.join('')).toContain('bound'));
  return { said, env: { ...process.env, NOTIFY_SOCKET: socket }, receiver };
}

const COMPLAINT = /systemd cannot be told that the server is well/;
const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)('aoe-server serving (as root)', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('closes and exits with 0 on %s', async (signal) => {
    const { server, log } = await startProgram(CONFIG);
    server.kill(signal);
    expect(await once(server, 'exit')).toEqual([0, null]);
    const lines = (await log).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ level: 'info', signal, msg: 'stopping' }),
    );
  });

  it('tells systemd when it serves, and when it stops', async () => {
    const { said, env } = await listenAsSystemd();
    const { server } = await startProgram(CONFIG, env);
    await eventually(() => expect(said.join('')).toMatch(/READY=1/));
    expect(said.join('')).not.toMatch(/STOPPING|WATCHDOG/);
    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([0, null]);
    await eventually(() => expect(said.join('')).toMatch(/STOPPING=1/));
  });

  it('tells systemd when it serves, though systemd listens only later', async () => {
    const { said, env, receiver } = await listenAsSystemd();
    receiver.kill('SIGSTOP');
    const fill = ['-c', SEND_DATAGRAMS, env['NOTIFY_SOCKET'] as string];
    expect(await once(spawn('python3', fill, { stdio: 'inherit' }), 'exit')).toEqual([0, null]);
    const { logged } = await startProgram(CONFIG, env);
    await eventually(() => expect(logged.join('')).toContain('"msg":"serving"'));
    await sleep(500);
    receiver.kill('SIGCONT');
    await eventually(() => expect(said.join('')).toMatch(/READY=1/));
    expect(logged.join('')).not.toMatch(COMPLAINT);
  });

  it('tells systemd that it is well, as often as systemd wants, and not while it hangs', async () => {
    const { said, env } = await listenAsSystemd();
    const { server } = await startProgram(CONFIG, { ...env, WATCHDOG_USEC: '400000' });
    const beats = () => said.join('').split('WATCHDOG=1').length - 1;
    await eventually(() => expect(beats()).toBeGreaterThan(2));
    server.kill('SIGSTOP');
    // What it has said is heard by then.
    await sleep(1000);
    const before = beats();
    await sleep(1000);
    expect(beats()).toBe(before);
    server.kill('SIGCONT');
    await eventually(() => expect(beats()).toBeGreaterThan(before));
  });

  it('leaves a watchdog to the process that it is meant for', async () => {
    const { said, env } = await listenAsSystemd();
    await startProgram(CONFIG, { ...env, WATCHDOG_USEC: '100000', WATCHDOG_PID: '1' });
    await eventually(() => expect(said.join('')).toMatch(/READY=1/));
    await sleep(500);
    expect(said.join('')).not.toMatch(/WATCHDOG/);
  });

  it('serves all the same when systemd does not listen', async () => {
    const absent = { ...process.env, NOTIFY_SOCKET: join(directory, 'absent') };
    const { server, logged } = await startProgram(CONFIG, absent);
    await eventually(() => expect(logged.join('')).toMatch(COMPLAINT));
    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([0, null]);
  });

  it('serves all the same when its log cannot be written', async () => {
    const { said, env } = await listenAsSystemd();
    const command = `ip link set lo up && exec ${process.execPath} ${PROGRAM} ${CONFIG} 2>/dev/full`;
    const server = spawn('unshare', ['--net', 'sh', '-c', command], { stdio: 'ignore', env });
    receivers.push(server);
    await eventually(() => expect(said.join('')).toMatch(/READY=1/));
    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([0, null]);
  });

  it('ends at once on a second signal', async () => {
    const { server } = await startProgram(CONFIG);
    // Stopped, it finds both signals when it wakes up; in which order is the kernel's choice.
    server.kill('SIGSTOP');
    server.kill('SIGTERM');
    server.kill('SIGINT');
    server.kill('SIGCONT');
    const [code] = await once(server, 'exit');
    expect([130, 143]).toContain(code);
  });

  it('ends soon when it is told so while a store is fetched that does not come', async () => {
    const config = join(directory, 'fetching.toml');
    const store = 'blob_store = { type = "s3", path = "fetched", bucket = "b", region = "x"';
    const cas = `size = "1MiB", ${store}, endpoint = "http://127.0.0.1:9" }`;
    const target = TARGET.replace('"memory"', '"cas"').replace(/memory.*/, `cas = { ${cas} }`);
    writeFileSync(config, `[server]\ninterface = "lo"\nstate_dir = "fetching"\n${target}`);
    const env = { ...process.env, AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x' };
    const { server, logged } = await startProgram(config, env, `${process.execPath} -e '${HANG}'`);
    await eventually(() => expect(logged.join('')).toContain('reached'));
    const startMs = performance.now();
    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([0, null]);
    // The store is waited for 60 s.
    expect(performance.now() - startMs).toBeLessThan(30_000);
  });

  it('goes on after SIGHUP', async () => {
    const { server } = await startProgram(CONFIG);
    server.kill('SIGHUP');
    server.kill('SIGTERM');
    expect(await once(server, 'exit')).toEqual([0, null]);
  });

  it('follows its file, on SIGHUP, as soon as it serves when it is still starting', async () => {
    const config = join(directory, 'starting.toml');
    const before = `[server]\ninterface = "lo"\nstate_dir = "starting"\ndashboard = "./page"\n${TARGET}`;
    writeFileSync(config, before);
    const { server, logged } = await startProgram(config);
    expect(logged.join('')).not.toContain('"msg":"serving"');
    writeFileSync(config, before + TARGET.replace('slot = 0', 'slot = 1'));
    server.kill('SIGHUP');
    await eventually(() => expect(logged.join('')).toMatch(/"added":\["e1.1"\].*"msg":"reloaded"/));
  });

  it('goes on when its terminal is gone, and exits with 0 then, too', async () => {
    const { said, env } = await listenAsSystemd();
    const [pid, status] = [join(directory, 'pid'), join(directory, 'status')];
    const command = `ip link set lo up; ${process.execPath} ${PROGRAM} ${CONFIG} & echo $! >${pid}`;
    const shell = `trap "" HUP; ${command}; wait $!; echo $? >${status}`;
    const terminal = spawn('script', ['-qec', `unshare --net sh -c '${shell}'`, '/dev/null'], {
      stdio: 'ignore',
      env,
    });
    receivers.push(terminal);
    await eventually(() => expect(said.join('')).toMatch(/READY=1/));
    terminal.kill('SIGKILL');
    await once(terminal, 'exit');
    process.kill(Number(readFileSync(pid, 'utf8')), 'SIGTERM');
    await eventually(() => expect(readFileSync(status, 'utf8')).toBe('0\n'));
    await eventually(() => expect(said.join('')).toMatch(/STOPPING=1/));
  });

  it('exits with 1 and without a stack trace when an interface does not exist', async () => {
    const config = join(directory, 'no-interface.toml');
    writeFileSync(config, `[server]\ninterface = "absent0"\nstate_dir = "state"\n${TARGET}`);
    const { server, log } = await startProgram(config);
    expect(await once(server, 'exit')).toEqual([1, null]);
    expect(await log).toMatch(/^aoe-server: .*absent0/m);
    expect(await log).not.toMatch(/^\s+at /m);
  });
});
