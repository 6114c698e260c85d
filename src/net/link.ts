/**
 * An Ethernet link: frames in batches in, frames out of a slab. The seam between the packet
 * socket and the protocol, and between the protocol and tests.
 */
import type { Memory } from '../core/memory.ts';
import type { MacAddress } from './ethernet.ts';

/**
 * Received frames. The same object is yielded again and again.
 *
 * Ownership: frames lie in the link's receive ring and belong to the reader until it asks the
 * iterator for the next batch; the kernel then overwrites them.
 */
export interface FrameBatch {
  readonly count: number;
  /** Start of frame `index` (its destination MAC) in the ring, in bytes. */
  offsetOf(index: number): number;
  /** Size of frame `index` without FCS, in bytes. */
  sizeOf(index: number): number;
  /** When the kernel received frame `index`, in microseconds since the epoch. */
  arrivalUsOf(index: number): number;
}

/** A frame on its way out; it lies in the slab. */
export interface OutgoingFrame {
  /** Start of the frame in the slab, in bytes. */
  readonly frameOffset: number;
  /** Size without FCS, in bytes. */
  readonly frameSize: number;
  /**
   * Called once, when the slab's memory may be reused.
   *
   * @param sentUs when the frame was sent, in microseconds since the epoch; 0 if it was given up
   */
  sent(sentUs: number): void;
}

export interface LinkCounters {
  readonly received: number;
  /** Frames that found no room in the receive ring. */
  readonly dropped: number;
  /** Frames longer than the MTU. */
  readonly truncated: number;
  readonly sent: number;
  /** Frames given up: the interface was down, or the frame too long for it. */
  readonly unsent: number;
}

export interface Link extends AsyncIterable<FrameBatch> {
  /** The interface's name. */
  readonly name: string;
  readonly mac: MacAddress;
  /** Largest Ethernet payload, in bytes. */
  readonly mtu: number;
  /** Is it the loopback interface, where every address is zero? */
  readonly loopback: boolean;
  /** The receive ring. */
  readonly ring: Memory;
  readonly ringView: DataView;
  /** Queues a frame; it leaves at the end of the present batch or turn. */
  send(frame: OutgoingFrame): void;
  /** Lets queued frames leave now, unless the interface does not take any. */
  flush(): void;
  counters(): LinkCounters;
  /** Ends the iteration; frames can still be sent. Idempotent. */
  stopReceiving(): void;
  /** Closes the link. Queued frames are sent first. Idempotent. */
  close(): void;
}
