/**
 * The data path of one thread: memory and I/O, targets, links. It serves its share of the targets
 * and has nothing in common with other threads but the state directory, in which each target has
 * a file of its own: the order of a target's requests needs no lock.
 *
 * Started in order: targets, links. Stopped in reverse: links take no more requests, requests in
 * flight end, devices are closed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { AoeServer } from './aoe/aoe-server.ts';
import { sectorsPerFrame } from './aoe/ata/ata-disk.ts';
import { Exchange } from './aoe/exchange.ts';
import { requestFilter } from './aoe/frame-filter.ts';
import { addressOf, type Share, takes } from './aoe/share.ts';
import type { StateStore } from './aoe/state-store.ts';
import type { ListChange } from './aoe/target-state.ts';
import { TargetTable } from './aoe/target-table.ts';
import { FileIo } from './backends/file-io.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import type { LogLevel } from './config/schema.ts';
import { Limits } from './core/limits.ts';
import type { Memory } from './core/memory.ts';
import { RequestPool, slabBytes } from './core/request-pool.ts';
import { StartupError } from './core/startup-error.ts';
import { type DropCounts, DropWatch } from './drop-watch.ts';
import { setLogLevel } from './log.ts';
import { native } from './native.ts';
import { formatMacAddress } from './net/ethernet.ts';
import { LinkSupervisor } from './net/link-supervisor.ts';
import { PacketLink } from './net/packet-link.ts';
import { type OpenedTarget, openTarget } from './open-target.ts';
import type { LinkStatus, PartStatus } from './status.ts';

/** How long a stop waits for requests in flight: storage that hangs must not hang the stop. */
const DRAIN_MS_MAX = 10_000;
const DRAIN_POLL_MS = 5;

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

interface ServedTarget extends OpenedTarget {
  readonly flushIndex: number;
}

export class DataPath {
  readonly #options: DataPathOptions;
  readonly #log: Logger;
  readonly #targets = new TargetTable();
  /** Open, and not served yet. */
  readonly #prepared: ServedTarget[] = [];
  /** Those that are served, by address. */
  readonly #opened = new Map<number, ServedTarget>();
  /** Request indexes for targets' own flushes that no target has; after those of requests. */
  readonly #flushIndexes = Array.from(
    { length: Limits.targetCount },
    (_, index) => Limits.requestCount + index,
  );
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
      targets: this.#targets,
      pool: this.#pool,
      allow: new Set(server.allow),
    });
    this.#links = new LinkSupervisor({
      interfaces: server.interfaces,
      open: (name) => this.#openLink(name),
      use: (link) => this.#serve(link),
      log,
    });
  }

  /** @throws {StartupError} with a remedy; call {@link close} then, too */
  async start(): Promise<void> {
    await this.openTargets(this.#options.targets);
    await this.serveTargets();
    this.#log.debug({ targets: this.#targets.count, io: this.#io.engine }, 'targets are open');
    this.#links.start();
    this.#drops = new DropWatch(() => this.#countDrops(), this.#log);
  }

  /**
   * Opens those of `configs` that belong to the share. They wait for {@link serveTargets}.
   *
   * @throws {StartupError} one cannot be opened; call {@link discardTargets} then
   */
  async openTargets(configs: readonly TargetConfig[]): Promise<void> {
    for (const config of configs) {
      if (takes(this.#options.share, addressOf(config)))
        this.#prepared.push(await this.#open(config));
    }
  }

  /** Serves and announces what was opened. */
  async serveTargets(): Promise<void> {
    for (const opened of this.#prepared.splice(0)) {
      this.#targets.add(opened.target);
      this.#opened.set(opened.target.address, opened);
      this.#aoe.announce(opened.target);
    }
  }

  /** Closes what was opened and shall not be served. */
  async discardTargets(): Promise<void> {
    const prepared = this.#prepared.splice(0);
    const released = await Promise.allSettled(prepared.map((opened) => this.#release(opened)));
    for (const result of released) {
      if (result.status === 'rejected') this.#log.error(result.reason, 'cannot close a new target');
    }
  }

  /**
   * Takes no more requests for targets at `addresses`, ends those in flight, and closes them.
   *
   * @returns addresses of those that could not be closed: their storage may still be at work
   */
  async removeTargets(addresses: readonly number[]): Promise<number[]> {
    const removed = addresses.flatMap((address) => this.#opened.get(address) ?? []);
    for (const { target } of removed) {
      this.#opened.delete(target.address);
      this.#targets.remove(target.address);
    }
    const closed = await Promise.all(removed.map((opened) => this.#retire(opened)));
    return removed.filter((_, index) => !closed[index]).map(({ target }) => target.address);
  }

  /** Takes no more requests for a target until {@link resumeTarget}, and ends those in flight. */
  async pauseTarget(address: number): Promise<void> {
    const target = this.#targets.remove(address);
    if (target === undefined || (await waitWhile(() => target.inFlight > 0))) return;
    throw new StartupError(`the storage of ${target.name} hangs`, 'see the log of the server');
  }

  /** Serves and announces a target again. */
  async resumeTarget(address: number): Promise<void> {
    const target = this.#opened.get(address)?.target;
    if (target === undefined) return;
    this.#targets.add(target);
    this.#aoe.announce(target);
  }

  async keepCapabilities(): Promise<void> {
    native.keepCapabilities();
  }

  async reduceCapabilities(): Promise<void> {
    native.reduceCapabilities();
  }

  async status(): Promise<PartStatus> {
    return {
      inFlight: this.#pool.inFlight,
      inFlightMax: this.#pool.capacity,
      frames: { ...this.#aoe.counters },
      links: this.#options.server.interfaces.map((name) => this.#linkStatus(name)),
      targets: Array.from(this.#opened.values(), (opened) => opened.status()),
    };
  }

  /** Tells all initiators about all targets. */
  async announce(): Promise<void> {
    for (const target of this.#targets) this.#aoe.announce(target);
  }

  /** Replaces lists of the target with this address, durably. @returns false when it is gone */
  async setLists(address: number, lists: ListChange): Promise<boolean> {
    const target = this.#targets.find(address);
    await target?.setLists(lists);
    return target !== undefined;
  }

  async setLogLevel(level: LogLevel): Promise<void> {
    setLogLevel(this.#log, level);
  }

  /** Takes no more requests, ends those in flight, makes all writes durable. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #open(config: TargetConfig): Promise<ServedTarget> {
    const { server, state, makeRoom } = this.#options;
    const flushIndex = this.#flushIndexes.pop();
    if (flushIndex === undefined) {
      throw new StartupError(`there is no room for ${config.name}`, 'remove other targets first');
    }
    try {
      const opened = await openTarget(config, {
        io: this.#io,
        state,
        server,
        flushIndex,
        makeRoom,
        log: this.#log.child({ target: config.name }),
        announce: (grown) => this.#aoe.announce(grown),
      });
      return { ...opened, flushIndex };
    } catch (error) {
      this.#flushIndexes.push(flushIndex);
      throw error;
    }
  }

  /**
   * Closes a target that gets no more requests. One whose storage hangs is left alone.
   *
   * @returns whether it is closed
   */
  async #retire(opened: ServedTarget): Promise<boolean> {
    const { target } = opened;
    try {
      if (!(await waitWhile(() => target.inFlight > 0))) throw new Error('its storage hangs');
      await this.#release(opened);
      return true;
    } catch (error) {
      // It is gone for initiators all the same; there is no way back.
      this.#log.error(error, `${target.name} was removed, but could not be closed`);
      return false;
    }
  }

  async #release({ target, flushIndex }: ServedTarget): Promise<void> {
    await target.close();
    this.#flushIndexes.push(flushIndex);
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
    const drained = await waitWhile(() => this.#pool.inFlight > 0);
    this.#links.close();
    if (!drained) {
      this.#io.abandon();
      throw new Error('storage hangs: requests in flight were abandoned');
    }
    await this.discardTargets();
    this.#io.close();
    const closed = await Promise.allSettled([...this.#targets].map((target) => target.close()));
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
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

/** @returns false when requests are still in flight after a while */
async function waitWhile(isBusy: () => boolean): Promise<boolean> {
  const end = Date.now() + DRAIN_MS_MAX;
  while (isBusy() && Date.now() < end) await sleep(DRAIN_POLL_MS);
  return !isBusy();
}
