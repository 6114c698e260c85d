import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { stringify, type TomlTable } from 'smol-toml';
import { type NetworkNamespace, stopChild } from './netns.ts';
import { waitUntil } from './tools.ts';

/** AOE_SERVER names another build of the program, such as an installed one. */
export const PROGRAM = resolve(
  process.env['AOE_SERVER'] ?? join(import.meta.dirname, '../../dist/cli/main.js'),
);
const START_TIMEOUT_MS = 25_000;

/** A line of the server's log. */
export interface LogLine {
  level: string;
  msg: string;
  [field: string]: unknown;
}

export interface ServerOptions {
  namespace: NetworkNamespace;
  interfaces: string[];
  /** Holds the configuration, the state and images named by relative paths; survives the server. */
  directory: string;
  /** Target tables as they stand in the configuration file. */
  targets: TomlTable[];
  /** More of its server table. */
  settings?: TomlTable | undefined;
  /** The command that runs the program, with its arguments; node when absent. */
  runner?: readonly string[] | undefined;
}

/** One run of the aoe-server program: from ready to serve until stopped. */
export class AoeServer implements AsyncDisposable {
  /** What the server logged so far, in order. Other lines, such as a crash's, appear as fatal. */
  readonly log: LogLine[] = [];
  readonly #child: ChildProcess;
  readonly #logEnd: Promise<unknown>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stderr === null) throw new Error('the server was started without its log');
    const lines = createInterface(child.stderr);
    lines.on('line', (line) => this.log.push(parseLogLine(line)));
    this.#logEnd = once(lines, 'close');
  }

  /** Starts the server and waits until it serves. @throws {Error} with its log when it does not */
  static async start(options: ServerOptions): Promise<AoeServer> {
    const { namespace, directory } = options;
    await mkdir(join(directory, 'state'), { recursive: true });
    const configPath = join(directory, 'aoe-server.toml');
    await writeFile(configPath, formatConfig(options));

    const [command, ...args] = [...(options.runner ?? [process.execPath]), PROGRAM, configPath];
    const child = namespace.spawn(command as string, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const server = new AoeServer(child);
    try {
      await waitUntil('serving', () => server.#isServing(), START_TIMEOUT_MS);
    } catch (cause) {
      await server.kill();
      throw new Error(`aoe-server did not start:\n${server.logText()}`, { cause });
    }
    return server;
  }

  /** Drains and ends the server; its exit status, null when it had to be killed. */
  stop(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  /** Ends the server as a crash does. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** What the server logged of its own failures. */
  get errors(): LogLine[] {
    return this.log.filter(({ level }) => ['error', 'fatal'].includes(level));
  }

  /** The log as text, for messages. */
  logText(): string {
    return this.log.map((line) => JSON.stringify(line)).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The log is whole then: a process may be gone before all that it said has come. */
  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const status = await stopChild(this.#child, signal);
    await this.#logEnd;
    return status;
  }

  #isServing(): boolean {
    if (this.#child.exitCode !== null) throw new Error(`exit status ${this.#child.exitCode}`);
    return this.log.some((line) => line.msg.startsWith('serving'));
  }
}

function formatConfig({ interfaces, targets, settings }: ServerOptions): string {
  return stringify({ server: { interfaces, state_dir: 'state', ...settings }, target: targets });
}

function parseLogLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return { level: 'fatal', msg: line };
  }
}
