import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readlink } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Activity } from '../../../src/cli/top/activity.ts';
import { MIB, Setup } from '../../faults/setup.ts';
import { stopChild } from '../../support/netns.ts';
import { describeWith, disposeAll, environment, tryRun, waitUntil } from '../../support/tools.ts';
import { PROGRAM } from '../run.ts';

const ENTER = '\x1b[?1049h';
const LEAVE = '\x1b[?1049l';
const HOME = '\x1b[H';
const TOP = [process.execPath, PROGRAM, 'top'];

const FIRST = { shelf: 1, slot: 0, backend: 'memory', memory: { size: MIB } };
const SECOND = { ...FIRST, slot: 1 };

let setup: Setup;

function config(): string {
  return setup.join('aoe-server.toml');
}

function top(...options: string[]) {
  const [node = '', ...args] = [...TOP, config(), ...options];
  return tryRun(node, args);
}

async function topJson(...options: string[]): Promise<Activity[]> {
  const { stdout } = await top('--json', ...options);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Reads from a target until what is to be seen has been. */
function load(target: string): ChildProcess {
  const args = [PROGRAM, 'bench', target, 'c0', '--seconds', '20', '--json'];
  return setup.initiatorNetwork.spawn(process.execPath, args, { stdio: 'ignore' });
}

/** A terminal of the kernel's, of 24 lines with 80 columns, and the program in it. */
class Terminal {
  readonly #script: ChildProcess;
  readonly #closed: Promise<unknown>;
  printed = '';

  constructor(...options: string[]) {
    const command = ['stty rows 24 cols 80; exec', ...TOP, config(), ...options].join(' ');
    this.#script = spawn('script', ['-qec', command, '/dev/null'], { env: environment() });
    this.#closed = once(this.#script, 'close');
    this.#script.stdout?.on('data', (chunk: Buffer) => {
      this.printed += chunk.toString();
    });
  }

  /** The page that is shown last, as lines. */
  get page(): string[] {
    const pages = this.printed.split(HOME).filter((page) => page.endsWith('\x1b[J'));
    return (pages.at(-1) ?? '')
      .replace('\x1b[J', '')
      .split('\x1b[K')
      .map((line) => line.trim());
  }

  sees(what: RegExp): Promise<void> {
    return waitUntil(`${what}`, () => what.test(this.page.join('\n')), 20_000);
  }

  press(keys: string): void {
    this.#script.stdin?.write(keys);
  }

  async resize(rows: number, columns: number): Promise<void> {
    const tty = await readlink(`/proc/${await this.programPid()}/fd/0`);
    await tryRun('stty', ['-F', tty, 'rows', `${rows}`, 'cols', `${columns}`]);
  }

  async programPid(): Promise<number> {
    const { pid } = this.#script;
    return Number((await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim());
  }

  /** The status that a shell would see. */
  async end(): Promise<number | null> {
    // Not its exit: what it printed may come after that.
    await this.#closed;
    return this.#script.exitCode;
  }
}

describeWith(['ip', 'setpriv', 'script', 'stty'], 'aoe-server top', () => {
  beforeAll(async () => {
    setup = await Setup.create();
    await setup.start([FIRST, SECOND]);
  });
  afterAll(() => disposeAll(setup));

  it('prints a report for each interval where there is no terminal', async () => {
    const { status, stdout } = await top('--interval', '0.2', '--count', '2');
    expect(status).toBe(0);
    expect(stdout.match(/^\d{4}-\d\d-\d\dT.*Z$/gm)).toHaveLength(2);
    expect(stdout.match(/^e1\.1 .*/gm)).toHaveLength(2);
    expect(stdout).not.toContain('\x1b');
  });

  it('ends when nobody reads on', async () => {
    const command = `${[...TOP, config()].join(' ')} --interval 0.2 | head -1`;
    const { status, output } = await tryRun('bash', ['-o', 'pipefail', '-c', command]);
    expect({ status, lines: output.trim().split('\n').length }).toEqual({ status: 0, lines: 1 });
  });

  it('tells as JSON what each target does', async () => {
    const reader = load('e1.1');
    try {
      await vi.waitFor(
        async () => {
          const activities = await topJson('--interval', '0.5', '--count', '1');
          expect(activities).toHaveLength(1);
          const [{ seconds, targets } = { seconds: 0, targets: [] }] = activities;
          const [idle, busy] = targets;
          expect(seconds).toBeGreaterThan(0.4);
          expect(idle).toMatchObject({ name: 'e1.0', reads: 0, readP99Us: null });
          expect(busy?.reads).toBeGreaterThan(0);
          expect(busy?.readBytes).toBe((busy?.reads ?? 0) * 4096);
          expect(busy?.readP99Us).toBeGreaterThanOrEqual(busy?.readP50Us ?? 0);
          expect(busy).toMatchObject({ writes: 0, clients: 1 });
        },
        { timeout: 20_000 },
      );
    } finally {
      await stopChild(reader, 'SIGKILL');
    }
  });

  it('goes on while the server is started again with other targets', async () => {
    const args = [PROGRAM, 'top', config(), '--json', '--interval', '0.3'];
    const running = setup.initiatorNetwork.spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    running.stdout?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
    const sees = (what: string) => waitUntil(what, () => printed.includes(what), 20_000);
    try {
      await sees('"restarted":false');
      await setup.server.kill();
      await sees('"error":"cannot reach a server');
      await setup.start([FIRST]);
      await sees('"restarted":true');
    } finally {
      await stopChild(running, 'SIGKILL');
      await setup.server.stop();
      await setup.start([FIRST, SECOND]);
    }
    expect(printed).toMatch(/"restarted":true.*"removed":\["e1.1"\]/);
    expect(printed).not.toMatch(/:-\d/);
  });

  it('fails when there is no server from the start', async () => {
    await setup.server.stop();
    const { status, output } = await top();
    await setup.start([FIRST, SECOND]);
    expect(status).toBe(1);
    expect(output).toContain('cannot reach a server');
  });

  it('shows a page on a terminal until q is pressed, and leaves it as it was', async () => {
    const terminal = new Terminal('--interval', '0.2');
    await terminal.sees(/^e1\.0 /m);
    expect(terminal.printed.startsWith(ENTER)).toBe(true);
    expect(Math.max(...terminal.page.map((line) => line.length))).toBeLessThanOrEqual(80);
    terminal.press('q');
    expect(await terminal.end()).toBe(0);
    expect(terminal.printed.endsWith(LEAVE)).toBe(true);
  });

  it('sorts by the next column when s is pressed', async () => {
    const terminal = new Terminal('--interval', '0.2');
    await terminal.sees(/ R\/S /);
    terminal.press('s');
    await terminal.sees(/R\/S\* /);
    terminal.press('s');
    await terminal.sees(/W\/S\* /);
    terminal.press('q');
    await terminal.end();
  });

  it('fits into a terminal that changes its size', async () => {
    const terminal = new Terminal('--interval', '3600');
    await terminal.sees(/Keys/);
    await terminal.resize(1, 20);
    await waitUntil('a small page', () => terminal.page.join('').length <= 20);
    terminal.press('q');
    expect(await terminal.end()).toBe(0);
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'leaves the terminal as it was on %s',
    async (signal) => {
      const terminal = new Terminal();
      await terminal.sees(/Keys/);
      process.kill(await terminal.programPid(), signal);
      expect(await terminal.end()).toBeGreaterThan(128);
      expect(terminal.printed.endsWith(LEAVE)).toBe(true);
    },
  );

  it('leaves the terminal as it was, and ends, on Ctrl-C', async () => {
    const terminal = new Terminal();
    await terminal.sees(/Keys/);
    terminal.press('\x03');
    expect(await terminal.end()).toBe(0);
    expect(terminal.printed.endsWith(LEAVE)).toBe(true);
  });

  it('leaves the terminal as it was before it says what is wrong', async () => {
    await setup.server.stop();
    const terminal = new Terminal();
    const status = await terminal.end();
    await setup.start([FIRST, SECOND]);
    expect(status).toBe(1);
    const [, after = ''] = terminal.printed.split(LEAVE);
    expect(after).toContain('cannot reach a server');
  });
});
