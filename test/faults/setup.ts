import { mkdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { expect } from 'vitest';
import type { TargetStatus } from '../../src/status.ts';
import { askStatus } from '../support/control.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer, type ServerOptions } from '../support/server.ts';
import { disposeAll, run, TempDirectory, waitUntil } from '../support/tools.ts';

export const TOOLS = ['ip', 'setpriv', 'sysctl', 'cc', 'pgrep'];
export const MIB = 1 << 20;
export const SECTOR_SIZE = 512;

/** How much longer than in continuous integration a test runs: AOE_FAULTS_EFFORT, 1 if unset. */
export const EFFORT = Number(process.env['AOE_FAULTS_EFFORT'] ?? 1);

const CACHE = join(import.meta.dirname, '../../.cache/faults');

/** What `verify.c` reports; see there. */
export interface VerifyReport {
  reads: number;
  writes: number;
  resends: number;
  late: number;
  wrong: number;
  failed: number;
  refused: number;
  malformed: number;
  unanswered: number;
  leastByInitiator: number;
  p50Ms: number;
  p99Ms: number;
  p999Ms: number;
  maxMs: number;
  lastStatus: number;
  lastError: number;
  bufferCount: number;
  sectorsPerFrame: number;
}

/** A verified run that nothing disturbed to the point that an initiator would notice. */
export const UNHARMED = { wrong: 0, failed: 0, refused: 0, malformed: 0, unanswered: 0 };

/** An answer to a failure must not wait for anything; the machine's disk halts now and then. */
export function expectAtOnce({ p50Ms, maxMs }: VerifyReport): void {
  expect(p50Ms).toBeLessThan(1000);
  expect(maxMs).toBeLessThan(10_000);
}

export interface Links {
  count?: number;
  mtu?: number;
}

/** See the fields of the same names in {@link ServerOptions}. */
export type StartOptions = Pick<ServerOptions, 'settings' | 'runner'>;

/** A server in a network of its own, and one with initiators, joined by one or more links. */
export class Setup implements AsyncDisposable {
  readonly directory: TempDirectory;
  readonly serverNetwork: NetworkNamespace;
  readonly initiatorNetwork: NetworkNamespace;
  /** The links' ends at the server: s0, s1, ... */
  readonly serverInterfaces: string[] = [];
  /** Their ends at the initiators: c0, c1, ... */
  readonly initiatorInterfaces: string[] = [];
  server!: AoeServer;
  readonly #owned: AsyncDisposable[] = [];

  private constructor(
    directory: TempDirectory,
    serverNetwork: NetworkNamespace,
    initiatorNetwork: NetworkNamespace,
  ) {
    this.directory = directory;
    this.serverNetwork = serverNetwork;
    this.initiatorNetwork = initiatorNetwork;
  }

  static async create({ count = 1, mtu = 9000 }: Links = {}): Promise<Setup> {
    const directory = await TempDirectory.create();
    const serverNetwork = await NetworkNamespace.create();
    const setup = new Setup(directory, serverNetwork, await NetworkNamespace.create());
    for (let link = 0; link < count; link++) await setup.addLink(link, mtu);
    return setup;
  }

  /** Joins s`link` and c`link`. */
  async addLink(link: number, mtu: number): Promise<void> {
    const [serverEnd, initiatorEnd] = [`s${link}`, `c${link}`];
    await this.serverNetwork.addVeth(serverEnd, this.initiatorNetwork, initiatorEnd, mtu);
    if (this.serverInterfaces.includes(serverEnd)) return;
    this.serverInterfaces.push(serverEnd);
    this.initiatorInterfaces.push(initiatorEnd);
  }

  async start(targets: TomlTable[], options: StartOptions = {}): Promise<void> {
    this.server = await AoeServer.start({
      namespace: this.serverNetwork,
      interfaces: this.serverInterfaces,
      directory: this.directory.path,
      targets,
      ...options,
    });
  }

  /** Disposes of `thing` after the server, and after all that is owned later. */
  own<Thing extends AsyncDisposable>(thing: Thing): Thing {
    this.#owned.unshift(thing);
    return thing;
  }

  /** Disposes of what is owned; the server must have stopped. */
  async disposeOwned(): Promise<void> {
    await disposeAll(...this.#owned.splice(0));
  }

  join(...names: string[]): string {
    return this.directory.join(...names);
  }

  /** The server's process. */
  async serverPid(): Promise<number> {
    return Number(await run('pgrep', ['-f', `^[^ ]*node .*${this.join('aoe-server.toml')}$`]));
  }

  /** Runs a verifying initiator on all links; its report, whatever it says. */
  async verify(target: string, ...options: (string | number)[]): Promise<VerifyReport> {
    return this.verifyOn(this.initiatorInterfaces, target, ...options);
  }

  async verifyOn(
    interfaces: readonly string[],
    target: string,
    ...options: (string | number)[]
  ): Promise<VerifyReport> {
    const tool = await compile('verify');
    const args = [...options.map(String), target, ...interfaces];
    const timeoutMs = 120_000 * EFFORT;
    const { stdout, output } = await this.initiatorNetwork.tryRun(tool, args, { timeoutMs });
    if (!stdout.startsWith('{')) throw new Error(`verify ${args.join(' ')}: ${output}`);
    const complaints = output.slice(stdout.length);
    if (complaints !== '') console.error(complaints);
    return JSON.parse(stdout) as VerifyReport;
  }

  /** Starts a verifying initiator, and waits until its load is under way; its report to come. */
  async startLoad(
    target: string,
    ...options: (string | number)[]
  ): Promise<{ report: Promise<VerifyReport> }> {
    const before = await this.#requestCount(target);
    const report = this.verify(target, ...options);
    const isUnderWay = async () => (await this.#requestCount(target)) > before;
    // One that fails before is what the test is to tell of.
    await Promise.race([waitUntil(`a load on ${target}`, isUnderWay), report]);
    return { report };
  }

  async #requestCount(target: string): Promise<number> {
    const { targets } = await askStatus(this.join('state/control.sock'));
    const { counters } = targets.find(({ name }) => name === `e${target}`) as TargetStatus;
    return counters.reads + counters.writes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await disposeAll(this.server, this.serverNetwork, this.initiatorNetwork);
    await this.disposeOwned();
    await disposeAll(this.directory);
  }
}

const compiling = new Map<string, Promise<string>>();

/** Compiles `<name>.c` of this folder, when it has changed; the program's path. */
export function compile(name: string): Promise<string> {
  const program = compiling.get(name) ?? compileOnce(name);
  compiling.set(name, program);
  return program;
}

async function compileOnce(name: string): Promise<string> {
  const source = join(import.meta.dirname, `${name}.c`);
  const { mtimeMs } = await stat(source);
  const program = join(CACHE, `${name}-${Math.floor(mtimeMs)}`);
  if ((await stat(program).catch(() => undefined)) !== undefined) return program;
  await mkdir(CACHE, { recursive: true });
  // Test files run side by side: none of them may see half a program.
  const own = `${program}.${process.pid}`;
  await run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', own, source]);
  await rename(own, program);
  return program;
}
