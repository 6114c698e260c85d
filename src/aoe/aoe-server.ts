/**
 * Serves targets on links: decides on each frame of a batch, hands the work down, and lets
 * responses go up as they complete.
 *
 * A frame's way is one line: ring -> this file -> target -> ATA disk -> block device -> response
 * in the slab -> link. Nothing on it looks back, and nothing on it is allocated for a frame.
 */
import { Limits } from '../core/limits.ts';
import type { RequestPool } from '../core/request-pool.ts';
import { ReusedList } from '../core/reused-list.ts';
import { BROADCAST_MAC } from '../net/ethernet.ts';
import type { FrameBatch, Link } from '../net/link.ts';
import type { AoeTarget } from './aoe-target.ts';
import { Ata, isIdentify } from './codec/ata.ts';
import {
  AOE_VERSION,
  Aoe,
  AoeCommand,
  AoeError,
  aoeAddress,
  aoeVersion,
  isWildcard,
  readMac,
  setAoeError,
  writeResponseHeader,
  writeUnsolicitedHeader,
} from './codec/header.ts';
import { FrameCounters } from './counters.ts';
import type { Exchange } from './exchange.ts';
import type { TargetTable } from './target-table.ts';

const GROUP_ADDRESS_BIT = 0x01;

export interface AoeServerOptions {
  readonly targets: TargetTable;
  readonly pool: RequestPool<Exchange>;
  /** Initiators that are answered at all; empty for any. */
  readonly allow: ReadonlySet<number>;
}

/** The frame that is being decided on: one object, filled anew for each. */
class IncomingFrame {
  link!: Link;
  /** The whole receive ring; the frame is at `at`. */
  view!: DataView;
  at = 0;
  size = 0;
  source = 0;
  arrivalUs = 0;

  fill(link: Link, batch: FrameBatch, index: number): void {
    this.link = link;
    this.view = link.ringView;
    this.at = batch.offsetOf(index);
    this.size = batch.sizeOf(index);
    this.arrivalUs = batch.arrivalUsOf(index);
  }
}

export class AoeServer {
  readonly counters = new FrameCounters();
  readonly #targets: TargetTable;
  readonly #pool: RequestPool<Exchange>;
  readonly #allow: ReadonlySet<number>;
  readonly #links: Link[] = [];
  readonly #frame = new IncomingFrame();
  /** Targets with work gathered in this batch. */
  readonly #touched = new ReusedList<AoeTarget>();

  constructor(options: AoeServerOptions) {
    this.#targets = options.targets;
    this.#pool = options.pool;
    this.#allow = options.allow;
  }

  /** Announces all targets on `link` and serves it until it is closed. */
  async serve(link: Link): Promise<void> {
    this.#links.push(link);
    this.announceOn(link);
    for await (const batch of link) this.#handleBatch(link, batch);
    this.#links.splice(this.#links.indexOf(link), 1);
  }

  /** Tells all initiators that `link` reaches about all targets. */
  announceOn(link: Link): void {
    for (const target of this.#targets) this.#announce(link, target);
  }

  /** Tells all initiators about a target that is new or has changed. */
  announce(target: AoeTarget): void {
    for (const link of this.#links) this.#announce(link, target);
  }

  #handleBatch(link: Link, batch: FrameBatch): void {
    const frame = this.#frame;
    const nowMs = Date.now();
    const oldestUs = (nowMs - Limits.frameAgeMsMax) * 1000;
    // What seems to come later still was received before the clock was set back: it would pass for
    // newer than what has overtaken it since.
    const newestUs = (nowMs + 1) * 1000;
    for (let index = 0; index < batch.count; index++) {
      frame.fill(link, batch, index);
      // It has been resent since, and the initiator may have gone on: it must not be executed.
      if (frame.arrivalUs < oldestUs || frame.arrivalUs > newestUs) this.counters.tooOld++;
      else this.#handleFrame(frame);
    }
    for (let index = 0; index < this.#touched.count; index++) {
      const target = this.#touched.at(index);
      target.touched = false;
      target.device.kick();
    }
    this.#touched.clear();
  }

  #handleFrame(frame: IncomingFrame): void {
    if (frame.size < Aoe.headerSize) {
      this.counters.malformed++;
      return;
    }
    frame.source = readMac(frame.view, frame.at + Aoe.source);
    if (!this.#isAcceptable(frame)) return;
    const address = aoeAddress(frame.view, frame.at);
    const target = this.#targets.find(address);
    if (target !== undefined) this.#handleRequest(frame, target);
    else if (isWildcard(address)) this.#handleWildcard(frame, address);
    else this.counters.notOurs++;
  }

  #isAcceptable({ link, view, at, source }: IncomingFrame): boolean {
    const isGroup = (view.getUint8(at + Aoe.source) & GROUP_ADDRESS_BIT) !== 0;
    const isOurs = source === link.mac || source === 0;
    // On the loopback interface every address is zero, the initiator's as well.
    if (isGroup || (isOurs && !link.loopback)) {
      this.counters.badSource++;
      return false;
    }
    if (this.#allow.size > 0 && !this.#allow.has(source)) {
      this.counters.denied++;
      return false;
    }
    return true;
  }

  /**
   * For a wildcard address who one is can be asked, and a config string set. Nothing is executed on
   * every disk, and nobody is locked out of it.
   */
  #handleWildcard(frame: IncomingFrame, address: number): void {
    const { view, at, size } = frame;
    const command = view.getUint8(at + Aoe.command);
    const asks =
      command === AoeCommand.config || (command === AoeCommand.ata && isIdentify(view, at, size));
    if (!asks || aoeVersion(view, at) !== AOE_VERSION) {
      this.counters.notOurs++;
      return;
    }
    for (const target of this.#targets.matching(address)) this.#handleRequest(frame, target);
  }

  #handleRequest(frame: IncomingFrame, target: AoeTarget): void {
    const { link, view, at, size } = frame;
    if (!target.admits(frame.source)) {
      this.counters.denied++;
      return;
    }
    const exchange = this.#take(link, target);
    if (exchange === undefined) return;
    this.counters.requests++;
    target.clients.note(frame.source, frame.arrivalUs);
    exchange.arrivalUs = frame.arrivalUs;
    writeResponseHeader(exchange.view, exchange.frameOffset, view, at, link.mac, target.address);
    if (aoeVersion(view, at) !== AOE_VERSION) {
      this.#refuse(exchange, AoeError.unsupportedVersion);
      return;
    }
    switch (view.getUint8(at + Aoe.command)) {
      case AoeCommand.ata:
        this.#handleAta(frame, target, exchange);
        break;
      case AoeCommand.config:
      case AoeCommand.macMask:
      case AoeCommand.reserve:
        target.control(exchange, at, size);
        break;
      default:
        this.#refuse(exchange, AoeError.badCommand);
    }
  }

  #handleAta(
    { view, at, size, source }: IncomingFrame,
    target: AoeTarget,
    exchange: Exchange,
  ): void {
    if (size < Ata.headerSize) {
      this.counters.malformed++;
      exchange.drop();
      return;
    }
    if (target.isReservedAgainst(source) && !isIdentify(view, at, size)) {
      target.refuseReserved(exchange);
      return;
    }
    target.disk.execute(exchange, at, size);
    if (target.touched) return;
    target.touched = true;
    this.#touched.push(target);
  }

  /** Takes an exchange, if the bounds on requests in flight allow it. */
  #take(link: Link, target: AoeTarget): Exchange | undefined {
    if (!this.#hasRoom(target)) {
      // Of answers to one question, or announcements, there may be more than exchanges.
      for (const open of this.#links) open.flush();
    }
    const exchange = this.#hasRoom(target) ? this.#pool.take() : undefined;
    if (exchange === undefined) {
      this.counters.overload++;
      return undefined;
    }
    exchange.begin(link, target);
    return exchange;
  }

  #hasRoom(target: AoeTarget): boolean {
    const { freeCount } = this.#pool;
    const most = Math.min(Limits.requestsPerTarget, Limits.requestsPerFreeOne * freeCount);
    return target.inFlight < most;
  }

  #refuse(exchange: Exchange, error: AoeError): void {
    setAoeError(exchange.view, exchange.frameOffset, error);
    exchange.respond(Aoe.headerSize);
  }

  #announce(link: Link, target: AoeTarget): void {
    const exchange = this.#take(link, target);
    if (exchange === undefined) return;
    writeUnsolicitedHeader(exchange.view, exchange.frameOffset, {
      destination: BROADCAST_MAC,
      source: link.mac,
      address: target.address,
      command: AoeCommand.config,
      tag: 0,
    });
    target.describe(exchange);
  }
}
