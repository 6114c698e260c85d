import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type CommandOptions, type CommandResult, environment, run, tryRun } from './tools.ts';

/** Longer than a server waits for storage when it stops. */
const KILL_TIMEOUT_MS = 25_000;
let namespaceCount = 0;

/**
 * A network of the test's own: nothing in it reaches, or is reached from, the machine's network.
 *
 * Interfaces and processes made through this object end with it. Processes also end when the
 * test process dies, so that a killed run leaves no server behind.
 */
export class NetworkNamespace implements AsyncDisposable {
  readonly name: string;
  readonly #children = new Set<ChildProcess>();

  private constructor(name: string) {
    this.name = name;
  }

  static async create(): Promise<NetworkNamespace> {
    await removeAbandoned();
    namespaceCount += 1;
    const namespace = new NetworkNamespace(`aoe-${process.pid}-${namespaceCount}`);
    await run('ip', ['netns', 'add', namespace.name]);
    // AoE is all that a capture of this network shall show.
    await namespace.run('sysctl', ['-qw', 'net.ipv6.conf.default.disable_ipv6=1']);
    await namespace.run('ip', ['link', 'set', 'lo', 'up']);
    return namespace;
  }

  /** Connects this namespace to `peer` by a veth pair; both ends come up. */
  async addVeth(
    interfaceName: string,
    peer: NetworkNamespace,
    peerInterfaceName: string,
    mtu = 1500,
  ): Promise<void> {
    const end = ['name', peerInterfaceName, 'mtu', `${mtu}`, 'netns', peer.name];
    const link = ['link', 'add', 'name', interfaceName, 'mtu', `${mtu}`];
    await this.run('ip', [...link, 'type', 'veth', 'peer', ...end]);
    await this.#setUp(interfaceName);
    await peer.#setUp(peerInterfaceName);
  }

  /** Adds a tap for a virtual machine. It has no carrier until the machine opens it. */
  async addTap(interfaceName: string, mtu = 1500): Promise<void> {
    await this.run('ip', ['tuntap', 'add', interfaceName, 'mode', 'tap']);
    await this.setMtu(interfaceName, mtu);
    await this.#setUp(interfaceName);
  }

  async setMtu(interfaceName: string, mtu: number): Promise<void> {
    await this.run('ip', ['link', 'set', interfaceName, 'mtu', `${mtu}`]);
  }

  /** Like `run` of tools.ts, inside this namespace. */
  run(command: string, args: readonly string[], options?: CommandOptions): Promise<string> {
    return run('ip', this.#enter(command, args), options);
  }

  /** Like `tryRun` of tools.ts, inside this namespace. */
  tryRun(
    command: string,
    args: readonly string[],
    options?: CommandOptions,
  ): Promise<CommandResult> {
    return tryRun('ip', this.#enter(command, args), options);
  }

  /** Starts a command inside this namespace. The child's pid is the command's own. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const entered = this.#enter(command, args);
    // ip and setpriv replace themselves, so no process stands between us and the command.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'ip', ...entered], {
      env: environment(),
      ...options,
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children].map((child) => stopChild(child, 'SIGKILL')));
    await run('ip', ['netns', 'del', this.name]);
  }

  async #setUp(interfaceName: string): Promise<void> {
    await this.run('ip', ['link', 'set', interfaceName, 'up']);
  }

  #enter(command: string, args: readonly string[]): string[] {
    return ['netns', 'exec', this.name, command, ...args];
  }
}

/** Removes the namespaces of test processes that were killed. */
async function removeAbandoned(): Promise<void> {
  const list = await run('ip', ['netns', 'list']);
  for (const [name, pid] of list.matchAll(/^aoe-(\d+)-\d+/gm)) {
    if (!existsSync(`/proc/${pid}`)) await tryRun('ip', ['netns', 'del', name]);
  }
}

/**
 * Sends `signal`, waits for the end, and kills what has not ended after 25 s.
 *
 * @returns the exit status; null when a signal ended the process
 */
export async function stopChild(
  child: ChildProcess,
  signal: 'SIGTERM' | 'SIGKILL',
): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exit = once(child, 'exit');
  child.kill(signal);
  const killer = setTimeout(() => child.kill('SIGKILL'), KILL_TIMEOUT_MS);
  await exit;
  clearTimeout(killer);
  return child.exitCode;
}
