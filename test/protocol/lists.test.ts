import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  aoeReply,
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  configReply,
  configRequest,
  type Directive,
  expectFrames,
  INITIATOR_MAC,
  maskReply,
  maskRequest,
  reserveReply,
  reserveRequest,
  sectors,
} from './frames.ts';
import { memoryTarget, Served, TOOLS } from './served.ts';

const READ = 0;
const EDIT = 1;
const NOP = 0;
const ADD = 1;
const REMOVE = 2;
const BAD_ARGUMENT = 2;
const RESERVED = 6;
const OTHER_MAC = '02:00:00:00:00:42';

function mac(index: number): string {
  return `02:00:00:01:00:${index.toString(16).padStart(2, '0')}`;
}

/** Requests of every kind to one target. */
function everything(slot: number, source: string): Buffer[] {
  const header = { slot, source };
  return [
    configRequest(header),
    maskRequest(READ, [], header),
    maskRequest(EDIT, [[ADD, source]], header),
    reserveRequest(0, [], header),
    reserveRequest(2, [], header),
    ataRequest({ ...header, opcode: 0xec, sectorCount: 1 }),
    ataRequest({ ...header, opcode: 0x20, sectorCount: 1 }),
  ];
}

describeWith(TOOLS, 'MAC mask and reserve lists', () => {
  let served: Served;

  async function expectReply(request: Buffer, reply: Buffer): Promise<void> {
    expectFrames(await served.client.exchange(request, 1), [reply]);
  }

  /** Gives a target this mask list; the initiator itself stays on it. */
  async function setMask(slot: number, macs: readonly string[]): Promise<void> {
    const request = maskRequest(
      EDIT,
      macs.map((each) => [ADD, each] as const),
      { slot },
    );
    await expectReply(request, maskReply(request, EDIT, macs));
  }

  beforeAll(async () => {
    served = await Served.start(Array.from({ length: 14 }, (_, slot) => memoryTarget(1, slot)));
  });
  afterAll(() => disposeAll(served));
  afterEach(() => served.client.setMac(INITIATOR_MAC));

  describe('MAC mask list', () => {
    it('38. reads the list, and edits it by directives in their order', async () => {
      const read = maskRequest(READ);
      await expectReply(read, maskReply(read, READ, []));
      const own = INITIATOR_MAC;
      const steps: [Directive[], string[]][] = [
        [[[ADD, own]], [own]],
        [
          [
            [ADD, own],
            [NOP, mac(9)],
          ],
          [own],
        ],
        [
          [
            [ADD, mac(1)],
            [ADD, mac(2)],
            [ADD, mac(1)],
          ],
          [own, mac(1), mac(2)],
        ],
        [
          [
            [REMOVE, mac(1)],
            [ADD, mac(3)],
            [REMOVE, mac(8)],
          ],
          [own, mac(2), mac(3)],
        ],
        [
          [
            [ADD, mac(4)],
            [REMOVE, mac(4)],
          ],
          [own, mac(2), mac(3)],
        ],
        [[], [own, mac(2), mac(3)]],
      ];
      for (const [directives, list] of steps) {
        const edit = maskRequest(EDIT, directives);
        await expectReply(edit, maskReply(edit, EDIT, list));
        await expectReply(read, maskReply(read, READ, list));
      }
    });

    it('39. stops at a bad directive, tells its index, and keeps what came before', async () => {
      const slot = 1;
      const read = maskRequest(READ, [], { slot });
      for (const dcmd of [3, 0xff]) {
        const bad = maskRequest(
          EDIT,
          [
            [ADD, INITIATOR_MAC],
            [dcmd, mac(1)],
            [ADD, mac(2)],
          ],
          {
            slot,
          },
        );
        await expectReply(bad, maskReply(bad, EDIT, [], { error: 2, index: 1 }));
        await expectReply(read, maskReply(read, READ, [INITIATOR_MAC]));
      }
    });

    it('39. refuses more than 255 entries by mask error 3', async () => {
      const slot = 2;
      const all = Array.from({ length: 254 }, (_, index) => mac(index));
      const directives: Directive[] = [INITIATOR_MAC, ...all].map((each) => [ADD, each]);
      for (const [from, to] of [
        [0, 128],
        [128, 255],
      ]) {
        const part = maskRequest(EDIT, directives.slice(from, to), { slot });
        expect(await served.client.exchange(part, 1)).toHaveLength(1);
      }
      const full = maskRequest(
        EDIT,
        [
          [ADD, mac(5)],
          [ADD, OTHER_MAC],
        ],
        { slot },
      );
      await expectReply(full, maskReply(full, EDIT, [], { error: 3, index: 1 }));
      const swap = maskRequest(
        EDIT,
        [
          [REMOVE, mac(5)],
          [ADD, OTHER_MAC],
        ],
        { slot },
      );
      const [reply] = await served.client.exchange(swap, 1);
      expect(reply?.readUInt8(26)).toBe(0);
    });

    it('39. refuses mask commands from 2 on by error 2', async () => {
      for (const mcmd of [2, 3, 0xff]) {
        const request = maskRequest(mcmd, [[ADD, mac(1)]], { slot: 3 });
        await expectReply(request, aoeReply(request, [0, mcmd], { aoeError: BAD_ARGUMENT }));
      }
    });

    it('40. refuses more directives than were sent by error 2, and applies none', async () => {
      const slot = 3;
      for (const count of [3, 255]) {
        const directives: Directive[] = [
          [ADD, mac(1)],
          [ADD, mac(2)],
        ];
        const request = maskRequest(EDIT, directives, { slot, count });
        await expectReply(request, aoeReply(request, [0, EDIT], { aoeError: BAD_ARGUMENT }));
      }
      const read = maskRequest(READ, [], { slot });
      await expectReply(read, maskReply(read, READ, []));
    });

    it('41. is silent to those who are not on the list, whatever they ask', async () => {
      const slot = 4;
      await setMask(slot, [OTHER_MAC]);
      for (const request of everything(slot, INITIATOR_MAC)) {
        expectFrames(await served.client.exchange(request), []);
      }
      const wildcard = configRequest({ destination: BROADCAST_MAC, shelf: 1, slot: 0xff });
      const answered = (await served.client.exchange(wildcard)).map((reply) => reply[18]);
      expect(answered).not.toContain(slot);
      await served.client.setMac(OTHER_MAC);
      for (const request of everything(slot, OTHER_MAC)) {
        expect(await served.client.exchange(request, 1)).toHaveLength(1);
      }
    });

    it('42. cuts a list that does not fit in the MTU, and its count with it', async () => {
      const read = maskRequest(READ, [], { slot: 2 });
      const [reply] = await served.client.exchange(read, 1);
      const count = reply?.readUInt8(27) ?? 0;
      expect(count).toBe(Math.floor((1500 + 14 - 28) / 8));
      expect(reply).toHaveLength(28 + 8 * count);
    });
  });

  describe('reserve and release', () => {
    const own = INITIATOR_MAC;

    it('43. reads, reserves, hands on and releases', async () => {
      const slot = 5;
      const request = (rcmd: number, macs: string[] = []) => reserveRequest(rcmd, macs, { slot });
      const expectList = async (rcmd: number, macs: string[]) =>
        expectReply(request(rcmd, macs), reserveReply(request(rcmd, macs), rcmd, macs));
      await expectList(0, []);
      await expectList(1, [own, mac(1)]);
      await expectReply(request(0), reserveReply(request(0), 0, [own, mac(1)]));
      await expectList(1, [mac(2)]);
      const refused = reserveReply(request(1), 1, [mac(2)], { aoeError: RESERVED });
      await expectReply(request(1, [own]), refused);
      await expectReply(request(1), refused);
      await expectReply(request(0), reserveReply(request(0), 0, [mac(2)]));
      await expectList(2, [own]);
      await expectList(1, []);
      await expectReply(request(0), reserveReply(request(0), 0, []));
      await expectList(2, [mac(3)]);
      await expectList(2, []);
      await expectReply(request(0), reserveReply(request(0), 0, []));
    });

    it('43. refuses other commands and lists cut short by error 2', async () => {
      const slot = 6;
      for (const request of [
        reserveRequest(3, [], { slot }),
        reserveRequest(0xff, [own], { slot }),
        reserveRequest(1, [own], { slot, count: 2 }),
        reserveRequest(2, [own], { slot, count: 255 }),
        reserveRequest(1, [], { slot, count: 1 }),
      ]) {
        const rcmd = request.readUInt8(24);
        await expectReply(request, reserveReply(request, rcmd, [], { aoeError: BAD_ARGUMENT }));
      }
      const read = reserveRequest(0, [], { slot });
      await expectReply(read, reserveReply(read, 0, []));
    });

    it('44. refuses all of ATA but IDENTIFY to those who do not hold it, by error 6', async () => {
      const slot = 7;
      const reserve = reserveRequest(1, [OTHER_MAC], { slot });
      await expectReply(reserve, reserveReply(reserve, 1, [OTHER_MAC]));
      for (const opcode of [0x20, 0x24, 0x30, 0x34, 0xe7, 0xea, 0xe5, 0xb0, 0xef, 0x06, 0x99]) {
        const data = sectors(1, 1);
        const request = ataRequest({ slot, opcode, aflags: 0x41, sectorCount: 1, data });
        await expectReply(request, aoeReply(request, [], { aoeError: RESERVED }));
      }
      const identify = ataRequest({ slot, opcode: 0xec, sectorCount: 1 });
      const [identity] = await served.client.exchange(identify);
      expect(identity).toHaveLength(548);
      const config = configRequest({ slot });
      await expectReply(config, configReply(config));
      await served.client.setMac(OTHER_MAC);
      const header = { slot, source: OTHER_MAC };
      const read = ataRequest({ ...header, opcode: 0x24, sectorCount: 1 });
      await expectReply(read, ataReply(read, { data: Buffer.alloc(512) }));
    });

    it('45. keeps both lists over a crash', async () => {
      const slot = 8;
      await setMask(slot, [own, mac(1)]);
      const reserve = reserveRequest(1, [OTHER_MAC, mac(2)], { slot });
      await expectReply(reserve, reserveReply(reserve, 1, [OTHER_MAC, mac(2)]));
      await served.server.kill();
      await served.start();
      const masks = maskRequest(READ, [], { slot });
      await expectReply(masks, maskReply(masks, READ, [own, mac(1)]));
      const reservations = reserveRequest(0, [], { slot });
      await expectReply(reservations, reserveReply(reservations, 0, [OTHER_MAC, mac(2)]));
      const read = ataRequest({ slot, opcode: 0x24, sectorCount: 1 });
      await expectReply(read, aoeReply(read, [], { aoeError: RESERVED }));
    });
  });
});
