/**
 * One request of an initiator and the response to it: a block request with a slot of the slab,
 * in which the response frame is built.
 *
 * Invariants: an exchange is out of its pool from the frame's arrival until the response has
 * left or the frame was dropped. The slot's headers lie just before the data; see `slotOffset`.
 * Each byte of a response is written by this exchange: nothing of an earlier one leaks.
 */
import { BlockOp, BlockRequest, type Completer } from '../core/block-device.ts';
import type { Histogram } from '../core/histogram.ts';
import { Limits } from '../core/limits.ts';
import type { Memory } from '../core/memory.ts';
import { type RequestPool, slotOffset } from '../core/request-pool.ts';
import type { Link, OutgoingFrame } from '../net/link.ts';
import { Ata } from './codec/ata.ts';
import { Aoe, FRAME_SIZE_MIN } from './codec/header.ts';

/** Who keeps count of exchanges in flight, and of the time they take: a target. */
export interface ExchangeOwner {
  inFlight: number;
  /** When the last request arrived that reached the device; microseconds since the epoch. */
  lastAccessUs: number;
  /** Microseconds from a request's arrival until its response was sent, by {@link BlockOp}. */
  readonly latencies: readonly Histogram[];
}

/** Narrows a request to its next part; false when none is left. */
export type PartMaker = (exchange: Exchange) => boolean;

const noParts: PartMaker = () => false;

export class Exchange extends BlockRequest implements OutgoingFrame {
  readonly frameOffset: number;
  frameSize = 0;
  /** The whole slab; the response starts at {@link frameOffset}. */
  readonly view: DataView;
  readonly #pool: RequestPool<Exchange>;
  #link: Link | undefined;
  #owner: ExchangeOwner | undefined;
  /** Has the command come to the device? {@link op} is then its own. */
  #accesses = false;
  /** The ATA command being executed. */
  opcode = 0;
  /** Data bytes that the response will carry. */
  responseDataBytes = 0;
  /** What a request of several parts has still to do; its {@link PartMaker} knows the unit. */
  nextStep = 0;
  endStep = 0;
  #partMaker: PartMaker = noParts;

  constructor(index: number, slab: Memory, view: DataView, pool: RequestPool<Exchange>) {
    const dataOffset = slotOffset(index, Limits.requestSlotBytes);
    super(index, slab, dataOffset);
    this.frameOffset = dataOffset - Ata.headerSize;
    this.view = view;
    this.#pool = pool;
  }

  /** Begins an exchange on `link` for `owner`. */
  begin(link: Link, owner: ExchangeOwner): void {
    this.#link = link;
    this.#owner = owner;
    this.#accesses = false;
    owner.inFlight++;
  }

  /** The link that the request came in on, and that the response leaves on. */
  get link(): Link {
    return this.#link as Link;
  }

  /** Prepares a block request whose data is in this slot. */
  prepare(op: BlockOp, offset: number, length: number, completer: Completer): void {
    this.#accesses = true;
    this.#partMaker = noParts;
    this.op = op;
    this.offset = offset;
    this.length = length;
    this.data = this.stash;
    this.dataOffset = this.stashOffset;
    this.completer = completer;
  }

  /** Prepares a write of data that lies in the receive ring. */
  prepareWrite(offset: number, length: number, dataOffset: number, completer: Completer): void {
    this.prepare(BlockOp.write, offset, length, completer);
    this.data = this.link.ring;
    this.dataOffset = dataOffset;
  }

  /** Makes a prepared request one of several parts, {@link nextStep} to {@link endStep}. */
  divide(partMaker: PartMaker): void {
    this.#partMaker = partMaker;
  }

  override nextPart(): boolean {
    return this.#partMaker(this);
  }

  /** Zeroes the response after its common header, up to `size` bytes of the frame. */
  clearArgument(size: number): void {
    const { bytes } = this.stash;
    bytes.fill(0, this.frameOffset + Aoe.headerSize, this.frameOffset + size);
  }

  /** Sends the response: `size` bytes are written, padding is added here. */
  respond(size: number): void {
    for (let at = size; at < FRAME_SIZE_MIN; at += 4) this.view.setUint32(this.frameOffset + at, 0);
    this.frameSize = Math.max(size, FRAME_SIZE_MIN);
    this.link.send(this);
  }

  /** Ends the exchange without a response. */
  drop(): void {
    (this.#owner as ExchangeOwner).inFlight--;
    this.#owner = undefined;
    this.#link = undefined;
    this.#pool.give(this);
  }

  /** The response has left, or was given up. */
  sent(sentUs: number): void {
    if (sentUs > 0 && this.#accesses) {
      const owner = this.#owner as ExchangeOwner;
      owner.lastAccessUs = this.arrivalUs;
      (owner.latencies[this.op] as Histogram).record(sentUs - this.arrivalUs);
    }
    this.drop();
  }
}
