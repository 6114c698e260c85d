import { existsSync } from 'node:fs';
import { run } from './process.ts';

/** A veth pair. Names of its two ends; in namespaces of their own they collide with nothing. */
export interface Link {
  readonly server: string;
  readonly load: string;
}

/** Two network namespaces joined by veth pairs, reachable from nowhere else. */
export class Network implements AsyncDisposable {
  readonly serverNamespace = `aoe-bench-${process.pid}-server`;
  readonly loadNamespace = `aoe-bench-${process.pid}-load`;

  readonly links: readonly Link[];

  private constructor(linkCount: number) {
    this.links = Array.from({ length: linkCount }, (_, index) => ({
      server: `server${index}`,
      load: `load${index}`,
    }));
  }

  static async create(linkCount: number): Promise<Network> {
    await removeAbandoned();
    const network = new Network(linkCount);
    try {
      await network.#build();
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
    return network;
  }

  /** @throws {Error} there are fewer */
  link(index: number): Link {
    const link = this.links[index];
    if (link === undefined) throw new Error(`there are ${this.links.length} links`);
    return link;
  }

  async setMtu(mtu: number): Promise<void> {
    const ends = this.links.flatMap(({ server, load }) => [
      [this.serverNamespace, server] as const,
      [this.loadNamespace, load] as const,
    ]);
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
    for (const { server, load } of this.links) {
      const peer = ['peer', 'name', load, 'netns', this.loadNamespace];
      const link = ['link', 'add', 'name', server, 'type', 'veth'];
      await run('ip', ['-n', this.serverNamespace, ...link, ...peer]);
    }
  }
}

/** Removes the namespaces of runs that were killed. */
async function removeAbandoned(): Promise<void> {
  const list = await run('ip', ['netns', 'list']);
  for (const [name, pid] of list.matchAll(/^aoe-bench-(\d+)-(server|load)/gm)) {
    if (!existsSync(`/proc/${pid}`)) await run('ip', ['netns', 'del', name]);
  }
}
