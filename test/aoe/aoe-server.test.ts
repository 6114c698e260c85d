import { afterEach, describe, expect, it, vi } from 'vitest';
import type { SavedTarget } from '../../src/aoe/state-store.ts';
import { TargetTable } from '../../src/aoe/target-table.ts';
import type { BlockDevice, BlockRequest } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import { DeviceLayer } from '../../src/core/layer.ts';
import { Limits } from '../../src/core/limits.ts';
import type { OutgoingFrame } from '../../src/net/link.ts';
import {
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  configRequest,
  dataOf,
  expectFrames,
  maskRequest,
  reserveRequest,
  sectors,
} from '../protocol/frames.ts';
import { EXCHANGE_COUNT, Stage, type StageOptions, TARGET_MAC_NUMBER } from '../protocol/stage.ts';
import { FakeLink } from '../support/fake-link.ts';

const MTU = 1500;
const NOW_US = () => Date.now() * 1000;
const SIZE_BYTES = 1 << 16;
const TARGET = { shelf: 1, slot: 0, sizeBytes: SIZE_BYTES, readOnly: false, configString: '' };
const INITIATOR = 0x0200_0000_0001;
const WRITE_EXT = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };

/** Another link than that of the stage. */
const LINK = {
  mac: TARGET_MAC_NUMBER + 1,
  mtu: MTU,
  registerMemory: (ring: ArrayBuffer) => ({ bytes: Buffer.from(ring), region: 0 }),
};

const GROWN_BYTES = 2 * SIZE_BYTES;

/** Has twice its size when it is looked at again. */
class GrowingDevice extends DeviceLayer {
  #grown = false;

  override get sizeBytes(): number {
    return this.#grown ? GROWN_BYTES : super.sizeBytes;
  }

  submit(request: BlockRequest): void {
    this.below.submit(request);
  }

  override refresh(): boolean {
    const isNews = !this.#grown;
    this.#grown = true;
    return isNews;
  }
}

/** Holds what comes to it, until it is let go. */
class StalledDevice extends DeviceLayer {
  readonly #held: BlockRequest[] = [];

  submit(request: BlockRequest): void {
    this.#held.push(request);
  }

  goOn(): void {
    for (const request of this.#held.splice(0)) this.below.submit(request);
    this.below.kick();
  }
}

/** Fails whatever comes to it, while it does. */
class FailingDevice extends DeviceLayer {
  isFailing = false;

  submit(request: BlockRequest): void {
    if (this.isFailing) request.complete(BlockStatus.ioError);
    else this.below.submit(request);
  }
}

/** Gives up what is sent. */
class LosingLink extends FakeLink {
  lostCount = 0;

  override send(frame: OutgoingFrame): void {
    this.lostCount++;
    frame.sent(0);
  }
}

/** The sizes, in sectors, that the answers to one IDENTIFY DEVICE give. */
async function identifySectors(stage: Stage): Promise<number[]> {
  const replies = await stage.deliver([ataRequest({ opcode: 0xec, sectorCount: 1 })], NOW_US());
  return replies
    .filter((reply) => reply.readUInt8(19) === 0)
    .map((reply) => dataOf(reply).readUInt32LE(200));
}

describe('AoeServer', () => {
  let stage: Stage | undefined;

  afterEach(async () => {
    await stage?.close();
    stage = undefined;
  });

  function open(options: StageOptions = {}): Stage {
    stage = new Stage([TARGET], MTU, options);
    return stage;
  }

  it('announces its targets when a link opens, by broadcast, as an answer nobody asked for', () => {
    const [announcement, ...more] = open().link.sent;
    const header = 'ffffffffffff02000000000288a218000001000100000000';
    expect(announcement?.toString('hex', 0, 24)).toBe(header);
    // 16 buffers, 2 sectors, and the command to read, which 9front insists on.
    expect(announcement?.toString('hex', 24, 32)).toBe('0010000102100000');
    expect(announcement).toHaveLength(60);
    expect(more).toEqual([]);
  });

  it('announces as many sectors as are configured, and no more than fit in a frame', async () => {
    for (const [mtu, maxSectors, announced] of [
      [9000, undefined, 16],
      [9000, 4, 4],
      [9000, 17, 17],
      [9000, 255, 17],
      [1500, 16, 2],
      [4200, undefined, 8],
      [2600, undefined, 5],
    ] as const) {
      stage = new Stage([TARGET], mtu, maxSectors === undefined ? {} : { maxSectors });
      expect(stage.link.sent[0]?.readUInt8(28)).toBe(announced);
      await stage.close();
      stage = undefined;
    }
  });

  it('announces a target when it is told to', async () => {
    stage = new Stage([{ ...TARGET, configString: 'odd' }], MTU);
    const { link, server, slab, targets } = stage;
    const [first] = link.sent.splice(0);
    // No byte of what was in the slots comes along.
    slab.fill(0xff);
    for (const { target } of targets) server.announce(target);
    expect(link.sent).toEqual([first]);
  });

  it('announces nothing on a link that has ended', async () => {
    const { server, targets, slab } = open();
    const second = new FakeLink({ ...LINK, slab: slab.buffer as ArrayBuffer });
    const served = server.serve(second);
    second.close();
    await served;
    second.sent.length = 0;
    for (const { target } of targets) server.announce(target);
    expect(second.sent).toEqual([]);
  });

  it('answers a question to all targets, and announces them, however many there are', async () => {
    const targets = Array.from({ length: 3 * EXCHANGE_COUNT }, (_, slot) => ({ ...TARGET, slot }));
    stage = new Stage(targets, MTU);
    const { server, link } = stage;
    const second = new FakeLink({ ...LINK, slab: stage.slab.buffer as ArrayBuffer });
    const served = server.serve(second);
    for (const { sent } of [link, second]) expect(sent.splice(0)).toHaveLength(targets.length);
    const wildcard = configRequest({ destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff });
    expect(await stage.deliver([wildcard, wildcard], NOW_US())).toHaveLength(2 * targets.length);
    expect(server.counters.overload).toBe(0);
    second.close();
    await served;
  });

  it('answers several questions to all, though a target has more answers than there is left', async () => {
    // The third answer of the last but one takes the last exchange, and two of its answers wait.
    const count = (EXCHANGE_COUNT + 1) / 3;
    const targets = Array.from({ length: count }, (_, slot) => ({ ...TARGET, slot }));
    stage = new Stage(targets, MTU);
    stage.link.sent.length = 0;
    const wildcard = configRequest({ destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff });
    const questions = [wildcard, wildcard, wildcard];
    expect(await stage.deliver(questions, NOW_US())).toHaveLength(3 * count);
    expect(stage.server.counters.overload).toBe(0);
  });

  it('drops and counts frames beyond the bound on requests in flight', async () => {
    const { server } = open();
    const stuck = Array.from({ length: EXCHANGE_COUNT }, (_, lba) =>
      ataRequest({ ...WRITE_EXT, lba, data: sectors(1, 1) }),
    );
    const replies = await (stage as Stage).deliver(stuck, NOW_US());
    // Then there are so many times fewer free ones.
    const most = Math.ceil(
      (EXCHANGE_COUNT * Limits.requestsPerFreeOne) / (1 + Limits.requestsPerFreeOne),
    );
    expect(replies).toHaveLength(most);
    const overload = EXCHANGE_COUNT - most;
    expect(server.counters).toMatchObject({ requests: most, overload });
    const again = await (stage as Stage).deliver([configRequest()], NOW_US());
    expect(again).toHaveLength(1);
  });

  it('does not execute what arrived before the clock was set back', async () => {
    const { server } = open();
    const late = ataRequest({ ...WRITE_EXT, data: sectors(1, 1) });
    const hourUs = 3_600_000_000;
    expect(await (stage as Stage).deliver([late], NOW_US() + hourUs)).toEqual([]);
    expect(server.counters).toMatchObject({ requests: 0, tooOld: 1 });
  });

  it('answers for a target while several others have stalled', async () => {
    const slots = [0, 1, 2, 3, 4];
    const stalled: StalledDevice[] = [];
    const cover = (raw: BlockDevice): BlockDevice => {
      if (stalled.length === slots.length - 1) return raw;
      stalled.push(new StalledDevice(raw));
      return stalled.at(-1) as StalledDevice;
    };
    stage = new Stage(
      slots.map((slot) => ({ ...TARGET, slot })),
      MTU,
      { cover },
    );
    const reads = Array.from({ length: EXCHANGE_COUNT }, (_, lba) =>
      slots.map((slot) => ataRequest({ opcode: 0x24, aflags: 0x40, sectorCount: 1, slot, lba })),
    );
    const stuck = reads.flatMap((perSlot) => perSlot.slice(0, -1));
    await stage.link.deliver(stuck, NOW_US());
    stage.link.sent.length = 0;
    await stage.link.deliver([reads[0]?.at(-1) as Buffer], NOW_US());
    expect(stage.link.sent).toHaveLength(1);
    for (const device of stalled) device.goOn();
  });

  it('answers only those that the configuration allows', async () => {
    const { server } = open({ allow: new Set([INITIATOR]) });
    const stranger = configRequest({ source: '02:00:00:00:00:99' });
    expect(await (stage as Stage).deliver([stranger], NOW_US())).toEqual([]);
    expect(server.counters.denied).toBe(1);
    expect(await (stage as Stage).deliver([configRequest()], NOW_US())).toHaveLength(1);
  });

  it('answers its own address on the loopback interface, where all are zero', async () => {
    open({ loopback: true });
    const zero = { source: '00:00:00:00:00:00' };
    expect(await (stage as Stage).deliver([configRequest(zero)], NOW_US())).toHaveLength(1);
    const group = { source: '01:00:00:00:00:00' };
    expect(await (stage as Stage).deliver([configRequest(group)], NOW_US())).toEqual([]);
  });

  it('counts what it does not answer by its reason', async () => {
    const { server } = open();
    await (stage as Stage).deliver(
      [
        configRequest().subarray(0, 20),
        ataRequest({ opcode: 0xec }).subarray(0, 30),
        configRequest({ source: 'ff:ff:ff:ff:ff:ff' }),
        configRequest({ slot: 5 }),
        ataRequest({ opcode: 0x20, shelf: 0xffff }),
      ],
      NOW_US(),
    );
    expect(server.counters).toMatchObject({ malformed: 2, badSource: 1, notOurs: 2 });
  });

  it('does not execute a write that it comes to too late', async () => {
    open();
    const write = ataRequest({ ...WRITE_EXT, data: sectors(1, 1) });
    expect(await (stage as Stage).deliver([write], NOW_US() - 3_000_000)).toEqual([]);
    expectFrames(await (stage as Stage).deliver([write], NOW_US()), [ataReply(write)]);
  });

  it('neither executes nor answers a write that was overtaken', async () => {
    open();
    const nowUs = NOW_US();
    const write = (fill: number) => ataRequest({ ...WRITE_EXT, data: sectors(1, fill) });
    expect(await (stage as Stage).deliver([write(2)], nowUs - 100)).toHaveLength(1);
    expect(await (stage as Stage).deliver([write(1)], nowUs - 200)).toEqual([]);
    const read = ataRequest({ opcode: 0x24, aflags: 0x40, sectorCount: 1 });
    const [reply] = await (stage as Stage).deliver([read], nowUs - 300);
    expect(dataOf(reply as Buffer)).toEqual(sectors(1, 2));
  });

  it('goes on with no parts that are left of a command that failed', async () => {
    let device: FailingDevice | undefined;
    open({
      cover: (raw) => {
        device = new FailingDevice(raw);
        return device;
      },
    });
    const data = sectors(1, 1);
    const verify = ataRequest({ opcode: 0x42, aflags: 0x40, sectorCount: 64 });
    const write = ataRequest({ ...WRITE_EXT, lba: 100, data });
    const read = ataRequest({ opcode: 0x24, aflags: 0x40, sectorCount: 1, lba: 100 });
    // All of them are answered from the same place, one after the other.
    for (const request of [write, read]) {
      for (const isFailing of [true, false]) {
        (device as FailingDevice).isFailing = isFailing;
        const [reply] = await (stage as Stage).deliver([isFailing ? verify : request], NOW_US());
        expect(reply?.readUInt8(27)).toBe(isFailing ? 0x41 : 0x40);
        if (!isFailing && request === read) expect(dataOf(reply as Buffer)).toEqual(data);
      }
    }
  });

  it('refuses a change that cannot be saved by error 3, and forgets it', async () => {
    const { targets } = open({ save: () => Promise.reject(new Error('no room')) });
    for (const request of [
      configRequest({ ccmd: 4, text: 'lost' }),
      maskRequest(1, [[1, '02:00:00:00:00:01']]),
      reserveRequest(1, ['02:00:00:00:00:01']),
    ]) {
      const [reply] = await (stage as Stage).deliver([request], NOW_US());
      expect(reply?.readUInt16BE(14)).toBe(0x1c03);
    }
    expect(targets[0]?.target.state).toMatchObject({ maskList: [], reserveList: [] });
    expect(targets[0]?.target.state.configString).toHaveLength(0);
  });

  it('drops a change that comes while another one is being saved: it is resent', async () => {
    open();
    const [first, second] = ['one', 'two'].map((text, tag) =>
      configRequest({ ccmd: 4, text, tag }),
    );
    const replies = await (stage as Stage).deliver([first as Buffer, second as Buffer], NOW_US());
    expect(replies.map((reply) => reply.readUInt32BE(20))).toEqual([0]);
  });

  it('sets config strings for a wildcard, and neither mask nor reserve lists', async () => {
    stage = new Stage([TARGET, { ...TARGET, slot: 1, configString: 'mine' }], MTU);
    const everyone = { shelf: 1, slot: 0xff };
    const set = configRequest({ ...everyone, ccmd: 3, text: 'yours' });
    const flags = (await stage.deliver([set], NOW_US())).map((reply) => reply.readUInt16BE(14));
    expect(flags.sort()).toEqual([0x1800, 0x1c04]);
    for (const request of [
      maskRequest(1, [[1, '02:00:00:00:00:42']], everyone),
      reserveRequest(2, ['02:00:00:00:00:42'], everyone),
    ]) {
      expect(await stage.deliver([request], NOW_US())).toEqual([]);
    }
    const states = stage.targets.map(({ target }) => target.state);
    expect(states.map(({ configString }) => Buffer.from(configString).toString())).toEqual([
      'yours',
      'mine',
    ]);
    expect(states.flatMap(({ maskList, reserveList }) => [...maskList, ...reserveList])).toEqual(
      [],
    );
  });

  it('drops a change that arrived before one that is done: it was resent by another way', async () => {
    const { targets } = open();
    const { target } = targets[0] as (typeof targets)[0];
    const change = async (arrivalUs: number, request: Buffer) =>
      (await (stage as Stage).deliver([request], arrivalUs)).length;
    const claim = (text: string) => configRequest({ ccmd: 4, text });
    const fence = (mac: string) => reserveRequest(2, [mac]);
    const nowUs = NOW_US();
    expect(await change(nowUs - 100, claim('new'))).toBe(1);
    expect(await change(nowUs - 200, claim('old'))).toBe(0);
    expect(await change(nowUs - 101, fence('02:00:00:00:00:01'))).toBe(0);
    expect(await change(nowUs - 200, configRequest())).toBe(1);
    expect(await change(nowUs - 100, fence('02:00:00:00:00:42'))).toBe(1);
    expect(Buffer.from(target.state.configString).toString()).toBe('new');
    expect(target.state.reserveList).toEqual([0x0200_0000_0042]);
    // What changes nothing is confirmed, too, and must not be undone.
    expect(await change(nowUs - 50, claim('new'))).toBe(1);
    expect(await change(nowUs - 60, claim('late'))).toBe(0);
    await target.setLists({ reserveList: [] });
    expect(await change(nowUs - 40, claim('late'))).toBe(0);
    expect(Buffer.from(target.state.configString).toString()).toBe('new');
  });

  it('does not switch a write cache on again by an original that was overtaken', async () => {
    const writeCache = { supported: true, enabled: true };
    open({ writeCache });
    const [on, off] = [0x02, 0x82];
    const change = async (arrivalUs: number, feature: number) =>
      (await (stage as Stage).deliver([ataRequest({ opcode: 0xef, feature })], arrivalUs)).length;
    const nowUs = NOW_US();
    expect(await change(nowUs - 100, off)).toBe(1);
    expect(await change(nowUs - 200, on)).toBe(0);
    expect(writeCache.enabled).toBe(false);
    expect(await change(nowUs - 100, on)).toBe(1);
    expect(writeCache.enabled).toBe(true);
  });

  it('takes no change that arrived before it began: another one may have been before it', async () => {
    const nowUs = NOW_US();
    const writeCache = { supported: true, enabled: false };
    open({ sinceUs: nowUs, writeCache });
    for (const request of [
      configRequest({ ccmd: 4, text: 'late' }),
      maskRequest(1, [[1, '02:00:00:00:00:01']]),
      reserveRequest(1, ['02:00:00:00:00:01']),
      ataRequest({ opcode: 0xef, feature: 0x02 }),
    ]) {
      expect(await (stage as Stage).deliver([request], nowUs - 1)).toEqual([]);
      expect(await (stage as Stage).deliver([request], nowUs)).toHaveLength(1);
    }
  });

  it('notes who asks, and how long reads and writes take', async () => {
    const { targets } = open();
    const write = ataRequest({ ...WRITE_EXT, data: sectors(1, 1) });
    const identify = ataRequest({ opcode: 0xec, sectorCount: 1, source: '02:00:00:00:00:09' });
    await (stage as Stage).deliver([write, identify, configRequest()], NOW_US() - 500_000);
    const { target } = targets[0] as (typeof targets)[0];
    const [reads, writes] = target.latencies.map((latency) => latency.distribution());
    expect(reads?.count).toBe(0);
    expect(writes?.count).toBe(1);
    expect(writes?.sum).toBeGreaterThanOrEqual(500_000);
    const seen = target.clients.list().map(({ mac, requests }) => ({ mac, requests }));
    expect(seen.toSorted((a, b) => a.mac - b.mac)).toEqual([
      { mac: INITIATOR, requests: 2 },
      { mac: 0x0200_0000_0009, requests: 1 },
    ]);
  });

  it('measures no request that leaves the disk alone, nor an answer that does not leave', async () => {
    const { targets, server, slab } = open();
    const { latencies } = (targets[0] as (typeof targets)[0]).target;
    const counts = () => latencies.map((latency) => latency.distribution().count);
    const write = ataRequest({ ...WRITE_EXT, data: sectors(1, 1) });
    // All of them are answered from the same place, one after the other.
    for (const request of [write, configRequest(), ataRequest({ opcode: 0xec, sectorCount: 1 })]) {
      expect(await (stage as Stage).deliver([request], NOW_US())).toHaveLength(1);
      expect(counts()).toEqual([0, 1, 0, 0]);
    }
    const link = new LosingLink({ ...LINK, slab: slab.buffer as ArrayBuffer });
    const served = server.serve(link);
    await link.deliver([write], NOW_US());
    await vi.waitUntil(() => link.lostCount === 2);
    expect(counts()).toEqual([0, 1, 0, 0]);
    link.close();
    await served;
  });

  it('takes a trim that is refused, or trims nothing, for no access to the disk', async () => {
    const { targets } = open();
    const { target } = targets[0] as (typeof targets)[0];
    const trim = async (lba: number, sectorCount: number) => {
      const data = Buffer.alloc(512);
      data.writeUIntLE(lba, 0, 6);
      data.writeUInt16LE(sectorCount, 6);
      const request = { opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1, data };
      await (stage as Stage).deliver([ataRequest(request)], NOW_US());
      return target.latencies.map((latency) => latency.distribution().count);
    };
    expect(await trim(SIZE_BYTES / 512, 1)).toEqual([0, 0, 0, 0]);
    expect(await trim(0, 0)).toEqual([0, 0, 0, 0]);
    expect(target.lastAccessUs).toBe(0);
    expect(await trim(0, 1)).toEqual([0, 0, 0, 1]);
    expect(target.lastAccessUs).toBeGreaterThan(0);
  });

  it('lets no part of a trim overtake a write, in whatever order its ranges are', async () => {
    const { targets } = open();
    const [{ storage }] = targets as [(typeof targets)[0]];
    const write = ataRequest({ ...WRITE_EXT, lba: 10, data: sectors(1, 1) });
    // A range of no sectors, which may be anywhere, is none.
    const ranges: [lba: number, sectorCount: number][] = [
      [2, 1],
      [0xffff, 0],
      [10, 1],
      [20, 1],
    ];
    for (const inOrder of [ranges, ranges.toReversed()]) {
      const data = Buffer.alloc(512);
      inOrder.forEach(([lba, sectorCount], index) => {
        data.writeUInt16LE(lba, 8 * index);
        data.writeUInt16LE(sectorCount, 8 * index + 6);
      });
      const trim = ataRequest({ opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1, data });
      const replies = await (stage as Stage).deliver([trim, write], NOW_US());
      expect(replies.map((reply) => reply.readUInt8(27))).toEqual([0x40, 0x40]);
      expect(await storage.read(10 * 512, 512)).toEqual(sectors(1, 1));
    }
  });

  it('lets the operator replace one list, whoever holds the target', async () => {
    const saved: SavedTarget[] = [];
    const { targets } = open({ save: async (state) => void saved.push(state) });
    const { target } = targets[0] as (typeof targets)[0];
    await target.setLists({ reserveList: [7] });
    await target.setLists({ maskList: [INITIATOR] });
    expect(target.state).toMatchObject({ maskList: [INITIATOR], reserveList: [7] });
    expect(saved.at(-1)).toMatchObject({ maskList: [INITIATOR], reserveList: [7] });
    expect(target.isReservedAgainst(INITIATOR)).toBe(true);
  });

  it('saves one state after the other, the last with all changes, before it is closed', async () => {
    const saves: (() => void)[] = [];
    const saved: SavedTarget[] = [];
    const save = async (state: SavedTarget) => {
      saved.push(state);
      await new Promise<void>((resolve) => saves.push(resolve));
    };
    const { targets } = open({ save });
    const { target } = targets[0] as (typeof targets)[0];
    const closed = vi.spyOn(target.device, 'close');
    const lists = [{ reserveList: [7] }, { maskList: [INITIATOR] }];
    const set = lists.map((list) => target.setLists(list));
    const closing = target.close();
    for (const count of [1, 2]) {
      await vi.waitUntil(() => saves.length > 0);
      expect(saved).toHaveLength(count);
      expect(closed).not.toHaveBeenCalled();
      saves.pop()?.();
    }
    await Promise.all([...set, closing]);
    expect(closed).toHaveBeenCalledOnce();
    for (const state of [saved.at(-1), target.state]) {
      expect(state).toMatchObject({ maskList: [INITIATOR], reserveList: [7] });
    }
  });

  it('tells the operator of a list that cannot be saved, and forgets it', async () => {
    const { targets } = open({ save: () => Promise.reject(new Error('disk full')) });
    const { target } = targets[0] as (typeof targets)[0];
    await expect(target.setLists({ maskList: [7] })).rejects.toThrow('disk full');
    expect(target.state.maskList).toEqual([]);
  });

  it('counts what a reservation refused', async () => {
    const { targets } = open();
    const frames = [reserveRequest(1, ['02:00:00:00:00:42']), ataRequest({ opcode: 0x20 })];
    for (const frame of frames) await (stage as Stage).deliver([frame], NOW_US());
    expect(targets[0]?.target.reservationConflicts).toBe(1);
  });

  it('tells initiators of a size that has grown, once it is remembered', async () => {
    const saved: number[] = [];
    const { link, targets } = open({
      save: async ({ sizeBytes }) => {
        saved.push(sizeBytes);
      },
    });
    link.sent.length = 0;
    targets[0]?.target.grown(SIZE_BYTES);
    expect(link.sent).toEqual([]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(saved).toEqual([SIZE_BYTES]);
    expect(link.sent.map((frame) => frame.readUInt8(19))).toEqual([1]);
  });

  it('finds in IDENTIFY that the device has grown, and reports it once it is remembered', async () => {
    const saved: number[] = [];
    const { targets } = open({
      save: async ({ sizeBytes }) => {
        saved.push(sizeBytes);
      },
      cover: (raw) => new GrowingDevice(raw),
    });
    expect(await identifySectors(stage as Stage)).toEqual([GROWN_BYTES / 512]);
    expect(saved).toEqual([GROWN_BYTES]);
    expect(await identifySectors(stage as Stage)).toEqual([GROWN_BYTES / 512]);
    expect(saved).toEqual([GROWN_BYTES]);
    expect(targets[0]?.target.device.sizeBytes).toBe(GROWN_BYTES);
    await (stage as Stage).deliver([configRequest({ ccmd: 3, text: 'mine' })], NOW_US());
    expect(saved).toEqual([GROWN_BYTES, GROWN_BYTES]);
  });

  it('reports the old size for as long as the new one cannot be remembered', async () => {
    let isFull = true;
    open({
      save: () => (isFull ? Promise.reject(new Error('no room')) : Promise.resolve()),
      cover: (raw) => new GrowingDevice(raw),
    });
    expect(await identifySectors(stage as Stage)).toEqual([SIZE_BYTES / 512]);
    isFull = false;
    expect(await identifySectors(stage as Stage)).toEqual([GROWN_BYTES / 512]);
  });

  it('remembers no size with a change that could not be remembered before', async () => {
    const saved: SavedTarget[] = [];
    const { targets } = open({
      save: async (state) => {
        if (state.sizeBytes > SIZE_BYTES) throw new Error('no room');
        saved.push(state);
      },
      cover: (raw) => new GrowingDevice(raw),
    });
    expect(await identifySectors(stage as Stage)).toEqual([SIZE_BYTES / 512]);
    const claim = configRequest({ ccmd: 3, text: 'mine' });
    const [reply] = await (stage as Stage).deliver([claim], NOW_US());
    expect(reply?.readUInt16BE(14)).toBe(0x1800);
    await targets[0]?.target.remember();
    expect(saved.map(({ sizeBytes }) => sizeBytes)).toEqual([SIZE_BYTES, SIZE_BYTES]);
  });

  it('remembers no size to which a device has grown since that one was durable', async () => {
    const saved: number[] = [];
    const { targets } = open({
      save: async ({ sizeBytes }) => void saved.push(sizeBytes),
      cover: (raw) => new GrowingDevice(raw),
    });
    const { target } = targets[0] as (typeof targets)[0];
    target.device.refresh();
    expect(target.device.sizeBytes).toBe(GROWN_BYTES);
    await target.grown(SIZE_BYTES);
    expect(saved).toEqual([SIZE_BYTES]);
  });

  it('does not tell of a size that could not be remembered', async () => {
    const { link, targets } = open({ save: () => Promise.reject(new Error('no room')) });
    link.sent.length = 0;
    await expect(targets[0]?.target.grown(GROWN_BYTES)).rejects.toThrow('no room');
    await new Promise((resolve) => setImmediate(resolve));
    expect(link.sent).toEqual([]);
  });

  it('knows a target no more that was taken out of its table', () => {
    const { targets } = open();
    const { target } = targets[0] as (typeof targets)[0];
    const table = new TargetTable();
    table.add(target);
    expect([table.remove(target.address), table.remove(target.address)]).toEqual([
      target,
      undefined,
    ]);
    expect([table.find(target.address), table.count]).toEqual([undefined, 0]);
  });

  it('refuses two targets of one address', () => {
    expect(() => new Stage([TARGET, TARGET], MTU)).toThrow('e1.0 is taken');
  });
});
