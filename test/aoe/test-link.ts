import type { Memory } from '../../src/core/memory.ts';
import type { FrameBatch, Link, OutgoingFrame } from '../../src/net/link.ts';

/** Where a delivered frame lies in the ring: anywhere but at its start. */
const FRAME_AT = 96;

/** A link without a network: a test delivers frames one by one and sees what is sent. */
export class TestLink implements Link {
  readonly name = 'test';
  readonly mtu = 1500;
  readonly loopback = false;
  readonly mac: number;
  readonly ring: Memory;
  readonly ringView: DataView;
  /** Copies of the frames that were sent. */
  readonly sent: Uint8Array[] = [];
  readonly #slab: Memory;
  #deliver: (size: number | undefined) => void = () => {};
  #next: Promise<number | undefined>;

  constructor(mac: number, ring: Memory, slab: Memory) {
    this.mac = mac;
    this.ring = ring;
    this.ringView = new DataView(ring.bytes.buffer, ring.bytes.byteOffset, ring.bytes.length);
    this.#slab = slab;
    this.#next = this.#nextDelivery();
  }

  /** Gives `frame` to the reader. The one before must have been taken. */
  deliver(frame: Uint8Array): void {
    this.ring.bytes.fill(0xee);
    this.ring.bytes.set(frame, FRAME_AT);
    this.#deliver(frame.length);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FrameBatch> {
    for (;;) {
      const size = await this.#next;
      if (size === undefined) return;
      this.#next = this.#nextDelivery();
      const arrivalUs = Date.now() * 1000;
      yield {
        count: 1,
        offsetOf: () => FRAME_AT,
        sizeOf: () => size,
        arrivalUsOf: () => arrivalUs,
      };
    }
  }

  send(frame: OutgoingFrame): void {
    const { frameOffset, frameSize } = frame;
    this.sent.push(
      Uint8Array.from(this.#slab.bytes.subarray(frameOffset, frameOffset + frameSize)),
    );
    frame.sent(Date.now() * 1000);
  }

  flush(): void {}

  counters() {
    return { received: 0, dropped: 0, truncated: 0, sent: this.sent.length, unsent: 0 };
  }

  stopReceiving(): void {
    this.#deliver(undefined);
  }

  close(): void {
    this.#deliver(undefined);
  }

  #nextDelivery(): Promise<number | undefined> {
    return new Promise((resolve) => {
      this.#deliver = resolve;
    });
  }
}
