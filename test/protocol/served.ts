import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TomlTable } from 'smol-toml';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { disposeAll, waitUntil } from '../support/tools.ts';
import { FrameClient } from './frame-client.ts';

export const TOOLS = ['ip', 'setpriv', 'sysctl'];
export const MIB = 1 << 20;

/** A target beside those under test: it tells that the server has nothing left to say. */
const FENCE = { shelf: 9, slot: 9, backend: 'memory', memory: { size: MIB } };

/**
 * The real server program, with a link to the test.
 *
 * Its directory lies on a disk, not in memory, so that storage works as it does in earnest.
 */
export class Served implements AsyncDisposable {
  readonly directory: string;
  readonly network: NetworkNamespace;
  readonly client: FrameClient;
  server!: AoeServer;
  #targets: TomlTable[];
  readonly #settings: TomlTable | undefined;

  private constructor(
    directory: string,
    network: NetworkNamespace,
    client: FrameClient,
    targets: TomlTable[],
    settings: TomlTable | undefined,
  ) {
    this.directory = directory;
    this.network = network;
    this.client = client;
    this.#targets = targets;
    this.#settings = settings;
  }

  /** @param settings of the server table, besides what is needed */
  static async start(targets: TomlTable[], mtu = 1500, settings?: TomlTable): Promise<Served> {
    const directory = await mkdtemp('/var/tmp/aoe-protocol-');
    const network = await NetworkNamespace.create();
    const client = await FrameClient.connect({
      namespace: network,
      interfaceName: 'aoe0',
      mtu,
      fence: FENCE,
    });
    const served = new Served(directory, network, client, [...targets, FENCE], settings);
    await served.start();
    return served;
  }

  /** Starts the server again, after it was stopped or killed; with other targets if some are given. */
  async start(targets?: readonly TomlTable[]): Promise<void> {
    if (targets !== undefined) this.#targets = [...targets, FENCE];
    this.server = await AoeServer.start({
      namespace: this.network,
      interfaces: ['aoe0'],
      directory: this.directory,
      targets: this.#targets,
      settings: this.#settings,
    });
    await this.client.settle();
  }

  /** Changes the server's end of the link, and waits until the server has seen it. */
  async changeLink(...settings: string[]): Promise<void> {
    const { log } = this.server;
    const before = log.length;
    await this.network.run('ip', ['link', 'set', 'aoe0', ...settings]);
    const tells = /^interface (is down|is open|changed)/;
    await waitUntil('the server has seen it', () =>
      log.slice(before).some(({ msg }) => tells.test(msg)),
    );
  }

  join(name: string): string {
    return join(this.directory, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await disposeAll(this.server, this.client, this.network);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** An empty disk in memory. */
export function memoryTarget(shelf: number, slot: number, fields: TomlTable = {}): TomlTable {
  return { shelf, slot, backend: 'memory', memory: { size: 8 * MIB }, ...fields };
}
