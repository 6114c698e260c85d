import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  type AtaFields,
  type AtaReplyFields,
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  dataOf,
  expectFrames,
  SECTOR_SIZE,
  sectors,
  statusOf,
} from './frames.ts';
import { MIB, memoryTarget, Served, TOOLS } from './served.ts';

const SIZE_SECTORS = (8 * MIB) / SECTOR_SIZE;
const ABORTED = { status: 0x41, error: 0x04 };
const OUT_OF_RANGE = { status: 0x41, error: 0x10 };

const IDENTIFY = { opcode: 0xec, sectorCount: 1 };
const READ = { opcode: 0x20, sectorCount: 1 };
const READ_EXT = { opcode: 0x24, aflags: 0x40, sectorCount: 1 };
const WRITE = { opcode: 0x30, aflags: 0x01, sectorCount: 1 };
const WRITE_EXT = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };

describeWith(TOOLS, 'ATA commands', () => {
  let served: Served;

  async function ask(fields: AtaFields, replyCount = 0): Promise<Buffer[]> {
    return served.client.exchange(ataRequest(fields), replyCount);
  }

  /** The one reply to a request is this, to the byte: what is not named here is zero (29). */
  async function expectReply(fields: AtaFields, reply: AtaReplyFields): Promise<void> {
    const request = ataRequest(fields);
    expectFrames(await served.client.exchange(request, 1), [ataReply(request, reply)]);
  }

  async function write(lba: number, data: Buffer): Promise<void> {
    const sectorCount = data.length / SECTOR_SIZE;
    await expectReply({ ...WRITE_EXT, lba, sectorCount, data }, { status: 0x40 });
  }

  async function read(lba: number, sectorCount: number): Promise<Buffer> {
    const [reply] = await ask({ ...READ_EXT, lba, sectorCount }, 1);
    return dataOf(reply as Buffer);
  }

  beforeAll(async () => {
    served = await Served.start([
      memoryTarget(1, 0),
      memoryTarget(1, 1, { read_only: true }),
      memoryTarget(1, 2, { write_cache: true }),
    ]);
  });
  afterAll(() => disposeAll(served));

  describe('IDENTIFY', () => {
    it('13. answers with 548 bytes, by broadcast to ffff.ff too, whatever aflags say', async () => {
      for (const aflags of [0, 0x40, 0x01, 0x02, 0x10, 0xff]) {
        const [reply, ...more] = await ask({ ...IDENTIFY, aflags });
        expect(reply).toHaveLength(36 + 512);
        expect(reply?.subarray(24, 36)).toEqual(Buffer.from('000000400000000000000000', 'hex'));
        expect(more).toEqual([]);
      }
      const everyone = { destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff };
      const replies = await ask({ ...IDENTIFY, ...everyone });
      expect(replies.map((reply) => reply.length)).toEqual([548, 548, 548, 548]);
    });

    it('13. ignores data behind it, up to a whole frame', async () => {
      const plain = (await ask(IDENTIFY)) as [Buffer];
      for (const sectorCount of [1, 2]) {
        const data = Buffer.alloc(sectorCount * SECTOR_SIZE, 0xed);
        expectFrames(await ask({ ...IDENTIFY, data }), plain);
      }
    });

    it('14. answers with the same 512 bytes when the sector count is 0 or 2', async () => {
      const plain = (await ask(IDENTIFY)) as [Buffer];
      expectFrames(await ask({ ...IDENTIFY, sectorCount: 0 }), plain);
      expectFrames(await ask({ ...IDENTIFY, sectorCount: 2 }), plain);
    });

    it('tells the size in the words that initiators read', async () => {
      const [reply] = await ask(IDENTIFY);
      const words = dataOf(reply as Buffer);
      expect(words.readUInt16LE(2 * 49) & 0x0200).toBe(0x0200);
      expect(words.readUInt16LE(2 * 83) & 0xc400).toBe(0x4400);
      expect(words.readUInt16LE(2 * 86) & 0x0400).toBe(0x0400);
      expect(words.readUInt32LE(2 * 60)).toBe(SIZE_SECTORS);
      expect(words.readBigUInt64LE(2 * 100)).toBe(BigInt(SIZE_SECTORS));
    });
  });

  describe('READ', () => {
    it('15. answers with exactly 36 + 512 n bytes', async () => {
      await write(100, sectors(2, 1));
      for (const sectorCount of [1, 2]) {
        const data = sectors(2, 1).subarray(0, sectorCount * SECTOR_SIZE);
        await expectReply({ ...READ_EXT, lba: 100, sectorCount }, { data });
      }
    });

    it('16. aborts more sectors than fit in a frame', async () => {
      for (const sectorCount of [3, 16, 255]) {
        await expectReply({ ...READ_EXT, sectorCount }, ABORTED);
      }
    });

    it('17. aborts a sector count of 0, which is neither nothing nor 256', async () => {
      await expectReply({ ...READ, sectorCount: 0 }, ABORTED);
      await expectReply({ ...READ_EXT, sectorCount: 0 }, ABORTED);
      await expectReply({ ...WRITE, sectorCount: 0, data: sectors(2, 9) }, ABORTED);
      await expectReply({ ...WRITE_EXT, sectorCount: 0, data: sectors(2, 9) }, ABORTED);
      expect(await read(0, 2)).toEqual(Buffer.alloc(1024));
    });

    it('18. finds no sector beyond the end, and moves no part of the rest', async () => {
      const last = SIZE_SECTORS - 1;
      for (const lba of [last, SIZE_SECTORS, SIZE_SECTORS + 1, 2 ** 32 - 1, 2 ** 48 - 1]) {
        await expectReply({ ...READ_EXT, lba, sectorCount: 2 }, OUT_OF_RANGE);
        const data = sectors(2, 8);
        await expectReply({ ...WRITE_EXT, lba, sectorCount: 2, data }, OUT_OF_RANGE);
      }
      expect(await read(last, 1)).toEqual(Buffer.alloc(SECTOR_SIZE));
      expect(await read(0, 2)).toEqual(Buffer.alloc(2 * SECTOR_SIZE));
      await write(last, sectors(1, 7));
      expect(await read(last, 1)).toEqual(sectors(1, 7));
    });

    it('19. takes 28 bits of the LBA for 20 and 30, 48 for 24 and 34, whatever E says', async () => {
      const lba = 200;
      const inDeviceRegister = lba + 0xe000_0000;
      const data = sectors(1, 19);
      for (const aflags of [0x01, 0x41]) {
        await expectReply({ ...WRITE, aflags, lba: inDeviceRegister, data }, {});
        await expectReply({ ...WRITE, aflags, lba: inDeviceRegister + 0x0102 * 2 ** 32, data }, {});
        await expectReply({ ...WRITE_EXT, aflags, lba: inDeviceRegister, data }, OUT_OF_RANGE);
      }
      for (const aflags of [0x00, 0x40]) {
        await expectReply({ ...READ, aflags, lba: inDeviceRegister }, { data });
        await expectReply({ ...READ_EXT, aflags, lba }, { data });
        await expectReply({ ...READ_EXT, aflags, lba: inDeviceRegister }, OUT_OF_RANGE);
      }
    });
  });

  describe('WRITE', () => {
    it('20. is silent when data is missing, and ignores data beyond it', async () => {
      await write(300, sectors(2, 3));
      const whole = ataRequest({ ...WRITE_EXT, lba: 300, sectorCount: 2, data: sectors(2, 4) });
      for (const size of [36, 60, 36 + 512, 36 + 1023]) {
        expectFrames(await served.client.exchange(whole.subarray(0, size)), []);
      }
      expect(await read(300, 2)).toEqual(sectors(2, 3));
      await expectReply({ ...WRITE_EXT, lba: 300, data: sectors(2, 5) }, {});
      const after = Buffer.concat([sectors(1, 5), sectors(2, 3).subarray(SECTOR_SIZE)]);
      expect(await read(300, 2)).toEqual(after);
    });

    it('21. aborts a WRITE without the W flag and a READ with it', async () => {
      await write(400, sectors(1, 1));
      for (const opcode of [0x30, 0x34]) {
        const data = sectors(1, 2);
        await expectReply({ opcode, aflags: 0x40, lba: 400, sectorCount: 1, data }, ABORTED);
      }
      for (const opcode of [0x20, 0x24]) {
        await expectReply({ opcode, aflags: 0x41, lba: 400, sectorCount: 1 }, ABORTED);
      }
      expect(await read(400, 1)).toEqual(sectors(1, 1));
    });

    it('22. takes a READ with zero payload for a READ: LBA 0 stays as it was', async () => {
      await write(0, sectors(2, 22));
      const probe = { ...READ_EXT, lba: 0, sectorCount: 2, data: Buffer.alloc(1024) };
      await expectReply(probe, { data: sectors(2, 22) });
      expect(await read(0, 2)).toEqual(sectors(2, 22));
    });

    it('23. writes as durably with the A flag as without', async () => {
      const data = sectors(1, 23);
      await expectReply({ ...WRITE_EXT, aflags: 0x43, lba: 500, data }, {});
      expect(await read(500, 1)).toEqual(data);
    });

    it('24. is silent for a READ or WRITE to a wildcard', async () => {
      await write(600, sectors(1, 1));
      for (const address of [
        { shelf: 0xffff, slot: 0xff },
        { shelf: 1, slot: 0xff },
        { shelf: 0xffff, slot: 0 },
      ]) {
        const wildcard = { ...address, destination: BROADCAST_MAC, lba: 600 };
        expectFrames(await ask({ ...READ_EXT, ...wildcard }), []);
        expectFrames(await ask({ ...WRITE_EXT, ...wildcard, data: sectors(1, 2) }), []);
        expectFrames(await ask({ opcode: 0xea, ...wildcard }), []);
      }
      expect(await read(600, 1)).toEqual(sectors(1, 1));
    });

    it('27. aborts a WRITE to a read-only target at once', async () => {
      await expectReply({ ...WRITE_EXT, slot: 1, data: sectors(1, 1) }, ABORTED);
      await expectReply({ ...WRITE, slot: 1, data: sectors(1, 1) }, ABORTED);
      await expectReply({ ...READ_EXT, slot: 1 }, { data: Buffer.alloc(SECTOR_SIZE) });
    });
  });

  describe('other commands', () => {
    it('25. flushes by E7 and EA', async () => {
      for (const opcode of [0xe7, 0xea]) {
        await expectReply({ opcode }, {});
        await expectReply({ opcode, aflags: 0x40, lba: 0xe000_0000 }, {});
      }
    });

    it('26. is active when asked by E5', async () => {
      await expectReply({ opcode: 0xe5 }, { sectorCount: 0xff });
    });

    it('26. aborts what it does not know', async () => {
      for (const opcode of [0xc8, 0xca, 0x25, 0x35, 0x00, 0x08, 0x90, 0xa1, 0xf5, 0xff]) {
        await expectReply({ opcode, sectorCount: 1, data: sectors(1, 1) }, ABORTED);
      }
    });

    it('26. rests by E0 to E3 and E6 without an error, and stays ready', async () => {
      for (const opcode of [0xe0, 0xe1, 0xe2, 0xe3, 0xe6]) await expectReply({ opcode }, {});
      await expectReply({ opcode: 0xe5 }, { sectorCount: 0xff });
    });

    it('26. verifies sectors by 40 and 42, without data', async () => {
      for (const opcode of [0x40, 0x42]) {
        await expectReply({ opcode, lba: 0, sectorCount: 255 }, {});
        await expectReply({ opcode, lba: 0, sectorCount: 0 }, ABORTED);
        await expectReply({ opcode, lba: SIZE_SECTORS - 1, sectorCount: 2 }, OUT_OF_RANGE);
      }
    });

    it('26. answers SMART when signed, and aborts it otherwise', async () => {
      const smart = { opcode: 0xb0, lba: 0xc24f00 };
      const request = ataRequest({ ...smart, feature: 0xda });
      // aoeping insists on data, even where there is none.
      const healthy = ataReply(request, { data: Buffer.alloc(512) });
      healthy.set([0x4f, 0xc2], 29);
      expectFrames(await served.client.exchange(request), [healthy]);
      for (const feature of [0xd0, 0xd1]) {
        const [page] = await ask({ ...smart, feature });
        expect(statusOf(page as Buffer)).toBe(0x40);
        expect(dataOf(page as Buffer)).toHaveLength(512);
        expect(dataOf(page as Buffer).reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
      }
      await expectReply({ ...smart, lba: 0, feature: 0xda }, ABORTED);
      await expectReply({ ...smart, feature: 0xd4 }, ABORTED);
      await ask({ ...smart, feature: 0xd9 });
      await expectReply({ ...smart, feature: 0xda }, ABORTED);
      await ask({ ...smart, feature: 0xd8 });
      expectFrames(await ask({ ...smart, feature: 0xda }), [healthy]);
    });

    it('26. trims by 06 what it is told, or nothing when a range is beyond the end', async () => {
      await write(700, sectors(2, 6));
      const ranges = (...entries: [lba: number, count: number][]) => {
        const data = Buffer.alloc(SECTOR_SIZE);
        entries.forEach(([lba, count], index) => {
          data.writeUIntLE(lba, 8 * index, 6);
          data.writeUInt16LE(count, 8 * index + 6);
        });
        return data;
      };
      const trim = { opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1 };
      const beyond = ranges([700, 1], [SIZE_SECTORS - 1, 2]);
      await expectReply({ ...trim, data: beyond }, OUT_OF_RANGE);
      await expectReply({ ...trim, data: ranges([700, 2]), feature: 0 }, ABORTED);
      await expectReply({ ...trim, data: ranges([700, 2]), aflags: 0x40 }, ABORTED);
      expectFrames(await ask({ ...trim, data: Buffer.alloc(24) }), []);
      expect(await read(700, 2)).toEqual(sectors(2, 6));
      await expectReply({ ...trim, data: ranges([0, 0], [701, 1]) }, {});
      const after = Buffer.concat([sectors(1, 6), Buffer.alloc(SECTOR_SIZE)]);
      expect(await read(700, 2)).toEqual(after);
    });

    it('26. switches the write cache by EF only where the operator allowed one', async () => {
      await expectReply({ opcode: 0xef, feature: 0x02 }, ABORTED);
      await expectReply({ opcode: 0xef, feature: 0x82 }, {});
      await expectReply({ opcode: 0xef, feature: 0x03 }, ABORTED);
      const word85 = async () => {
        const [reply] = await ask({ ...IDENTIFY, slot: 2 });
        return (dataOf(reply as Buffer).readUInt16LE(2 * 85) >> 5) & 1;
      };
      expect(await word85()).toBe(1);
      await expectReply({ opcode: 0xef, slot: 2, feature: 0x82 }, {});
      expect(await word85()).toBe(0);
      await expectReply({ opcode: 0xef, slot: 2, feature: 0x02 }, {});
      expect(await word85()).toBe(1);
    });
  });

  it('29. sends no byte of an earlier frame', async () => {
    const secret = Buffer.alloc(1024, 0xa5);
    for (let round = 0; round < 80; round++) {
      await write(1000, secret);
      for (const request of [{ opcode: 0xe5 }, { opcode: 0xea }, { opcode: 0xff }, IDENTIFY]) {
        const [reply] = await ask({ ...request, data: secret }, 1);
        expect(reply?.includes(Buffer.alloc(4, 0xa5))).toBe(false);
      }
    }
  });
});
