/**
 * A link over an AF_PACKET socket.
 *
 * The iterator runs in one of three states:
 * - running: the reader works on a batch, or will ask again without the event loop turning;
 * - breathing: the event loop turns once, so that timers and I/O run under full load;
 * - asleep: no frame waited, not even while spinning; the socket's readiness wakes it.
 *
 * Invariants: frames queued while running leave in the iterator's next native call; in the other
 * states a microtask sends them. `#queue[i]` is row `i` of `#rows`.
 */
import { performance } from 'node:perf_hooks';
import { Limits } from '../core/limits.ts';
import type { Memory } from '../core/memory.ts';
import { ReusedList } from '../core/reused-list.ts';
import { StartupError } from '../core/startup-error.ts';
import { native, type PacketSocket, type SystemError } from '../native.ts';
import { ETHERNET_HEADER_BYTES, type MacAddress } from './ethernet.ts';
import type { FrameBatch, Link, LinkCounters, OutgoingFrame } from './link.ts';
import { SpinBudget } from './spin-budget.ts';

/** Longest stretch without a turn of the event loop. */
const BREATH_MS = 2;
/** The driver's queue is full: time enough for it to send some frames. */
const RESEND_MS = 1;
/** An interface that sends nothing for this long has no carrier; initiators resend. */
const STUCK_MS_MAX = 100;

const Errno = { EAGAIN: 11, EMSGSIZE: 90, ENOBUFS: 105 } as const;

export interface PacketLinkOptions {
  readonly interface: string;
  /** Memory that outgoing frames lie in. */
  readonly slab: ArrayBuffer;
  /** How many frames may be queued at once. */
  readonly queueCount: number;
  /** Longest spin for the next frame before sleeping, in microseconds; 0 for none. */
  readonly spinUs: number;
  /** Size of the receive ring, at least. */
  readonly ringBytes: number;
  /** Which frames are received. */
  readonly filter: Uint32Array;
  /** Makes the receive ring known where its data will be used, and unknown again. */
  registerMemory(ring: ArrayBuffer): Memory;
  unregisterMemory(ring: Memory): void;
}

class ReceivedBatch implements FrameBatch {
  count = 0;
  readonly rows = new Int32Array(Limits.batchFrames * 2);
  readonly arrivals = new Float64Array(Limits.batchFrames);

  offsetOf(index: number): number {
    return this.rows[2 * index] as number;
  }

  sizeOf(index: number): number {
    return this.rows[2 * index + 1] as number;
  }

  arrivalUsOf(index: number): number {
    return this.arrivals[index] as number;
  }
}

type Step = IteratorResult<FrameBatch, undefined>;
const END: Step = { done: true, value: undefined };

export class PacketLink implements Link, AsyncIterator<FrameBatch, undefined> {
  readonly name: string;
  readonly mac: MacAddress;
  readonly mtu: number;
  readonly loopback: boolean;
  readonly ring: Memory;
  readonly ringView: DataView;

  readonly #options: PacketLinkOptions;
  readonly #socket: PacketSocket;
  readonly #batch = new ReceivedBatch();
  readonly #full: Promise<Step> = Promise.resolve({ done: false, value: this.#batch });
  readonly #rows: Int32Array;
  readonly #outcome = new Int32Array(2);
  readonly #sentUs = new Float64Array(1);
  readonly #queue = new ReusedList<OutgoingFrame>();
  readonly #spin: SpinBudget;
  #state: 'running' | 'breathing' | 'asleep' | 'closed' = 'breathing';
  #wake: ((step: Step) => void) | undefined;
  #lastBreathMs = 0;
  #receiving = true;
  #sendScheduled = false;
  /** Since when the queue does not move, if so. */
  #stuckSinceMs: number | undefined;
  #sentCount = 0;
  #unsentCount = 0;

  /** @throws {StartupError} the interface cannot be used, with the remedy */
  constructor(options: PacketLinkOptions) {
    this.#options = options;
    this.#rows = new Int32Array(options.queueCount * 2);
    this.#spin = new SpinBudget(options.spinUs);
    this.#socket = this.#open(options);
    this.name = options.interface;
    this.mac = this.#socket.mac;
    this.mtu = Math.min(this.#socket.mtu, Limits.mtuMax);
    this.loopback = this.#socket.loopback;
    this.ring = options.registerMemory(this.#socket.ring);
    this.ringView = new DataView(this.#socket.ring);
  }

  [Symbol.asyncIterator](): AsyncIterator<FrameBatch, undefined> {
    return this;
  }

  next(): Promise<Step> {
    if (!this.#receiving) return this.#end();
    if (performance.now() - this.#lastBreathMs > BREATH_MS) return this.#breathe();
    this.#state = 'running';
    if (this.#step(this.#spin.nextUs()) > 0) return this.#full;
    this.#state = 'asleep';
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  return(): Promise<Step> {
    return this.#end();
  }

  send(frame: OutgoingFrame): void {
    if (this.#state === 'closed') {
      this.#unsentCount++;
      frame.sent(0);
      return;
    }
    this.#setRow(this.#queue.push(frame), frame);
    if (this.#state === 'running' || this.#sendScheduled) return;
    this.#sendScheduled = true;
    queueMicrotask(this.#sendQueued);
  }

  flush(): void {
    if (this.#stuckSinceMs === undefined) this.#sendQueued();
  }

  counters(): LinkCounters {
    const { received, dropped, truncated } = this.#socket.statistics();
    return { received, dropped, truncated, sent: this.#sentCount, unsent: this.#unsentCount };
  }

  stopReceiving(): void {
    if (this.#state === 'closed') return;
    this.#receiving = false;
    if (this.#state === 'asleep') this.#wake?.(END);
  }

  close(): void {
    if (this.#state === 'closed') return;
    this.stopReceiving();
    this.#sendQueued();
    this.#state = 'closed';
    this.#abandonQueue(this.#queue.count);
    this.#options.unregisterMemory(this.ring);
    this.#socket.close();
  }

  #open(options: PacketLinkOptions): PacketSocket {
    try {
      return new native.PacketSocket(
        {
          interface: options.interface,
          frameSizeMax: Limits.mtuMax + ETHERNET_HEADER_BYTES,
          ringSize: options.ringBytes,
          filter: options.filter,
          slab: options.slab,
          received: this.#batch.rows,
          arrivals: this.#batch.arrivals,
          sent: this.#rows,
          outcome: this.#outcome,
          sentUs: this.#sentUs,
        },
        (errno) => this.#readable(errno),
      );
    } catch (error) {
      throw explainOpenFailure(error as SystemError, options.interface);
    }
  }

  /** The reader is gone: responses that are still to come leave by microtasks. */
  #end(): Promise<Step> {
    this.stopReceiving();
    this.#sendQueued();
    if (this.#state !== 'closed') this.#state = 'breathing';
    return Promise.resolve(END);
  }

  #breathe(): Promise<Step> {
    this.#sendQueued();
    this.#state = 'breathing';
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#lastBreathMs = performance.now();
        resolve(this.next());
      });
    });
  }

  /** One native call: sends what is queued, gives the last frames back, takes the next. */
  #step(spinUs: number): number {
    const count = this.#socket.next(this.#queue.count, spinUs);
    this.#batch.count = count;
    if (spinUs > 0) this.#spin.report(count > 0);
    if (this.#queue.count > 0) this.#afterSend();
    return count;
  }

  #readable(errno: number): void {
    // A link that goes down or away shows here; reading the error clears it.
    if (errno !== 0) this.#socket.takeError();
    if (!this.#receiving) {
      // Nobody reads any more; frames left in the ring would wake us for ever.
      this.#socket.next(0, 0);
      return;
    }
    if (this.#state !== 'asleep') return;
    this.#lastBreathMs = performance.now();
    if (this.#step(0) === 0) return;
    this.#state = 'running';
    this.#wake?.({ done: false, value: this.#batch });
  }

  readonly #sendQueued = (): void => {
    this.#sendScheduled = false;
    if (this.#queue.count === 0 || this.#state === 'closed') return;
    this.#socket.send(this.#queue.count);
    this.#afterSend();
  };

  #afterSend(): void {
    const sentCount = this.#outcome[0] as number;
    this.#sentCount += sentCount;
    if (sentCount > 0) this.#stuckSinceMs = undefined;
    this.#release(sentCount, this.#sentUs[0] as number);
    if (this.#queue.count > 0) this.#afterFailure(this.#outcome[1] as number);
  }

  #afterFailure(errno: number): void {
    const full = errno === Errno.ENOBUFS || errno === Errno.EAGAIN;
    this.#stuckSinceMs ??= performance.now();
    if (full && performance.now() - this.#stuckSinceMs < STUCK_MS_MAX) {
      if (!this.#sendScheduled) setTimeout(this.#sendQueued, RESEND_MS);
      this.#sendScheduled = true;
    } else {
      // A frame that is too long fails alone; any other error is the interface's. Nothing is
      // lost: initiators resend.
      this.#abandonQueue(errno === Errno.EMSGSIZE ? 1 : this.#queue.count);
    }
    for (let index = 0; index < this.#queue.count; index++) {
      this.#setRow(index, this.#queue.at(index));
    }
    if (this.#queue.count > 0 && !this.#sendScheduled) this.#sendQueued();
  }

  #abandonQueue(count: number): void {
    this.#unsentCount += count;
    this.#release(count, 0);
  }

  /** Gives the first frames of the queue back to their owners. */
  #release(count: number, sentUs: number): void {
    for (let index = 0; index < count; index++) this.#queue.at(index).sent(sentUs);
    this.#queue.removeFirst(count);
  }

  #setRow(index: number, frame: OutgoingFrame): void {
    this.#rows[2 * index] = frame.frameOffset;
    this.#rows[2 * index + 1] = frame.frameSize;
  }
}

function explainOpenFailure(error: SystemError, name: string): StartupError {
  const explanations: Record<string, readonly [problem: string, remedy: string]> = {
    EPERM: ['raw Ethernet access is not permitted', 'run as root, or give the program CAP_NET_RAW'],
    ENODEV: [`there is no interface ${name}`, 'see the names with: ip link'],
    ENETDOWN: [`interface ${name} is down`, `bring it up with: ip link set ${name} up`],
    EPROTONOSUPPORT: [
      `interface ${name} is not Ethernet`,
      'name an Ethernet interface, a VLAN, a bridge, or lo',
    ],
    ENOMEM: [
      `no memory for the receive ring of ${name}`,
      'free some memory; the ring cannot be swapped out',
    ],
  };
  const [problem, remedy] = explanations[error.code] ?? [
    `cannot open interface ${name}: ${error.message}`,
    'see what the message says about the system call',
  ];
  return new StartupError(problem, remedy, { cause: error });
}
