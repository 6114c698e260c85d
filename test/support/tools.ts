import { execFile } from 'node:child_process';
import { accessSync, constants, readdirSync, readlinkSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, vi } from 'vitest';

/** What a command left behind. `output` is standard output and error, in that order. */
export interface CommandResult {
  status: number;
  stdout: string;
  output: string;
}

export interface CommandOptions {
  /** Bytes for standard input; empty when absent. */
  input?: string | Uint8Array;
  /** The command is killed after this time, and its status is then -1. Default 30 s. */
  timeoutMs?: number;
}

/** Longer than anything takes on a busy machine that is going to happen at all. */
const WAIT_MS = 20_000;
const OUTPUT_SIZE_MAX = 64 << 20;
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Runs a command to its end and reports how it went; a failure is a result, not an error. */
export function tryRun(
  command: string,
  args: readonly string[],
  { input = '', timeoutMs = 30_000 }: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const options = {
      timeout: timeoutMs,
      // One that hangs in the kernel hears of no other.
      killSignal: 'SIGKILL',
      maxBuffer: OUTPUT_SIZE_MAX,
      env: environment(),
    } as const;
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, stdout, output: stdout + stderr });
    });
    // A command that ends without reading its input is not our failure.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/**
 * Runs a command that must succeed and returns its standard output.
 *
 * @throws {Error} with the command and all it printed, when its status is not 0
 */
export async function run(
  command: string,
  args: readonly string[],
  options?: CommandOptions,
): Promise<string> {
  const { status, stdout, output } = await tryRun(command, args, options);
  if (status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: status ${status}\n${output}`);
  }
  return stdout;
}

/**
 * `describe` for tests that make network namespaces and run these commands. Where that is not
 * possible they are skipped, and the name says why.
 */
export function describeWith(commands: readonly string[], name: string, body: () => void): void {
  const missing = commands.filter((command) => !isInstalled(command));
  if (process.getuid?.() !== 0) {
    describe.skip(`${name} (needs root)`, body);
  } else if (missing.length > 0) {
    describe.skip(`${name} (needs ${missing.join(', ')}: run test/install-tools)`, body);
  } else {
    describe(name, body);
  }
}

/** Polls until `condition` holds. @throws {Error} naming `what` when it does not in time */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = WAIT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(20);
  }
}

/** Repeats `check` until it passes. @throws what it threw last, when it does not in time */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: WAIT_MS });
}

/** A directory of its own for one test file, gone with all it holds when disposed of. */
export class TempDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<TempDirectory> {
    return new TempDirectory(await mkdtemp(join(tmpdir(), 'aoe-server-test-')));
  }

  join(...names: string[]): string {
    return join(this.path, ...names);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** Disposes of what a test file made, in this order. What was never made is passed over. */
export async function disposeAll(...things: (AsyncDisposable | undefined)[]): Promise<void> {
  for (const thing of things) await thing?.[Symbol.asyncDispose]();
}

/** Descriptors of this process that `path` was opened by. */
export function descriptorsOf(path: string): number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path ? Number(fd) : [];
    } catch {
      // It was that of the directory.
      return [];
    }
  });
}

/** Has `look` told, in place of the disk, which file or directory is synced through a FileHandle. */
export async function watchSyncs(look: (path: string) => Promise<void>): Promise<void> {
  const handle = await open('/');
  vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'sync').mockImplementation(async function (
    this: FileHandle,
  ) {
    await look(await readlink(`/proc/self/fd/${this.fd}`));
  });
  await handle.close();
}

/** System tools live in sbin, which is not on everyone's path. */
export function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: [process.env['PATH'], ...SYSTEM_FOLDERS].join(':') };
}

function isInstalled(command: string): boolean {
  return SYSTEM_FOLDERS.some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
