import { existsSync } from 'node:fs';
import { run } from './process.ts';

/** Names of the two ends; in namespaces of their own they collide with nothing. */
export const SERVER_INTERFACE = 'server0';
export const LOAD_INTERFACE = 'load0';

/** Two network namespaces joined by a veth pair, reachable from nowhere else. */
export class Network implements AsyncDisposable {
  readonly serverNamespace = `aoe-bench-${process.pid}-server`;
  readonly loadNamespace = `aoe-bench-${process.pid}-load`;

  private constructor() {}

  static async create(): Promise<Network> {
    await removeAbandoned();
    const network = new Network();
    try {
      await network.#build();
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
    return network;
  }

  async setMtu(mtu: number): Promise<void> {
    const ends = [
      [this.serverNamespace, SERVER_INTERFACE],
      [this.loadNamespace, LOAD_INTERFACE],
    ] as const;
    for (const [namespace, name] of ends) {
      await run('ip', ['-n', namespace, 'link', 'set', name, 'mtu', `${mtu}`, 'up']);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [this.serverNamespace, this.loadNamespace]) {
      await run('ip', ['netns', 'del', name], { statuses: [0, 1] });
    }
  }

  async #build(): Promise<void> {
    for (const name of [this.serverNamespace, this.loadNamespace]) {
      await run('ip', ['netns', 'add', name]);
      // Neighbour discovery would be traffic that nobody asked for.
      const noIpv6 = 'net.ipv6.conf.default.disable_ipv6=1';
      await run('ip', ['netns', 'exec', name, 'sysctl', '-qew', noIpv6]);
    }
    const peer = ['peer', 'name', LOAD_INTERFACE, 'netns', this.loadNamespace];
    const link = ['link', 'add', 'name', SERVER_INTERFACE, 'type', 'veth'];
    await run('ip', ['-n', this.serverNamespace, ...link, ...peer]);
  }
}

/** Removes the namespaces of runs that were killed. */
async function removeAbandoned(): Promise<void> {
  const list = await run('ip', ['netns', 'list']);
  for (const [name, pid] of list.matchAll(/^aoe-bench-(\d+)-(server|load)/gm)) {
    if (!existsSync(`/proc/${pid}`)) await run('ip', ['netns', 'del', name]);
  }
}
