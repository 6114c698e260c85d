import type { Memory } from '../../src/core/memory.ts';
import type { FrameBatch, Link, LinkCounters, OutgoingFrame } from '../../src/net/link.ts';
import { FOREIGN_BYTE } from './frames.ts';

const RING_BYTES = 1 << 20;
/** Frames lie at odd places of the ring, and something else lies around them. */
const FRAME_GAP_BYTES = 18;

export interface FakeLinkOptions {
  readonly mac: number;
  readonly mtu: number;
  readonly loopback?: boolean;
  /** Memory that outgoing frames lie in. */
  readonly slab: ArrayBuffer;
  registerMemory(ring: ArrayBuffer): Memory;
}

interface Arrival {
  readonly offset: number;
  readonly size: number;
  readonly arrivalUs: number;
}

class FakeBatch implements FrameBatch {
  arrivals: readonly Arrival[] = [];

  get count(): number {
    return this.arrivals.length;
  }

  offsetOf(index: number): number {
    return (this.arrivals[index] as Arrival).offset;
  }

  sizeOf(index: number): number {
    return (this.arrivals[index] as Arrival).size;
  }

  arrivalUsOf(index: number): number {
    return (this.arrivals[index] as Arrival).arrivalUs;
  }
}

/**
 * A link without a network: the test delivers batches and reads what was sent. As on a real one,
 * the frames of a batch are overwritten as soon as the reader asks for the next, and what is sent
 * leaves when the batch has been handled.
 */
export class FakeLink implements Link, AsyncIterator<FrameBatch, undefined> {
  readonly name = 'fake0';
  readonly mac: number;
  readonly mtu: number;
  readonly loopback: boolean;
  readonly ring: Memory;
  readonly ringView: DataView;
  readonly #slab: Buffer;
  readonly #queue: OutgoingFrame[] = [];
  readonly #sent: Buffer[] = [];
  readonly #batch = new FakeBatch();
  #deliver: ((step: IteratorResult<FrameBatch, undefined>) => void) | undefined;
  #taken: (() => void) | undefined;

  constructor({ mac, mtu, loopback = false, slab, registerMemory }: FakeLinkOptions) {
    this.mac = mac;
    this.mtu = mtu;
    this.loopback = loopback;
    const ring = new ArrayBuffer(RING_BYTES);
    this.ring = registerMemory(ring);
    this.ring.bytes.fill(FOREIGN_BYTE);
    this.ringView = new DataView(ring);
    this.#slab = Buffer.from(slab);
  }

  /** Copies of the frames that were sent. */
  get sent(): Buffer[] {
    this.flush();
    return this.#sent;
  }

  /**
   * Delivers frames as one batch.
   *
   * @returns when the reader has handled it and asks for the next
   */
  async deliver(frames: readonly Uint8Array[], arrivalUs: number): Promise<void> {
    let offset = FRAME_GAP_BYTES;
    this.#batch.arrivals = frames.map((frame) => {
      this.ring.bytes.set(frame, offset);
      const arrival = { offset, size: frame.length, arrivalUs };
      offset += frame.length + FRAME_GAP_BYTES;
      return arrival;
    });
    const handled = new Promise<void>((resolve) => {
      this.#taken = resolve;
    });
    this.#deliver?.({ done: false, value: this.#batch });
    await handled;
    this.ring.bytes.fill(FOREIGN_BYTE, 0, offset);
  }

  [Symbol.asyncIterator](): AsyncIterator<FrameBatch, undefined> {
    return this;
  }

  next(): Promise<IteratorResult<FrameBatch, undefined>> {
    this.#taken?.();
    return new Promise((resolve) => {
      this.#deliver = resolve;
    });
  }

  send(frame: OutgoingFrame): void {
    if (this.#queue.push(frame) === 1) queueMicrotask(() => this.flush());
  }

  flush(): void {
    for (const frame of this.#queue.splice(0)) {
      const { frameOffset, frameSize } = frame;
      this.#sent.push(Buffer.from(this.#slab.subarray(frameOffset, frameOffset + frameSize)));
      frame.sent(Date.now() * 1000);
    }
  }

  counters(): LinkCounters {
    return { received: 0, dropped: 0, truncated: 0, sent: this.#sent.length, unsent: 0 };
  }

  stopReceiving(): void {
    this.#deliver?.({ done: true, value: undefined });
  }

  close(): void {
    this.stopReceiving();
  }
}
