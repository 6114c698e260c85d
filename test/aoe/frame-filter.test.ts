import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addressOf } from '../../src/aoe/codec/header.ts';
import { requestFilter, responseFilter } from '../../src/aoe/frame-filter.ts';
import { takes } from '../../src/aoe/share.ts';
import { native, type PacketSocket } from '../../src/native.ts';
import { BROADCAST_MAC, configRequest, padded, TARGET_MAC } from '../protocol/frames.ts';
import { describeWith, run, tryRun, waitUntil } from '../support/tools.ts';

const SHARE_COUNT = 3;
const EVERYBODY = [0, 1, 2];
const ALONE = 3;
const RESPONSES = 4;

/** The most a configuration allows is 64. */
const WORKERS_MAX = 64;
const SOME_WORKERS = [1, 2, 3, 4, 5, 8, 16, WORKERS_MAX];
const SHELVES = [0, 1, 2, 3, 4, 255, 256, 257, 4000, 65534];
const SLOTS = [0, 1, 2, 3, 4, 15, 127, 128, 253, 254];
const ADDRESSES = SHELVES.flatMap((shelf) => SLOTS.map((slot) => ({ shelf, slot })));

/** A socket that only notes for whom its filter lets frames through. */
class Listener {
  readonly sent = new Int32Array(2);
  readonly slab = new ArrayBuffer(2048);
  readonly #socket: PacketSocket;
  readonly #received = new Int32Array(128);
  /** Shelf and slot of each frame as one number, in no order. */
  readonly addresses: number[] = [];

  constructor(name: string, filter: Uint32Array) {
    const options = {
      ...{ interface: name, frameSizeMax: 1514, ringSize: 1 << 18, filter, slab: this.slab },
      ...{ received: this.#received, arrivals: new Float64Array(64) },
      ...{ sent: this.sent, outcome: new Int32Array(2), sentUs: new Float64Array(1) },
    };
    this.#socket = new native.PacketSocket(options, () => this.#note());
  }

  send(frame: Buffer): void {
    Buffer.from(this.slab).set(frame);
    this.sent.set([0, frame.length]);
    this.#socket.send(1);
  }

  close(): void {
    this.#socket.close();
  }

  #note(): void {
    const ring = Buffer.from(this.#socket.ring);
    const count = this.#socket.next(0, 0);
    for (let index = 0; index < count; index++) {
      this.addresses.push(ring.readUIntBE((this.#received[2 * index] as number) + 16, 3));
    }
  }
}

describeWith(['ip', 'sysctl'], 'the kernel’s filter', () => {
  const names = [`aoeh${process.pid}`, `aoei${process.pid}`] as const;
  const listeners: Listener[] = [];
  let sender: Listener;
  let last: Listener;

  beforeAll(async () => {
    const [near, far] = names;
    const peer = ['type', 'veth', 'peer', 'name', far];
    await run('ip', ['link', 'add', 'name', near, 'address', TARGET_MAC, ...peer]);
    for (const name of names) {
      await run('sysctl', ['-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
      await run('ip', ['link', 'set', name, 'up']);
    }
    const shares = EVERYBODY.map((index) => requestFilter({ index, count: SHARE_COUNT }));
    const alone = requestFilter({ index: 0, count: 1 });
    for (const filter of [...shares, alone, responseFilter()]) {
      listeners.push(new Listener(near, filter));
    }
    last = new Listener(near, new Uint32Array([0x06, 0, 0, 0x40000]));
    sender = new Listener(far, new Uint32Array([0x06, 0, 0, 0]));
  });
  afterAll(async () => {
    for (const listener of [...listeners, last, sender]) listener.close();
    await tryRun('ip', ['link', 'del', names[0]]);
  });

  /** Sends frames, until every listener has noted those that reach it. */
  async function send(...frames: Buffer[]): Promise<void> {
    for (const { addresses } of [...listeners, last]) addresses.length = 0;
    for (const frame of frames) sender.send(padded(frame));
    await waitUntil('the frames', () => last.addresses.length >= frames.length);
    // All sockets got them in one go; this lets the others look at theirs.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }

  /** Which of the listeners a frame reaches. */
  async function reached(frame: Buffer): Promise<number[]> {
    await send(frame);
    return listeners.flatMap(({ addresses }, index) => (addresses.length > 0 ? [index] : []));
  }

  for (const count of SOME_WORKERS) {
    it(`gives each address to one of ${count}, by the rule that the threads know`, async () => {
      const shares = Array.from({ length: count }, (_, index) => ({ index, count }));
      const threads = shares.map((share) => new Listener(names[0], requestFilter(share)));
      try {
        await send(...ADDRESSES.map(configRequest));
        const all = ADDRESSES.map(addressOf);
        const known = shares.map((share) => all.filter((address) => takes(share, address)));
        expect(known.flat()).toHaveLength(all.length);
        const got = threads.map(({ addresses }) => addresses.toSorted((x, y) => x - y));
        expect(got).toEqual(known);
      } finally {
        for (const thread of threads) thread.close();
      }
    });
  }

  it('gives wildcards to all', async () => {
    for (const address of [
      { shelf: 0xffff, slot: 0xff },
      { shelf: 0xffff, slot: 0 },
      { shelf: 3, slot: 0xff },
    ]) {
      const request = configRequest({ ...address, destination: BROADCAST_MAC });
      expect(await reached(request)).toEqual([...EVERYBODY, ALONE]);
    }
  });

  it('gives responses to initiators, and to nobody else', async () => {
    expect(await reached(configRequest({ versionFlags: 0x18 }))).toEqual([RESPONSES]);
    expect(await reached(configRequest({ versionFlags: 0x1c }))).toEqual([RESPONSES]);
  });

  it('refuses what is for another host or group, in a VLAN, or not AoE', async () => {
    expect(await reached(configRequest({ destination: '02:00:00:00:00:77' }))).toEqual([]);
    expect(await reached(configRequest({ destination: '01:00:5e:00:00:01' }))).toEqual([]);
    expect(await reached(configRequest({ destination: 'ff:ff:ff:ff:ff:fe' }))).toEqual([]);
    for (const frame of [configRequest(), configRequest({ destination: BROADCAST_MAC })]) {
      const inVlan = [frame.subarray(0, 12), Buffer.from('81000005', 'hex'), frame.subarray(12)];
      expect(await reached(Buffer.concat(inVlan))).toEqual([]);
    }
  });

  it('takes the priority tag of VLAN 0 for none', async () => {
    const frame = configRequest();
    const tagged = [frame.subarray(0, 12), Buffer.from('8100a000', 'hex'), frame.subarray(12)];
    expect(await reached(Buffer.concat(tagged))).toContain(ALONE);
  });
});

describe('a share', () => {
  it('counts shelf and slot as one number', () => {
    expect(addressOf({ shelf: 0xfffe, slot: 0xfe })).toBe(0xfffefe);
  });

  const plans: Record<string, (index: number) => { shelf: number; slot: number }> = {
    'ascending slots of one shelf': (index) => ({ shelf: 1, slot: index }),
    'ascending shelves with one slot': (index) => ({ shelf: 1 + index, slot: 0 }),
  };
  for (const [plan, addressAt] of Object.entries(plans)) {
    it(`has as many as any other of ${plan}`, () => {
      for (let count = 1; count <= WORKERS_MAX; count++) {
        const targets = Array.from({ length: 3 * count }, (_, at) => addressOf(addressAt(at)));
        for (let index = 0; index < count; index++) {
          const own = targets.filter((address) => takes({ index, count }, address));
          expect(own, `thread ${index} of ${count}`).toHaveLength(3);
        }
      }
    });
  }
});
