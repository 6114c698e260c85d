/** What a whole server does with a store in a blob store, over real frames, as tests. */
import { readFile, rm } from 'node:fs/promises';
import { createServer, connect as dial } from 'node:net';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TomlTable } from 'smol-toml';
import { expect, it } from 'vitest';
import { MIB, Setup, TOOLS, UNHARMED } from '../../../faults/setup.ts';
import { AoeServer } from '../../../support/server.ts';
import { describeWith, waitUntil } from '../../../support/tools.ts';

const PROGRAM = resolve(import.meta.dirname, '../../../../dist/cli/main.js');

/** How a server is told of a service on the loopback. */
export interface ServiceSettings {
  readonly endpoint: string;
  /** Other keys of `blob_store`. */
  readonly keys: TomlTable;
  /** Its credentials. */
  readonly environment: Readonly<Record<string, string>>;
}

/** @param serviceOf gives the service, once it is there */
export function testWholeServer(serviceOf: () => ServiceSettings): void {
  describeWith(TOOLS, 'under a whole server', () => {
    it('loses no acknowledged write when server and disk are lost', async () => {
      await using setup = await Setup.create();
      const server = await RemoteServer.create(setup, serviceOf());
      await server.start();
      const journal = ['-j', setup.join('journal')];
      const options = ['-t', 4, '-m', 51, '-T', 100, '-q', 24, '-g', 60];
      const load = setup.verify('1.0', ...journal, ...options);
      await sleep(1500);
      await server.loseAll();
      await server.start();
      const report = await load;
      expect(report).toMatchObject(UNHARMED);
      await expect(server.startRival()).rejects.toThrow('is in use by the server on');

      // What commands do reaches the blobs, too.
      await server.expectAllVerified();
      await setup.server.stop();
      await server.expectAllVerified();
      await server.command('collect');
      expect(await server.command('fsck', '--remote')).toMatch(/blob store: \d+ entries/);
      await server.loseAll();
      await server.start();
      expect(await setup.verify('1.0', ...journal, '-c')).toMatchObject(UNHARMED);
    }, 120_000);
  });
}

/** A server whose store is in a blob store; its network reaches the service by a socket in the file system. */
class RemoteServer {
  readonly #setup: Setup;
  readonly #service: ServiceSettings;
  readonly #runner: readonly string[];
  #takeOver: string | undefined;

  private constructor(setup: Setup, service: ServiceSettings) {
    this.#setup = setup;
    this.#service = service;
    const settings = Object.entries(service.environment).map(([key, value]) => `${key}=${value}`);
    this.#runner = ['env', ...settings, process.execPath];
  }

  static async create(setup: Setup, service: ServiceSettings): Promise<RemoteServer> {
    const path = setup.join('service.sock');
    const { port } = new URL(service.endpoint);
    const outer = createServer((socket) => {
      const upstream = dial(Number(port), '127.0.0.1');
      socket.pipe(upstream).pipe(socket);
      for (const end of [socket, upstream]) end.on('error', () => socket.destroy());
    });
    await new Promise<void>((done) => outer.listen(path, done));
    setup.own({
      [Symbol.asyncDispose]: () => new Promise<void>((done) => outer.close(() => done())),
    });
    const inner = `require('net').createServer((a) => {
      const b = require('net').connect(${JSON.stringify(path)});
      a.pipe(b).pipe(a);
      for (const end of [a, b]) end.on('error', () => { a.destroy(); b.destroy(); });
    }).listen(${port}, '127.0.0.1', () => console.log('ready'))`;
    const child = setup.serverNetwork.spawn(process.execPath, ['-e', inner], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let isReady = false;
    child.stdout?.on('data', () => {
      isReady = true;
    });
    await waitUntil('the way to the service', () => isReady);
    return new RemoteServer(setup, service);
  }

  async start(): Promise<void> {
    await this.#setup.start([this.#target(1, 'store')], { runner: this.#runner });
  }

  /** A second server with the same blobs, another target and a directory of its own. */
  async startRival(): Promise<void> {
    const rival = await AoeServer.start({
      namespace: this.#setup.serverNetwork,
      interfaces: this.#setup.serverInterfaces,
      directory: this.#setup.join('rival'),
      targets: [this.#target(2, 'store')],
      runner: this.#runner,
    });
    await rival.stop();
  }

  /** Ends the server as a crash does, and takes its store away. */
  async loseAll(): Promise<void> {
    await this.#setup.server.kill();
    const owner = await readFile(this.#setup.join('store', 'owner'), 'utf8');
    this.#takeOver = (JSON.parse(owner) as { id: string }).id;
    await rm(this.#setup.join('store'), { recursive: true });
  }

  /** Runs a command on the store, which has to find its blobs by itself. @returns what it says */
  async command(name: string, ...options: string[]): Promise<string> {
    const [command = '', ...args] = [...this.#runner, PROGRAM, 'cas', name];
    const store = this.#setup.join('store');
    return await this.#setup.serverNetwork.run(command, [...args, store, ...options]);
  }

  async expectAllVerified(): Promise<void> {
    const { blobStore } = JSON.parse(await this.command('scrub', '--remote', '--json'));
    expect(blobStore.damage).toEqual([]);
    expect(blobStore.verifiedBytes).toBeGreaterThan(0);
  }

  #target(shelf: number, path: string): TomlTable {
    const takeOver = this.#takeOver;
    const { endpoint, keys } = this.#service;
    return {
      shelf,
      slot: 0,
      backend: 'cas',
      cas: {
        size: 8 * MIB,
        blob_store: {
          ...{ ...keys, path, endpoint, prefix: 'server/' },
          ...{ durability: 'remote', cache_size: 64 * MIB },
          ...(takeOver !== undefined && { take_over: takeOver }),
        },
      },
    };
  }
}
