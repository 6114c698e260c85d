/**
 * A small initiator: sends requests on one link and hands each response to whoever waits for its
 * tag. It knows frames and tags; {@link RemoteTarget} knows commands.
 *
 * Invariants: at most one listener has a tag. A frame in the slab belongs to the link until it was
 * sent. At most `window` exchanges are on their way; the others wait for their turn, in order.
 * After the end, listeners are told and new ones refused.
 */
import assert from 'node:assert';
import { randomInt } from 'node:crypto';
import { Limits } from '../../core/limits.ts';
import { type Pooled, RequestPool, slabBytes, slotOffset } from '../../core/request-pool.ts';
import type { MacAddress } from '../../net/ethernet.ts';
import type { Link, OutgoingFrame } from '../../net/link.ts';
import { PacketLink } from '../../net/packet-link.ts';
import { Aoe } from '../codec/header.ts';
import { responseFilter } from '../frame-filter.ts';
import { NoResponseError } from './errors.ts';
import type { Frame, Route } from './request.ts';
import { AoeResponse } from './response.ts';

/** Linux takes responses with this bit for another program's, and leaves them alone. */
const TAG_USERLAND = 0x8000_0000;
const TAG_COUNT = 0x8000_0000;
/** Room for the responses of many targets at once. */
const RING_BYTES = 4 << 20;

export interface InitiatorOptions {
  readonly interface: string;
  /** Exchanges on their way at once. */
  readonly window?: number;
  /** Longest spin for a response before sleeping, in microseconds. */
  readonly spinUs?: number;
}

export interface ExchangeOptions {
  /** How long to wait for the response to each send. */
  readonly timeoutMs?: number;
  /** How often to send again what found no response. */
  readonly resends?: number;
}

/** Waits for the responses with one tag. */
export interface Listener {
  onResponse(response: AoeResponse): void;
  /** There will be no more: the initiator was closed, or its link failed. */
  onEnd(error: Error): void;
}

class FrameSlot implements OutgoingFrame, Pooled {
  readonly index: number;
  readonly frameOffset: number;
  frameSize = 0;
  readonly #pool: RequestPool<FrameSlot>;

  constructor(index: number, pool: RequestPool<FrameSlot>) {
    this.index = index;
    this.frameOffset = slotOffset(index, Limits.requestSlotBytes);
    this.#pool = pool;
  }

  sent(): void {
    this.#pool.give(this);
  }
}

interface Waiting {
  readonly listener: Listener;
  sentMs: number;
}

export class Initiator implements AsyncDisposable {
  readonly link: Link;
  readonly #slab: Uint8Array;
  readonly #slots: RequestPool<FrameSlot>;
  readonly #listeners = new Map<number, Waiting>();
  readonly #turns: (() => void)[] = [];
  readonly #received: Promise<void>;
  #turnsFree: number;
  #lastTag = randomInt(TAG_COUNT);
  #end: Error | undefined;

  /**
   * Opens an interface for an initiator.
   *
   * @throws {StartupError} the interface cannot be used, with the remedy
   */
  static open({ interface: name, window = 64, spinUs = 0 }: InitiatorOptions): Initiator {
    const slab = new ArrayBuffer(slabBytes(window, Limits.requestSlotBytes));
    const link = new PacketLink({
      interface: name,
      slab,
      queueCount: window,
      spinUs,
      ringBytes: RING_BYTES,
      filter: responseFilter(),
      // Data is copied out of the ring; no device reads or writes it.
      registerMemory: (ring) => ({ bytes: Buffer.from(ring), region: 0 }),
      unregisterMemory: () => {},
    });
    return new Initiator(link, slab, window);
  }

  /**
   * @param link receives responses; it is closed with the initiator
   * @param slab the memory that `link` sends from, with `window` slots
   */
  constructor(link: Link, slab: ArrayBuffer, window: number) {
    this.link = link;
    this.#slab = new Uint8Array(slab);
    this.#slots = new RequestPool(window, (index, pool) => new FrameSlot(index, pool));
    this.#turnsFree = window;
    this.#received = this.#receive();
  }

  /** Makes the header fields of a new request to `address` (shelf * 256 + slot). */
  route(destination: MacAddress, address: number): Route {
    this.#lastTag = (this.#lastTag + 1) % TAG_COUNT;
    const tag = TAG_USERLAND + this.#lastTag;
    return { destination, source: this.link.mac, address, tag };
  }

  /**
   * Sends a frame as it is, and waits for nothing.
   *
   * @returns false when too many frames are queued; the frame is then lost
   */
  send(frame: Uint8Array): boolean {
    assert(frame.length >= Aoe.headerSize && frame.length <= Limits.requestSlotBytes);
    const slot = this.#end === undefined ? this.#slots.take() : undefined;
    if (slot === undefined) return false;
    this.#slab.set(frame, slot.frameOffset);
    slot.frameSize = frame.length;
    const waiting = this.#listeners.get(tagOf(frame));
    if (waiting !== undefined) waiting.sentMs = performance.now();
    this.link.send(slot);
    return true;
  }

  /**
   * Hands all responses with `tag` to `listener`, until the returned function is called. Targets
   * announce themselves with tag 0.
   */
  listen(tag: number, listener: Listener): () => void {
    if (this.#end !== undefined) throw this.#end;
    assert(!this.#listeners.has(tag), `tag ${tag} is in use`);
    this.#listeners.set(tag, { listener, sentMs: 0 });
    return () => this.#listeners.delete(tag);
  }

  /**
   * Sends a request until a response with its tag comes.
   *
   * @throws {NoResponseError} none came to the last send either
   */
  async exchange(frame: Frame, options: ExchangeOptions = {}): Promise<AoeResponse> {
    if (this.#turnsFree > 0) this.#turnsFree--;
    else await new Promise<void>((resolve) => this.#turns.push(resolve));
    try {
      return await this.#exchange(frame, options);
    } finally {
      const next = this.#turns.shift();
      if (next === undefined) this.#turnsFree++;
      else next();
    }
  }

  /** Sends a request once and gathers all responses to it for a while. */
  collect(frame: Frame, durationMs: number): Promise<AoeResponse[]> {
    return new Promise((resolve, reject) => {
      const responses: AoeResponse[] = [];
      const stop = this.listen(tagOf(frame), {
        onResponse: (response) => responses.push(response),
        onEnd: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      const timer = setTimeout(() => {
        stop();
        resolve(responses);
      }, durationMs);
      this.send(frame);
    });
  }

  /** Closes the link. Whoever waits for a response is told. Idempotent. */
  async close(): Promise<void> {
    this.#finish(new Error('the initiator is closed'));
    this.link.close();
    await this.#received;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #exchange(frame: Frame, { timeoutMs = 500, resends = 4 }: ExchangeOptions): Promise<AoeResponse> {
    return new Promise((resolve, reject) => {
      const startMs = performance.now();
      let sendCount = 0;
      let timer: NodeJS.Timeout;
      const stop = this.listen(tagOf(frame), {
        onResponse: (response) => {
          clearTimeout(timer);
          stop();
          resolve(response);
        },
        onEnd: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      const attempt = () => {
        if (sendCount > resends) {
          stop();
          reject(new NoResponseError(sendCount, performance.now() - startMs));
          return;
        }
        sendCount++;
        timer = setTimeout(attempt, timeoutMs);
        this.send(frame);
      };
      attempt();
    });
  }

  async #receive(): Promise<void> {
    for await (const batch of this.link) {
      for (let index = 0; index < batch.count; index++) {
        this.#dispatch(batch.offsetOf(index), batch.sizeOf(index));
      }
    }
    this.#finish(new Error(`the link on ${this.link.name} has ended`));
  }

  #dispatch(at: number, size: number): void {
    if (size < Aoe.headerSize || this.#end !== undefined) return;
    const { ring, ringView } = this.link;
    const waiting = this.#listeners.get(ringView.getUint32(at + Aoe.tag));
    if (waiting === undefined) return;
    const { listener, sentMs } = waiting;
    const bytes = new Uint8Array(size);
    bytes.set(ring.bytes.subarray(at, at + size));
    const roundTripMs = sentMs === 0 ? 0 : performance.now() - sentMs;
    listener.onResponse(new AoeResponse(bytes, roundTripMs));
  }

  #finish(error: Error): void {
    this.#end ??= error;
    for (const { listener } of this.#listeners.values()) listener.onEnd(this.#end);
    this.#listeners.clear();
  }
}

function tagOf(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint32(Aoe.tag);
}
