/**
 * Composition root: from a checked configuration to a serving server, and back down.
 *
 * Started in order: state, memory and I/O, targets, links. Stopped in reverse: links take no more
 * requests, requests in flight end, written data is flushed, devices are closed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { AoeServer } from './aoe/aoe-server.ts';
import { sectorsPerFrame } from './aoe/ata/ata-disk.ts';
import { REQUEST_MATCH } from './aoe/codec/header.ts';
import { Exchange } from './aoe/exchange.ts';
import { RivalWatch, refuseRivals } from './aoe/rival-watch.ts';
import { StateStore } from './aoe/state-store.ts';
import { TargetTable } from './aoe/target-table.ts';
import { FileIo } from './backends/file-io.ts';
import type { Config } from './config/config.ts';
import { Limits } from './core/limits.ts';
import type { Memory } from './core/memory.ts';
import { RequestPool, slabBytes } from './core/request-pool.ts';
import { StartupError } from './core/startup-error.ts';
import { native } from './native.ts';
import { LinkSupervisor } from './net/link-supervisor.ts';
import { PacketLink } from './net/packet-link.ts';
import { openTarget } from './open-target.ts';

export interface RunningServer {
  /** Takes no more requests, ends those in flight, makes all writes durable. Idempotent. */
  close(): Promise<void>;
  /** Resolves when the server cannot go on. */
  readonly failed: Promise<Error>;
}

/** How long a stop waits for requests in flight: storage that hangs must not hang the stop. */
const DRAIN_MS_MAX = 10_000;
const DRAIN_POLL_MS = 5;

/**
 * Opens everything that `config` names and serves it.
 *
 * @throws {StartupError} with a remedy; everything opened so far is closed again
 */
export async function startServer(config: Config, log: Logger): Promise<RunningServer> {
  const server = new Server(config, log);
  try {
    await server.start();
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

class Server implements RunningServer {
  readonly failed: Promise<Error>;
  readonly #config: Config;
  readonly #log: Logger;
  readonly #targets = new TargetTable();
  readonly #links: LinkSupervisor<PacketLink>;
  readonly #slab: Memory & { readonly buffer: ArrayBuffer };
  readonly #io = new FileIo(Limits.requestCount + Limits.targetCount);
  readonly #pool: RequestPool<Exchange>;
  readonly #aoe: AoeServer;
  #state: StateStore | undefined;
  #rivals: RivalWatch | undefined;
  #fail: (error: Error) => void = () => {};
  #closing: Promise<void> | undefined;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    const buffer = native.allocateSlab(slabBytes(Limits.requestCount, Limits.requestSlotBytes));
    const view = new DataView(buffer);
    this.#slab = { ...this.#io.registerMemory(buffer), buffer };
    this.#pool = new RequestPool(
      Limits.requestCount,
      (index, pool) => new Exchange(index, this.#slab, view, pool),
    );
    this.#aoe = new AoeServer({
      targets: this.#targets,
      pool: this.#pool,
      allow: new Set(config.server.allow),
    });
    this.#links = new LinkSupervisor({
      interfaces: config.server.interfaces,
      open: (name) => this.#openLink(name),
      use: (link) => this.#serve(link),
      log,
    });
  }

  async start(): Promise<void> {
    const { server, targets } = this.#config;
    this.#state = await StateStore.open(server.stateDir, native.lockFile);
    for (const config of targets) {
      const target = await openTarget(config, {
        io: this.#io,
        state: this.#state,
        server,
        // The requests' indexes come first, then one for each target's own flush.
        flushIndex: Limits.requestCount + this.#targets.count,
        log: this.#log.child({ target: config.name }),
        announce: (grown) => this.#aoe.announce(grown),
      });
      this.#targets.add(target);
    }
    await refuseRivals(this.#targets, server.interfaces);
    this.#links.start();
    this.#rivals = new RivalWatch(this.#targets, () => this.#links.links, this.#log);
    this.#log.info({ targets: this.#targets.count, io: this.#io.engine }, 'serving');
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #openLink(name: string): PacketLink {
    const link = new PacketLink({
      interface: name,
      slab: this.#slab.buffer,
      queueCount: Limits.requestCount,
      spinUs: this.#config.server.spinUs,
      ringBytes: Limits.receiveRingBytes,
      matches: [REQUEST_MATCH],
      registerMemory: (ring) => this.#io.registerMemory(ring),
      unregisterMemory: (ring) => this.#io.unregisterMemory(ring),
    });
    if (sectorsPerFrame(link.mtu) > 0) return link;
    link.close();
    throw new StartupError(
      `interface ${name} has an MTU of ${link.mtu}, too small for one sector`,
      `raise it: ip link set ${name} mtu 1500`,
    );
  }

  #serve(link: PacketLink): void {
    this.#log.info({ interface: link.name, mtu: link.mtu }, 'interface is open');
    this.#aoe.serve(link).catch((error: Error) => this.#fail(error));
  }

  async #close(): Promise<void> {
    this.#rivals?.close();
    this.#links.stopReceiving();
    await this.#drain();
    this.#links.close();
    this.#io.close();
    for (const target of this.#targets) await target.close();
    await this.#state?.close();
  }

  async #drain(): Promise<void> {
    const end = Date.now() + DRAIN_MS_MAX;
    while (this.#pool.inFlight > 0 && Date.now() < end) await sleep(DRAIN_POLL_MS);
    if (this.#pool.inFlight === 0) return;
    this.#log.error({ inFlight: this.#pool.inFlight }, 'storage hangs, requests are abandoned');
  }
}
