import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requestFilter, responseFilter } from '../../src/aoe/frame-filter.ts';
import { addressOf, takes } from '../../src/aoe/share.ts';
import { native, type PacketSocket } from '../../src/native.ts';
import { BROADCAST_MAC, configRequest, padded, TARGET_MAC } from '../protocol/frames.ts';
import { describeWith, run, tryRun, waitUntil } from '../support/tools.ts';

const SHARE_COUNT = 3;
const EVERYBODY = [0, 1, 2];
const ALONE = 3;
const RESPONSES = 4;

/** A socket that only counts what its filter lets through. */
class Listener {
  readonly sent = new Int32Array(2);
  readonly slab = new ArrayBuffer(2048);
  readonly #socket: PacketSocket;
  count = 0;

  constructor(name: string, filter: Uint32Array) {
    const options = {
      ...{ interface: name, frameSizeMax: 1514, ringSize: 1 << 18, filter, slab: this.slab },
      ...{ received: new Int32Array(128), arrivals: new Float64Array(64) },
      ...{ sent: this.sent, outcome: new Int32Array(2), sentUs: new Float64Array(1) },
    };
    this.#socket = new native.PacketSocket(options, () => {
      this.count += this.#socket.next(0, 0);
    });
  }

  send(frame: Buffer): void {
    Buffer.from(this.slab).set(frame);
    this.sent.set([0, frame.length]);
    this.#socket.send(1);
  }

  close(): void {
    this.#socket.close();
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

  /** Which of the listeners a frame reaches. */
  async function reached(frame: Buffer): Promise<number[]> {
    for (const listener of [...listeners, last]) listener.count = 0;
    sender.send(padded(frame));
    await waitUntil('the frame', () => last.count > 0);
    // All sockets got it in one go; this lets the others look at theirs.
    await new Promise((resolve) => setTimeout(resolve, 20));
    return listeners.flatMap(({ count }, index) => (count > 0 ? [index] : []));
  }

  it('gives each address to one thread, by the rule that the threads know', async () => {
    for (const address of [
      { shelf: 1, slot: 0 },
      { shelf: 1, slot: 1 },
      { shelf: 1, slot: 254 },
      { shelf: 2, slot: 7 },
      { shelf: 65534, slot: 254 },
      { shelf: 0, slot: 0 },
    ]) {
      const share = EVERYBODY.filter((index) =>
        takes({ index, count: SHARE_COUNT }, addressOf(address)),
      );
      expect(share).toHaveLength(1);
      expect(await reached(configRequest(address))).toEqual([...share, ALONE]);
    }
  });

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
    const frame = configRequest();
    const inVlan = [frame.subarray(0, 12), Buffer.from('81000005', 'hex'), frame.subarray(12)];
    expect(await reached(Buffer.concat(inVlan))).toEqual([]);
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
});
