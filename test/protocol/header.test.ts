import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  aoeReply,
  aoeRequest,
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  configReply,
  configRequest,
  expectFrames,
  INITIATOR_MAC,
  maskRequest,
  padded,
  reserveRequest,
  sectors,
  TARGET_MAC,
} from './frames.ts';
import { memoryTarget, Served, TOOLS } from './served.ts';

const OTHER_MAC = '02:00:00:00:00:77';
const READ_EXT = 0x24;
const WRITE_EXT = 0x34;

describeWith(TOOLS, 'addresses and the common header', () => {
  let served: Served;

  /** Replies in the order of their addresses. */
  async function ask(request: Buffer | Buffer[]): Promise<Buffer[]> {
    const replies = await served.client.exchange(request);
    return replies.sort((a, b) => a.readUIntBE(16, 3) - b.readUIntBE(16, 3));
  }

  beforeAll(async () => {
    served = await Served.start([
      memoryTarget(1, 0),
      memoryTarget(1, 7, { config_string: 'seven' }),
      memoryTarget(2, 7),
    ]);
  });
  afterAll(() => disposeAll(served));

  const FENCE_ADDRESS = { shelf: 9, slot: 9 };

  it('1. answers a wildcard once for each target that matches, with its real address', async () => {
    const broadcast = { destination: BROADCAST_MAC };
    const all = configRequest({ ...broadcast, shelf: 0xffff, slot: 0xff });
    expectFrames(await ask(all), [
      configReply(all, { shelf: 1, slot: 0 }),
      configReply(all, { shelf: 1, slot: 7, text: 'seven' }),
      configReply(all, { shelf: 2, slot: 7 }),
      configReply(all, FENCE_ADDRESS),
    ]);
    const slot = configRequest({ ...broadcast, shelf: 0xffff, slot: 7 });
    expectFrames(await ask(slot), [
      configReply(slot, { shelf: 1, slot: 7, text: 'seven' }),
      configReply(slot, { shelf: 2, slot: 7 }),
    ]);
    const shelf = configRequest({ ...broadcast, shelf: 1, slot: 0xff });
    expectFrames(await ask(shelf), [
      configReply(shelf, { shelf: 1, slot: 0 }),
      configReply(shelf, { shelf: 1, slot: 7, text: 'seven' }),
    ]);
    const one = configRequest({ ...broadcast, shelf: 2, slot: 7 });
    expectFrames(await ask(one), [configReply(one)]);
  });

  it('2. is silent for another shelf or slot', async () => {
    for (const address of [
      { shelf: 1, slot: 1 },
      { shelf: 3, slot: 0 },
      { shelf: 3, slot: 0xff },
      { shelf: 0xffff, slot: 8 },
    ]) {
      expectFrames(await ask(configRequest(address)), []);
      expectFrames(await ask(ataRequest({ ...address, opcode: 0xec, sectorCount: 1 })), []);
    }
  });

  it('3. is silent when the response bit is set', async () => {
    expectFrames(await ask(configRequest({ versionFlags: 0x18 })), []);
    expectFrames(await ask(configRequest({ versionFlags: 0x1c, error: 4 })), []);
    const identify = { opcode: 0xec, sectorCount: 1, versionFlags: 0x18 };
    expectFrames(await ask(ataRequest(identify)), []);
  });

  it('4. refuses another version by error 5, and is silent when a wildcard asks', async () => {
    for (const versionFlags of [0x00, 0x20, 0xf0]) {
      const request = configRequest({ versionFlags });
      expectFrames(await ask(request), [aoeReply(request, [], { aoeError: 5 })]);
      expectFrames(await ask(configRequest({ versionFlags, shelf: 0xffff, slot: 0xff })), []);
    }
  });

  it('5. answers with clean flags, whatever flags and error the request carries', async () => {
    for (const versionFlags of [0x14, 0x11, 0x12, 0x17]) {
      const request = configRequest({ versionFlags, error: 7 });
      const [reply] = await ask(request);
      expect(reply).toEqual(configReply(request));
      expect(reply?.readUInt16BE(14)).toBe(0x1800);
    }
  });

  it('6. is silent for a destination that is neither ours nor broadcast', async () => {
    await served.network.run('ip', ['link', 'set', 'aoe0', 'promisc', 'on']);
    expectFrames(await ask(configRequest({ destination: OTHER_MAC })), []);
    expectFrames(await ask(configRequest({ destination: '01:00:5e:00:00:01' })), []);
    const tag = Buffer.from([0x81, 0x00, 0x00, 0x05]);
    for (const frame of [configRequest(), configRequest({ destination: BROADCAST_MAC })]) {
      const inVlan = Buffer.concat([frame.subarray(0, 12), tag, frame.subarray(12)]);
      expectFrames(await ask(inVlan), []);
    }
    await served.network.run('ip', ['link', 'set', 'aoe0', 'promisc', 'off']);
  });

  it('6. is silent for what is for an interface on top of ours, though it comes in here', async () => {
    const above = ['link', 'add', 'link', 'aoe0', 'name', 'above0', 'address', OTHER_MAC];
    await served.network.run('ip', [...above, 'type', 'macvlan', 'mode', 'bridge']);
    await served.network.run('ip', ['link', 'set', 'above0', 'up']);
    expectFrames(await ask(configRequest({ destination: OTHER_MAC })), []);
    const toAll = configRequest({ destination: BROADCAST_MAC });
    expectFrames(await ask(toAll), [configReply(toAll)]);
    await served.network.run('ip', ['link', 'del', 'above0']);
  });

  it('7. is silent for a source that is a group, zero or our own', async () => {
    for (const source of [
      BROADCAST_MAC,
      '01:00:5e:00:00:01',
      '03:00:00:00:00:01',
      '00:00:00:00:00:00',
      TARGET_MAC,
    ]) {
      expectFrames(await ask(configRequest({ source })), []);
    }
  });

  it('8. is silent for a frame that is too short for its command', async () => {
    for (const [request, sizeMin] of [
      [aoeRequest({}, Buffer.alloc(60)), 24],
      [configRequest({ text: 'x' }), 32],
      [ataRequest({ opcode: 0xec, sectorCount: 1 }), 36],
      [maskRequest(0), 28],
      [reserveRequest(0), 26],
    ] as const) {
      for (let size = 14; size < sizeMin; size++) {
        expectFrames(await ask(request.subarray(0, size)), []);
      }
      if (sizeMin > 24) expect(await ask(request.subarray(0, sizeMin))).toHaveLength(1);
    }
  });

  it('9. handles a frame alike with and without padding, which is no payload', async () => {
    const identify = ataRequest({ opcode: 0xec, sectorCount: 1 });
    expect(identify.length).toBe(36);
    expectFrames(await ask(padded(identify)), await ask(identify));
    const config = configRequest();
    expect(config.length).toBe(32);
    expectFrames(await ask(padded(config)), [configReply(config)]);
    // The padding of an empty test string is not taken for a string, nor that of a write for data.
    const test = configRequest({ ccmd: 1 });
    expectFrames(await ask(padded(test)), [configReply(test, { ccmd: 1 })]);
    const write = ataRequest({ opcode: WRITE_EXT, aflags: 0x41, sectorCount: 1 });
    expectFrames(await ask(padded(write)), []);
  });

  it('10. refuses an unknown command by error 1, vendor commands too', async () => {
    for (const command of [4, 5, 0x7f, 0xef, 0xf0, 0xff]) {
      const request = aoeRequest({ command }, Buffer.alloc(36, 0x5a));
      const [reply, ...more] = await ask(request);
      expect(reply).toEqual(aoeReply(request, [], { aoeError: 1 }));
      expect(more).toEqual([]);
      expectFrames(await ask(aoeRequest({ command, shelf: 0xffff, slot: 0xff })), []);
    }
  });

  it('11. echoes any tag', async () => {
    for (const tag of [0xffff_ffff, 0, 0x8000_0000, 0x7fff_ffff]) {
      const config = configRequest({ tag });
      expectFrames(await ask(config), [configReply(config)]);
      const check = ataRequest({ tag, opcode: 0xe5 });
      expectFrames(await ask(check), [ataReply(check, { sectorCount: 0xff })]);
    }
  });

  it('12. answers a frame as often as it comes, and executes equal tags with different LBAs', async () => {
    const config = configRequest();
    expectFrames(await ask([config, config]), [configReply(config), configReply(config)]);
    const write = (lba: number) =>
      ataRequest({ opcode: WRITE_EXT, aflags: 0x41, sectorCount: 1, lba, data: sectors(1, lba) });
    // The last waits for the first, and other requests may overtake it.
    const replies = await served.client.exchange([write(10), write(11), write(10)], 3);
    expectFrames(replies, [ataReply(write(10)), ataReply(write(11)), ataReply(write(10))]);
    const read = ataRequest({ opcode: READ_EXT, aflags: 0x40, sectorCount: 2, lba: 10 });
    const data = Buffer.concat([sectors(1, 10), sectors(1, 11)]);
    expectFrames(await ask(read), [ataReply(read, { data })]);
  });

  it('answers out of the interface and from the address on which it was asked', async () => {
    const [reply] = await ask(configRequest({ destination: BROADCAST_MAC }));
    expect(reply?.toString('hex', 0, 12)).toBe((INITIATOR_MAC + TARGET_MAC).replaceAll(':', ''));
  });
});
