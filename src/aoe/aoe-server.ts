/**
 * Serves targets on links: decides on each frame of a batch, hands the work down, and lets
 * responses go up as they complete.
 *
 * A frame's way is one line: ring -> this file -> target -> ATA disk -> block device -> response
 * in the slab -> link. Nothing on it looks back, and nothing on it is allocated for a frame.
 */
import { Limits } from '../core/limits.ts';
import type { RequestPool } from '../core/request-pool.ts';
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
  FRAME_SIZE_MIN,
  isWildcard,
  readMac,
  setAoeError,
  writeResponseHeader,
  writeUnsolicitedHeader,
} from './codec/header.ts';
import { newFrameCounters } from './counters.ts';
import type { Exchange } from './exchange.ts';
import type { TargetTable } from './target-table.ts';

const GROUP_ADDRESS_BIT = 0x01;

export interface AoeServerOptions {
  readonly targets: TargetTable;
  readonly pool: RequestPool<Exchange>;
  /** Initiators that are answered at all; empty for any. */
  readonly allow: ReadonlySet<number>;
}

export class AoeServer {
  readonly counters = newFrameCounters();
  readonly #targets: TargetTable;
  readonly #pool: RequestPool<Exchange>;
  readonly #allow: ReadonlySet<number>;
  readonly #links: Link[] = [];
  /** Targets with work gathered in this batch. */
  readonly #touched: AoeTarget[] = [];

  constructor(options: AoeServerOptions) {
    this.#targets = options.targets;
    this.#pool = options.pool;
    this.#allow = options.allow;
  }

  /** Announces all targets on `link` and serves it until it is closed. */
  async serve(link: Link): Promise<void> {
    this.#links.push(link);
    for (const target of this.#targets) this.#announceOn(link, target);
    for await (const batch of link) this.#handleBatch(link, batch);
    this.#links.splice(this.#links.indexOf(link), 1);
  }

  /** Tells all initiators about a target that is new or has changed. */
  announce(target: AoeTarget): void {
    for (const link of this.#links) this.#announceOn(link, target);
  }

  #handleBatch(link: Link, batch: FrameBatch): void {
    for (let index = 0; index < batch.count; index++) {
      this.#handleFrame(link, batch.offsetOf(index), batch.sizeOf(index), batch.arrivalUsOf(index));
    }
    const touched = this.#touched;
    for (const target of touched) {
      target.touched = false;
      target.device.kick();
    }
    touched.length = 0;
  }

  #handleFrame(link: Link, at: number, size: number, arrivalUs: number): void {
    const frame = link.ringView;
    if (size < Aoe.headerSize) {
      this.counters.malformed++;
      return;
    }
    const source = readMac(frame, at + Aoe.source);
    if (!this.#isAcceptable(link, frame, at, source)) return;
    const address = aoeAddress(frame, at);
    const target = this.#targets.find(address);
    if (target !== undefined) {
      this.#handleRequest(link, target, at, size, source, arrivalUs);
    } else if (isWildcard(address)) {
      this.#handleWildcard(link, address, at, size, source, arrivalUs);
    } else {
      this.counters.notOurs++;
    }
  }

  #isAcceptable(link: Link, frame: DataView, at: number, source: number): boolean {
    const isGroup = (frame.getUint8(at + Aoe.source) & GROUP_ADDRESS_BIT) !== 0;
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

  /** Only questions are answered for a wildcard address; nothing is executed on every disk. */
  #handleWildcard(
    link: Link,
    address: number,
    at: number,
    size: number,
    source: number,
    arrivalUs: number,
  ): void {
    const frame = link.ringView;
    const command = frame.getUint8(at + Aoe.command);
    const asks =
      command === AoeCommand.config || (command === AoeCommand.ata && isIdentify(frame, at, size));
    if (!asks || aoeVersion(frame, at) !== AOE_VERSION) {
      this.counters.notOurs++;
      return;
    }
    for (const target of this.#targets.matching(address)) {
      this.#handleRequest(link, target, at, size, source, arrivalUs);
    }
  }

  #handleRequest(
    link: Link,
    target: AoeTarget,
    at: number,
    size: number,
    source: number,
    arrivalUs: number,
  ): void {
    if (!target.admits(source)) {
      this.counters.denied++;
      return;
    }
    const exchange = this.#take(link, target);
    if (exchange === undefined) return;
    this.counters.requests++;
    const frame = link.ringView;
    exchange.arrivalUs = arrivalUs;
    writeResponseHeader(exchange.view, exchange.frameOffset, frame, at, link.mac, target.address);
    if (aoeVersion(frame, at) !== AOE_VERSION) {
      this.#refuse(exchange, AoeError.unsupportedVersion);
      return;
    }
    switch (frame.getUint8(at + Aoe.command)) {
      case AoeCommand.ata:
        this.#handleAta(exchange, target, at, size, source);
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
    exchange: Exchange,
    target: AoeTarget,
    at: number,
    size: number,
    source: number,
  ): void {
    if (size < Ata.headerSize) {
      this.counters.malformed++;
      exchange.drop();
      return;
    }
    if (target.isReservedAgainst(source) && !isIdentify(exchange.link.ringView, at, size)) {
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
    const exchange = target.inFlight < Limits.requestsPerTarget ? this.#pool.take() : undefined;
    if (exchange === undefined) {
      this.counters.overload++;
      return undefined;
    }
    exchange.begin(link, target);
    return exchange;
  }

  #refuse(exchange: Exchange, error: AoeError): void {
    setAoeError(exchange.view, exchange.frameOffset, error);
    exchange.respond(Aoe.headerSize);
  }

  #announceOn(link: Link, target: AoeTarget): void {
    const exchange = this.#take(link, target);
    if (exchange === undefined) return;
    writeUnsolicitedHeader(exchange.view, exchange.frameOffset, {
      destination: BROADCAST_MAC,
      source: link.mac,
      address: target.address,
      command: AoeCommand.config,
      tag: 0,
    });
    exchange.clearArgument(FRAME_SIZE_MIN);
    target.describe(exchange);
  }
}
