/** Commands that run to their end, and servers that run until they are stopped. */
import { type ChildProcess, execFile, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const KILL_TIMEOUT_MS = 5000;
const LOG_LENGTH_MAX = 4000;
const OUTPUT_SIZE_MAX = 1 << 20;
/** Linux reports processor time to user space in hundredths of a second on every machine. */
const TICKS_PER_SECOND = 100;

/** System tools live in sbin, which is not on everyone's path. */
const ENVIRONMENT = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };

export interface RunOptions {
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Exit statuses that are results, not errors. Default: only 0. */
  statuses?: readonly number[];
}

/** Where a command runs. */
export interface Place {
  /** Network namespace. */
  namespace: string;
  /** As taskset(1) takes them, such as "0" or "0,2-3". */
  cpus: string;
}

/**
 * Runs a command to its end and returns its standard output.
 *
 * @throws {Error} with what it printed, when it fails, takes too long or is interrupted
 */
export function run(
  command: string,
  args: readonly string[],
  { timeoutMs = 30_000, signal, statuses = [0] }: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      env: ENVIRONMENT,
      timeout: timeoutMs,
      killSignal: 'SIGKILL' as const,
      maxBuffer: OUTPUT_SIZE_MAX,
      ...(signal && { signal }),
    };
    execFile(command, args, options, (error, stdout, stderr) => {
      const status = error === null ? 0 : error.code;
      if (typeof status === 'number' && statuses.includes(status)) return resolve(stdout);
      const how = error?.killed ? 'interrupted or too slow' : `status ${status}`;
      reject(new Error(`${command} ${args.join(' ')}: ${how}\n${stdout}${stderr}`.trim()));
    });
  });
}

/** What to run so that a command runs in a place, under the process id that the caller sees. */
export function inPlace(
  { namespace, cpus }: Place,
  command: string,
  args: readonly string[],
): [command: string, args: string[]] {
  const enter = ['taskset', '-c', cpus, 'ip', 'netns', 'exec', namespace];
  // A run that is killed leaves nothing behind.
  return ['setpriv', ['--pdeathsig', 'KILL', ...enter, command, ...args]];
}

/** A process that runs until it is stopped. */
export class ServerProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  #log = '';

  /** @param extraPipes how many pipes to open from file descriptor 3 on */
  constructor(place: Place, command: string, args: readonly string[], extraPipes = 0) {
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...Array(extraPipes).fill('pipe')];
    this.child = spawn(...inPlace(place, command, args), { env: ENVIRONMENT, stdio });
    const keep = (text: Buffer): void => {
      this.#log = (this.#log + text).slice(-LOG_LENGTH_MAX);
    };
    this.child.stdout?.on('data', keep);
    this.child.stderr?.on('data', keep);
    this.child.on('error', (error) => keep(Buffer.from(error.message)));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.pid > 0 && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** The end of what it printed. */
  get log(): string {
    return this.#log.trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isRunning) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const patience = new AbortController();
    const kill = async (): Promise<void> => {
      await sleep(KILL_TIMEOUT_MS, undefined, { signal: patience.signal });
      this.child.kill('SIGKILL');
    };
    kill().catch(() => {});
    await ended;
    patience.abort();
  }
}

/** Processor time that processes have used so far, all threads together, in seconds. */
export function cpuSeconds(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything; user and system time are the 12th and 13th after.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, value) => sum + value, 0) / TICKS_PER_SECOND;
}

export interface Memory {
  /** Resident, in MiB. */
  rssMib: number;
  /** Resident, pages that several processes share divided among them, in MiB. */
  pssMib: number;
}

export function memoryOf(pids: readonly number[]): Memory {
  const memory = { rssMib: 0, pssMib: 0 };
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    memory.rssMib += Number(/^Rss:\s+(\d+)/m.exec(rollup)?.[1]) / 1024;
    memory.pssMib += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1]) / 1024;
  }
  return memory;
}
