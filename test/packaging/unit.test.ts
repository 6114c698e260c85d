import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROGRAM } from '../cli/run.ts';
import { Setup } from '../faults/setup.ts';
import { describeWith, disposeAll, run, tryRun, waitUntil } from '../support/tools.ts';

const UNIT_PATH = join(import.meta.dirname, '../../packaging/aoe-server.service');
const UNIT = readFileSync(UNIT_PATH, 'utf8');
const README = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');

/** Of 10, where 10 is a service that may do anything. What is left is what a server is for. */
const EXPOSURE_MAX = 2.3;
const MIB = 1 << 20;

/** The words of strace's table that are no system calls. */
const TABLE = ['syscall', 'calls', 'errors', 'seconds', 'time', 'usecs', 'total'];

function settings(name: string): string[] {
  return [...UNIT.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value);
}

/** The system calls of a set of systemd's, those of the sets in it too. */
async function expand(set: string): Promise<string[]> {
  const text = await run('systemd-analyze', ['syscall-filter', set]);
  const entries = [...text.matchAll(/^ {4}([@\w-]+)$/gm)].map(([, entry = '']) => entry);
  const lists = entries.map((entry) => (entry.startsWith('@') ? expand(entry) : [entry]));
  return (await Promise.all(lists)).flat();
}

async function allowedCalls(): Promise<Set<string>> {
  const allowed = new Set<string>();
  for (const filter of settings('SystemCallFilter')) {
    for (const set of filter.replace('~', '').split(' ')) {
      for (const call of set.startsWith('@') ? await expand(set) : [set]) {
        if (filter.startsWith('~')) allowed.delete(call);
        else allowed.add(call);
      }
    }
  }
  return allowed;
}

describe('the systemd unit', () => {
  it('is the only one that the README tells of', () => {
    expect(README.includes('ExecStart')).toBe(false);
    expect(README.includes('(packaging/aoe-server.service)')).toBe(true);
  });

  it('gives a store that is fetched at the start the time that it takes', () => {
    expect(settings('TimeoutStartSec')).toEqual(['infinity']);
  });

  it('does not forbid what Node.js compiles to run', () => {
    expect(settings('MemoryDenyWriteExecute')).toEqual([]);
  });
});

describeWith(['systemd-analyze'], 'the systemd unit', () => {
  it('exposes little', async () => {
    const threshold = `--threshold=${EXPOSURE_MAX * 10}`;
    const args = ['security', '--offline=true', '--no-pager', threshold, UNIT_PATH];
    const { status, output } = await tryRun('systemd-analyze', args);
    expect({ status, output }).toMatchObject({ status: 0 });
  });

  it('is verified without complaint', async () => {
    // Where the program is installed does not matter here.
    const text = UNIT.replace(/^(Exec\w+)=aoe-server/gm, '$1=/bin/true');
    await using setup = await Setup.create({ count: 0 });
    const path = setup.join('aoe-server.service');
    await run('sh', ['-c', 'cat >"$1"', 'sh', path], { input: text });
    const verified = await tryRun('systemd-analyze', ['verify', '--man=no', path]);
    expect(verified).toEqual({ status: 0, stdout: '', output: '' });
  });
});

describeWith(['systemd-analyze', 'strace', 'ip'], 'the systemd unit', () => {
  let setup: Setup;
  let calls: string[];

  beforeAll(async () => {
    setup = await Setup.create();
    const tracePath = setup.join('calls');
    const tracer = ['strace', '-D', '-f', '-c', '-U', 'name', '-o', tracePath, process.execPath];
    const store = { type: 'file', path: 'store' };
    await setup.start(
      [
        { shelf: 1, slot: 0, backend: 'file', file: { path: 'a.img', size: 64 * MIB } },
        { shelf: 1, slot: 1, backend: 'file', file: { path: 'b.img', size: MIB, direct: true } },
        { shelf: 1, slot: 2, backend: 'cas', cas: { size: 64 * MIB, blob_store: store } },
      ],
      {
        settings: { metrics: '127.0.0.1:9465' },
        runner: ['env', `NOTIFY_SOCKET=${setup.join('notify')}`, ...tracer],
      },
    );
    for (const target of ['e1.0', 'e1.1', 'e1.2']) {
      const bench = ['bench', target, 'c0', '--seconds', '0.3', '--overwrite'];
      await setup.initiatorNetwork.run(process.execPath, [PROGRAM, ...bench]);
    }
    for (const command of ['status', 'reload', 'announce']) {
      await run(process.execPath, [PROGRAM, command, setup.join('aoe-server.toml')]);
    }
    await setup.server.stop();
    const read = () => readFile(tracePath, 'utf8').catch(() => '');
    // Its last line is written last.
    await waitUntil('the trace', async () => /\btotal\n/.test(await read()));
    calls = (await read())
      .split(/\s+/)
      .filter((word) => /^[a-z_]\w+$/.test(word) && !TABLE.includes(word));
  });
  afterAll(() => disposeAll(setup));

  it('allows every system call that serving takes', async () => {
    expect(calls).toEqual(expect.arrayContaining(['io_uring_enter', 'fdatasync', 'sendmmsg']));
    const allowed = await allowedCalls();
    expect(calls.filter((call) => !allowed.has(call))).toEqual([]);
    // Which strace 6.1 leaves out.
    expect(allowed.has('cachestat')).toBe(true);
  });
});
