import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { requestFilter } from '../../src/aoe/frame-filter.ts';
import { Limits } from '../../src/core/limits.ts';
import type { Memory } from '../../src/core/memory.ts';
import { PacketLink } from '../../src/net/packet-link.ts';
import { aoeRequest, TARGET_MAC } from '../protocol/frames.ts';
import { describeWith, run, tryRun, waitUntil } from '../support/tools.ts';

const FRAME_BYTES = 60;
const SLAB_BYTES = 1 << 16;
/** Longer than a queue may stand still before it is given up. */
const IDLE_MS = 150;
/** More than is used. */
const MTU = 20_000;
const FRAME_BYTES_MAX = Limits.mtuMax + 14;
/** Slots of the ring are a little longer than the longest frame. */
const TOO_LONG_BYTES = FRAME_BYTES_MAX + 32;

/** A veth pair, and a link over one or both of its ends. */
class Pair {
  readonly near: string;
  readonly far: string;
  readonly slab = new ArrayBuffer(SLAB_BYTES);
  /** Rings that may not be used any more. */
  readonly forgotten: Memory[] = [];

  constructor(letter: string) {
    this.near = `aoe${letter}${process.pid}`;
    this.far = `aoe${letter}${process.pid}f`;
  }

  async make(mtu: number): Promise<void> {
    const size = ['mtu', `${mtu}`];
    const peer = ['type', 'veth', 'peer', 'name', this.far, ...size];
    const address = ['address', TARGET_MAC];
    await run('ip', ['link', 'add', 'name', this.near, ...size, ...address, ...peer]);
    for (const name of [this.near, this.far]) {
      await run('sysctl', ['-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
      await run('ip', ['link', 'set', name, 'up']);
    }
  }

  open(name: string): PacketLink {
    return new PacketLink({
      interface: name,
      slab: this.slab,
      queueCount: 8,
      spinUs: 0,
      ringBytes: 4 << 20,
      filter: requestFilter({ index: 0, count: 1 }),
      registerMemory: (ring) => ({ bytes: Buffer.from(ring), region: 0 }),
      unregisterMemory: (ring) => this.forgotten.push(ring),
    });
  }

  async remove(): Promise<void> {
    await tryRun('ip', ['link', 'del', this.near]);
  }
}

/** @returns when the frame left, or 0 if it was given up */
function send(link: PacketLink, frameSize = FRAME_BYTES): Promise<number> {
  return new Promise((resolve) => {
    link.send({ frameOffset: 0, frameSize, sent: resolve });
  });
}

describeWith(['ip', 'sysctl'], 'a link without carrier', () => {
  const pair = new Pair('n');
  let link: PacketLink;

  beforeAll(async () => {
    await pair.make(1500);
    link = pair.open(pair.near);
  });
  afterAll(async () => {
    link.close();
    await pair.remove();
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it('sends at once when it is told to, as long as there is one', () => {
    let sentUs = 0;
    link.send({
      ...{ frameOffset: 0, frameSize: FRAME_BYTES },
      sent: (us) => {
        sentUs = us;
      },
    });
    link.flush();
    expect(sentUs).toBeGreaterThan(0);
  });

  it('sends what is queued when it is closed, and lets its ring go', () => {
    const closing = pair.open(pair.near);
    let sentUs = 0;
    closing.send({
      ...{ frameOffset: 0, frameSize: FRAME_BYTES },
      sent: (us) => {
        sentUs = us;
      },
    });
    closing.close();
    expect(sentUs).toBeGreaterThan(0);
    expect(pair.forgotten).toEqual([closing.ring]);
  });

  it('gives up what does not leave', async () => {
    await run('ip', ['link', 'set', pair.far, 'down']);
    expect(await send(link)).toBe(0);
    expect(link.counters()).toMatchObject({ unsent: 1 });
    await run('ip', ['link', 'set', pair.far, 'up']);
    expect(await send(link)).toBeGreaterThan(0);
  });

  it('sends what waited for it, though it was idle before, and has given up others', async () => {
    expect(await send(link)).toBeGreaterThan(0);
    await sleep(IDLE_MS);
    await run('ip', ['link', 'set', pair.far, 'down']);
    // It is no matter how long it takes until there is one again.
    vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    const sent = send(link);
    await run('ip', ['link', 'set', pair.far, 'up']);
    expect(await sent).toBeGreaterThan(0);
  });
});

describeWith(['ip', 'sysctl'], 'a link and frames that are too long', () => {
  const pair = new Pair('o');
  let near: PacketLink;
  let far: PacketLink;
  const sizes: number[] = [];
  let received: Promise<void>;

  beforeAll(async () => {
    await pair.make(MTU);
    [near, far] = [pair.open(pair.near), pair.open(pair.far)];
    Buffer.from(pair.slab).set(aoeRequest({}, Buffer.alloc(36)));
    received = (async () => {
      for await (const batch of near) {
        for (let index = 0; index < batch.count; index++) sizes.push(batch.sizeOf(index));
      }
    })();
  });
  afterAll(async () => {
    near.close();
    far.close();
    await received;
    await pair.remove();
  });

  it('counts those that it receives and cannot hold, and passes on all others', async () => {
    const all = [FRAME_BYTES, FRAME_BYTES_MAX, TOO_LONG_BYTES, MTU, FRAME_BYTES];
    for (const size of all) expect(await send(far, size)).toBeGreaterThan(0);
    await waitUntil('the frames', () => sizes.length + near.counters().truncated === all.length);
    expect(sizes).toEqual([FRAME_BYTES, FRAME_BYTES_MAX, FRAME_BYTES]);
    expect(near.counters()).toMatchObject({ received: all.length, truncated: 2, dropped: 0 });
  });

  it('gives up those alone that the interface does not take', async () => {
    const all = [FRAME_BYTES, MTU + 100, MTU + 100, FRAME_BYTES, MTU + 100];
    const outcomes = await Promise.all(all.map((size) => send(far, size)));
    expect(outcomes.map((sentUs) => sentUs !== 0)).toEqual([true, false, false, true, false]);
    expect(far.counters().unsent).toBe(3);
  });
});
