/**
 * The data path of one thread: memory and I/O, targets, links. It serves its share of the targets
 * and has nothing in common with other threads but the state directory, in which each target has
 * a file of its own: the order of a target's requests needs no lock.
 *
 * Started in order: targets, links. Stopped in reverse: links take no more requests, requests in
 * flight end, devices are closed.
 */
import type { Logger } from 'pino';
import { AoeServer } from './aoe/aoe-server.ts';
import { sectorsPerFrame } from './aoe/ata/ata-disk.ts';
import { Exchange } from './aoe/exchange.ts';
import { requestFilter } from './aoe/frame-filter.ts';
import type { Share } from './aoe/share.ts';
import type { StateStore } from './aoe/state-store.ts';
import { TargetTable } from './aoe/target-table.ts';
import { FileIo } from './backends/file-io.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import type { LogLevel } from './config/schema.ts';
import { Limits } from './core/limits.ts';
import type { Memory } from './core/memory.ts';
import { RequestPool, slabBytes } from './core/request-pool.ts';
import { inSlices } from './core/slices.ts';
import { StartupError } from './core/startup-error.ts';
import { type DropCounts, DropWatch } from './drop-watch.ts';
import { setLogLevel } from './log.ts';
import { native } from './native.ts';
import { formatMacAddress } from './net/ethernet.ts';
import { LinkSupervisor } from './net/link-supervisor.ts';
import { PacketLink } from './net/packet-link.ts';
import { ServedTargets } from './served-targets.ts';
import type { LinkStatus, PartStatus, TargetStatus } from './status.ts';
import { waitWhile } from './wait-while.ts';

export interface DataPathOptions {
  readonly server: ServerConfig;
  /** All targets; those of the share are served. */
  readonly targets: readonly TargetConfig[];
  readonly share: Share;
  readonly state: StateStore;
  readonly log: Logger;
  /** Called when writes to a store wait for room. @returns whether there is some now */
  makeRoom(storePath: string): Promise<boolean>;
  /** Called when the data path cannot go on. */
  onFailed(error: Error): void;
}

export class DataPath {
  readonly targets: ServedTargets;
  readonly #options: DataPathOptions;
  readonly #log: Logger;
  /** Those that get requests. */
  readonly #table = new TargetTable();
  readonly #links: LinkSupervisor<PacketLink>;
  readonly #slab: Memory & { readonly buffer: ArrayBuffer };
  readonly #io = new FileIo(Limits.requestCount + Limits.targetCount);
  readonly #pool: RequestPool<Exchange>;
  readonly #aoe: AoeServer;
  #drops: DropWatch | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: DataPathOptions) {
    const { server, log } = options;
    this.#options = options;
    this.#log = log;
    const buffer = native.allocateSlab(slabBytes(Limits.requestCount, Limits.requestSlotBytes));
    const view = new DataView(buffer);
    this.#slab = { ...this.#io.registerMemory(buffer), buffer };
    this.#pool = new RequestPool(
      Limits.requestCount,
      (index, pool) => new Exchange(index, this.#slab, view, pool),
    );
    this.#aoe = new AoeServer({
      targets: this.#table,
      pool: this.#pool,
      allow: new Set(server.allow),
    });
    this.targets = new ServedTargets({
      table: this.#table,
      share: options.share,
      services: { io: this.#io, state: options.state, server, makeRoom: options.makeRoom },
      log,
      announce: (target) => this.#aoe.announce(target),
    });
    this.#links = new LinkSupervisor({
      interfaces: server.interfaces,
      open: (name) => this.#openLink(name),
      use: (link) => this.#serve(link),
      onConnected: (link) => this.#aoe.announceOn(link),
      log,
    });
  }

  /** @throws {StartupError} with a remedy; call {@link close} then, too */
  async start(): Promise<void> {
    await this.targets.open(this.#options.targets);
    await this.targets.remember();
    await this.targets.serve([]);
    this.#log.debug({ targets: this.#table.count, io: this.#io.engine }, 'targets are open');
    this.#links.start();
    this.#drops = new DropWatch(() => this.#countDrops(), this.#log);
  }

  async keepCapabilities(): Promise<void> {
    native.keepCapabilities();
  }

  async reduceCapabilities(): Promise<void> {
    native.reduceCapabilities();
  }

  async status(): Promise<PartStatus> {
    const targets: TargetStatus[] = [];
    for await (const slice of inSlices(this.targets.status())) targets.push(...slice);
    return {
      inFlight: this.#pool.inFlight,
      inFlightMax: this.#pool.capacity,
      frames: { ...this.#aoe.counters },
      links: this.#options.server.interfaces.map((name) => this.#linkStatus(name)),
      targets,
    };
  }

  /** Tells all initiators about all targets. */
  async announce(): Promise<void> {
    for (const target of this.#table) this.#aoe.announce(target);
  }

  async setLogLevel(level: LogLevel): Promise<void> {
    setLogLevel(this.#log, level);
  }

  /** Takes no more requests, ends those in flight, makes all writes durable. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #openLink(name: string): PacketLink {
    const link = new PacketLink({
      interface: name,
      slab: this.#slab.buffer,
      queueCount: Limits.requestCount,
      spinUs: this.#options.server.spinUs,
      ringBytes: Limits.receiveRingBytes,
      filter: requestFilter(this.#options.share),
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
    this.#aoe.serve(link).catch((error: Error) => this.#options.onFailed(error));
  }

  #linkStatus(name: string): LinkStatus {
    const link = this.#links.links.find((open) => open.name === name);
    if (link === undefined) return { interface: name, mac: null, mtu: null, counters: null };
    const { mac, mtu } = link;
    return { interface: name, mac: formatMacAddress(mac), mtu, counters: link.counters() };
  }

  async #close(): Promise<void> {
    this.#drops?.close();
    this.#links.stopReceiving();
    const drained = await waitWhile(() => this.#pool.inFlight > 0 || this.targets.isFlushing);
    this.#links.close();
    if (drained) {
      this.#io.close();
      await this.targets.closeAll();
      return;
    }
    this.#io.abandon();
    // All the others can be closed, and so made durable, nevertheless.
    await this.targets.closeAll().catch((error: Error) => this.#log.error(error, 'while stopping'));
    throw new Error('requests in flight were abandoned, unanswered');
  }

  #countDrops(): DropCounts {
    const { overload, tooOld } = this.#aoe.counters;
    const links = this.#links.links.map((link) => link.counters());
    const total = (name: 'dropped' | 'truncated' | 'unsent') =>
      links.reduce((sum, counters) => sum + counters[name], 0);
    return {
      overload,
      tooOld,
      ringFull: total('dropped'),
      tooLong: total('truncated'),
      unsent: total('unsent'),
    };
  }
}
