import { readFileSync } from 'node:fs';
import { native, type PacketSocket } from '../../src/native.ts';
import { PacketFilter } from '../../src/net/packet-filter.ts';
import type { NetworkNamespace } from '../support/netns.ts';
import { run, waitUntil } from '../support/tools.ts';
import { configRequest, INITIATOR_MAC, TARGET_MAC } from './frames.ts';

const SLAB_BYTES = 1 << 20;
const BATCH_FRAMES = 64;
/** A reply may wait for a disk that others use, too. */
const REPLY_TIMEOUT_MS = 20_000;
const FENCES_MAX = 3;
const FENCE_TAG = 0x7e9c_e000;
let clientCount = 0;

export interface FrameClientOptions {
  /** Where the server runs, and the name of its end of the veth pair. */
  namespace: NetworkNamespace;
  interfaceName: string;
  mtu?: number;
  /** A target that always answers; see {@link FrameClient.exchange}. */
  fence: { shelf: number; slot: number };
}

/**
 * Sends and receives raw frames on a veth pair, one end of which is in the network namespace of
 * the test process under a name of its own.
 */
export class FrameClient implements AsyncDisposable {
  readonly interfaceName: string;
  readonly #options: FrameClientOptions;
  readonly #slab = new ArrayBuffer(SLAB_BYTES);
  readonly #sent = new Int32Array(2 * BATCH_FRAMES);
  readonly #received = new Int32Array(2 * BATCH_FRAMES);
  readonly #outcome = new Int32Array(2);
  readonly #frames: Buffer[] = [];
  #socket: PacketSocket | undefined;
  #mac = INITIATOR_MAC;
  #fenceCount = 0;

  private constructor(options: FrameClientOptions) {
    clientCount += 1;
    this.#options = options;
    this.interfaceName = `aoet${process.pid}${String.fromCharCode(96 + clientCount)}`;
  }

  /** Makes the veth pair and opens the near end. */
  static async connect(options: FrameClientOptions): Promise<FrameClient> {
    const client = new FrameClient(options);
    await client.#makeLink();
    return client;
  }

  /** Makes the veth pair again, after its other end was removed. */
  async reconnect(): Promise<void> {
    this.#socket?.close();
    await this.#makeLink();
  }

  /** Waits until the fence target answers, and forgets all frames received so far. */
  async settle(): Promise<void> {
    const fence = this.#nextFence();
    await waitUntil('an answer of the fence', () => {
      this.send(fence);
      return this.#frames.some((frame) => answers(frame, fence));
    });
    await this.#pass();
    this.#frames.length = 0;
  }

  /** Sends frames back to back. */
  send(...frames: Buffer[]): void {
    let offset = 0;
    frames.forEach((frame, index) => {
      frame.copy(Buffer.from(this.#slab), offset);
      this.#sent[2 * index] = offset;
      this.#sent[2 * index + 1] = frame.length;
      offset += frame.length;
    });
    this.#socket?.send(frames.length);
    if (this.#outcome[0] === frames.length) return;
    throw new Error(`${this.interfaceName}: errno ${this.#outcome[1]} when sending`);
  }

  /**
   * Sends `requests` and returns everything that the server sends because of them.
   *
   * A question to the fence target follows the last of them. Its answer tells that a server which
   * answers in order has nothing left to say; one that must wait for storage is given the time
   * for `replyCount` replies first.
   *
   * @throws {Error} when the server sends frames that are not replies, or too few in time
   */
  async exchange(requests: Buffer | Buffer[], replyCount = 0): Promise<Buffer[]> {
    const all = [requests].flat();
    const before = this.#receivedCount();
    this.#frames.length = 0;
    this.send(...all);
    if (replyCount > 0) await this.#waitFor(replyCount);
    // A reply may come right behind the fence's, and be counted before it is seen: a second finds it.
    for (let fences = 1; fences <= FENCES_MAX; fences++) {
      await this.#pass();
      const strayCount = this.#receivedCount() - before - this.#frames.length - fences;
      if (strayCount === 0) return this.#frames.splice(0);
    }
    throw new Error('frames came that the socket did not show');
  }

  /** Waits for `count` replies to what was sent before. */
  async receive(count: number): Promise<Buffer[]> {
    await this.#waitFor(count);
    return this.#frames.splice(0);
  }

  /** Gives the near end another address, and with it the initiator. */
  async setMac(mac: string): Promise<void> {
    await run('ip', ['link', 'set', this.interfaceName, 'address', mac]);
    this.#mac = mac;
  }

  /** Takes the near end down and up again. */
  async cut(): Promise<void> {
    this.#socket?.close();
    await run('ip', ['link', 'set', this.interfaceName, 'down']);
    await run('ip', ['link', 'set', this.interfaceName, 'up']);
    this.#open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.close();
    // Its other end goes with it, or has gone with its namespace.
    await run('ip', ['link', 'del', this.interfaceName]).catch(() => {});
  }

  async #makeLink(): Promise<void> {
    const { namespace, interfaceName, mtu = 1500 } = this.#options;
    const far = ['name', interfaceName, 'address', TARGET_MAC, 'mtu', `${mtu}`];
    const near = ['name', this.interfaceName, 'address', INITIATOR_MAC, 'mtu', `${mtu}`];
    const home = ['netns', `${process.pid}`];
    await namespace.run('ip', ['link', 'add', ...far, 'type', 'veth', 'peer', ...near, ...home]);
    // Nothing but our own frames shall cross this link.
    await run('sysctl', ['-qw', `net.ipv6.conf.${this.interfaceName}.disable_ipv6=1`]);
    await run('ip', ['link', 'set', this.interfaceName, 'up']);
    // A sender that the scheduler moves leaves frames in the queues of two processors, and the
    // later may overtake. With one queue for each end, what was sent last arrives last.
    await run('sh', ['-c', useOneQueue(this.interfaceName)]);
    await namespace.run('sh', ['-c', useOneQueue(interfaceName)]);
    // Before the other end is up, so that nothing that comes from there is missed.
    this.#open();
    await namespace.run('ip', ['link', 'set', interfaceName, 'up']);
  }

  #open(): void {
    const arrivals = new Float64Array(BATCH_FRAMES);
    this.#socket = new native.PacketSocket(
      {
        interface: this.interfaceName,
        frameSizeMax: 9230,
        ringSize: 4 << 20,
        filter: new PacketFilter().build(),
        slab: this.#slab,
        received: this.#received,
        arrivals,
        sent: this.#sent,
        outcome: this.#outcome,
        sentUs: new Float64Array(1),
      },
      () => this.#take(),
    );
  }

  #take(): void {
    const socket = this.#socket as PacketSocket;
    socket.takeError();
    const ring = Buffer.from(socket.ring);
    for (let count = socket.next(0, 0); count > 0; count = socket.next(0, 0)) {
      for (let index = 0; index < count; index++) {
        const offset = this.#received[2 * index] as number;
        const size = this.#received[2 * index + 1] as number;
        this.#frames.push(Buffer.from(ring.subarray(offset, offset + size)));
      }
    }
  }

  async #waitFor(count: number): Promise<void> {
    const what = () => `${count} replies (${this.#frames.length} came)`;
    await waitUntil(what(), () => this.#frames.length >= count, REPLY_TIMEOUT_MS);
  }

  /** Waits for the fence's answer, and removes it. */
  async #pass(): Promise<void> {
    const fence = this.#nextFence();
    this.send(fence);
    const index = () => this.#frames.findIndex((frame) => answers(frame, fence));
    await poll('an answer of the fence', () => index() >= 0);
    this.#frames.splice(index(), 1);
  }

  #nextFence(): Buffer {
    this.#fenceCount += 1;
    const tag = FENCE_TAG + this.#fenceCount;
    return configRequest({ ...this.#options.fence, source: this.#mac, tag });
  }

  /** Frames that reached the near end, whatever they were and whomever they were for. */
  #receivedCount(): number {
    const path = `/sys/class/net/${this.interfaceName}/statistics/rx_packets`;
    return Number(readFileSync(path, 'utf8'));
  }
}

function useOneQueue(interfaceName: string): string {
  return `echo 1 > /sys/class/net/${interfaceName}/queues/rx-0/rps_cpus`;
}

function answers(frame: Buffer, request: Buffer): boolean {
  return frame.subarray(19, 24).equals(request.subarray(19, 24));
}

/** Like `waitUntil`, but looks at each turn of the event loop: answers come in microseconds. */
async function poll(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + REPLY_TIMEOUT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`${what}: not in time`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
