import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  BROADCAST_MAC,
  type ConfigFields,
  type ConfigReplyFields,
  configReply,
  configRequest,
  expectFrames,
  INITIATOR_MAC,
  padded,
  reserveReply,
  reserveRequest,
} from './frames.ts';
import { memoryTarget, Served, TOOLS } from './served.ts';

const CCMD = { read: 0, test: 1, prefix: 2, set: 3, forceSet: 4 };
const STRING_PRESENT = 4;
const BAD_ARGUMENT = 2;
const HOLDER_MAC = '02:00:00:00:00:99';

describeWith(TOOLS, 'config queries', () => {
  let served: Served;

  async function expectReply(fields: ConfigFields, reply: ConfigReplyFields): Promise<void> {
    const request = configRequest(fields);
    const replies = await served.client.exchange(request, 1);
    expectFrames(replies, [configReply(request, { ccmd: fields.ccmd ?? 0, ...reply })]);
  }

  async function expectSilence(fields: ConfigFields): Promise<void> {
    expectFrames(await served.client.exchange(configRequest(fields)), []);
  }

  beforeAll(async () => {
    served = await Served.start([
      memoryTarget(1, 0, { config_string: 'shelf one' }),
      memoryTarget(1, 1),
      memoryTarget(1, 2),
      memoryTarget(1, 3),
      memoryTarget(1, 4),
    ]);
  });
  afterAll(() => disposeAll(served));

  describe('read', () => {
    it('30. gives the same answer whatever length, string and version come along', async () => {
      const text = 'shelf one';
      await expectReply({}, { text });
      await expectReply({ text: Buffer.alloc(1024, 0xed) }, { text });
      await expectReply({ length: 1024 }, { text });
      await expectReply({ length: 0xffff }, { text });
      for (const version of [0, 1, 15]) await expectReply({ version }, { text });
    });

    it('31. tells buffer count, sectors and string in 32 bytes and the string', async () => {
      const [reply] = await served.client.exchange(configRequest());
      expect(reply?.length).toBe(60);
      expect(reply?.subarray(24, 32).toString('hex')).toBe('0040000102100009');
      expect(reply?.readUInt16BE(24)).toBeGreaterThanOrEqual(2);
      expect(reply?.toString('latin1', 32, 41)).toBe('shelf one');
      expect(reply?.subarray(41)).toEqual(Buffer.alloc(19));
    });
  });

  describe('test and prefix', () => {
    it('32. answers a test only when string and length are equal', async () => {
      const text = 'shelf one';
      await expectReply({ ccmd: CCMD.test, text }, { text });
      for (const wrong of ['', 'shelf', 'shelf one ', 'shelf onf', 'shelf one\0', 'Shelf one']) {
        await expectSilence({ ccmd: CCMD.test, text: wrong });
      }
      await expectReply({ ccmd: CCMD.test, slot: 1, text: '' }, {});
      await expectSilence({ ccmd: CCMD.test, slot: 1, text: '\0' });
    });

    it('32. answers a prefix only when the string begins with it', async () => {
      const text = 'shelf one';
      for (const prefix of ['', 's', 'shelf', 'shelf one']) {
        await expectReply({ ccmd: CCMD.prefix, text: prefix }, { text });
      }
      for (const wrong of ['shelf one ', 'helf', 'shelf two']) {
        await expectSilence({ ccmd: CCMD.prefix, text: wrong });
      }
      await expectReply({ ccmd: CCMD.prefix, slot: 1, text: '' }, {});
    });

    it('32. answers a wildcard for each target that matches, whatever the strings of others', async () => {
      const everywhere = { destination: BROADCAST_MAC, shelf: 1, slot: 0xff };
      const ask = async (ccmd: number, text: string) => {
        const replies = await served.client.exchange(configRequest({ ...everywhere, ccmd, text }));
        return replies.map((reply) => reply.readUInt8(18));
      };
      // The first target does not match these, and does not keep the others from answering.
      expect(await ask(CCMD.test, '')).toEqual([1, 2, 3, 4]);
      expect(await ask(CCMD.test, 'shelf one')).toEqual([0]);
      expect(await ask(CCMD.prefix, 'shelf')).toEqual([0]);
      expect(await ask(CCMD.prefix, '')).toEqual([0, 1, 2, 3, 4]);
    });
  });

  describe('set', () => {
    it('33. sets an empty string once; a resent set succeeds, another one fails', async () => {
      const set = { ccmd: CCMD.set, slot: 2 };
      await expectReply({ ...set, text: '' }, {});
      await expectReply({ ...set, text: 'mine' }, { text: 'mine' });
      await expectReply({ ...set, text: 'mine' }, { text: 'mine' });
      const present = { text: 'mine', aoeError: STRING_PRESENT };
      await expectReply({ ...set, text: 'yours' }, present);
      await expectReply({ ...set, text: '' }, present);
      await expectReply({ ...set, text: 'min' }, present);
      await expectReply({ slot: 2 }, { text: 'mine' });
    });
  });

  describe('force set', () => {
    const force = { ccmd: CCMD.forceSet, slot: 3 };

    it('34. stores up to 1024 bytes of any value, and clears by an empty string', async () => {
      const text = Buffer.from(Array.from({ length: 1024 }, (_, index) => index & 0xff));
      await expectReply({ ...force, text }, { text });
      await expectReply({ slot: 3 }, { text });
      await expectReply({ ...force, text: 'short' }, { text: 'short' });
      await expectReply({ ...force, text: '' }, {});
      await expectReply({ slot: 3 }, {});
    });

    it('34. is silent for a string that is too long, or longer than what was sent', async () => {
      await expectReply({ ...force, text: 'kept' }, { text: 'kept' });
      for (const ccmd of [CCMD.test, CCMD.prefix, CCMD.set, CCMD.forceSet]) {
        const request = { slot: 3, ccmd };
        await expectSilence({ ...request, text: Buffer.alloc(1025) });
        await expectSilence({ ...request, length: 1024 });
        // 32 bytes are the Ethernet header and the argument: no string is hidden in them.
        await expectSilence({ ...request, text: 'abc', length: 4 });
        await expectSilence({ ...request, text: 'abc', length: 3 + 32 });
      }
      const inPadding = padded(configRequest({ ...force, length: 29 }));
      expectFrames(await served.client.exchange(inPadding), []);
      await expectReply({ slot: 3 }, { text: 'kept' });
    });
  });

  it('35. refuses commands 5 to 15 by error 2', async () => {
    for (let ccmd = 5; ccmd < 16; ccmd++) {
      const request = configRequest({ ccmd, text: 'x' });
      const reply = configReply(request, { ccmd, aoeError: BAD_ARGUMENT, text: 'shelf one' });
      expectFrames(await served.client.exchange(request), [reply]);
    }
  });

  it('36. keeps the string over a crash and over a stop, against the configured one', async () => {
    await expectReply({ ccmd: CCMD.forceSet, text: 'claimed' }, { text: 'claimed' });
    await served.server.kill();
    await served.start();
    await expectReply({}, { text: 'claimed' });
    await expectReply({ ccmd: CCMD.forceSet, text: '' }, {});
    expect(await served.server.stop()).toBe(0);
    await served.start();
    await expectReply({}, {});
    await expectReply({ ccmd: CCMD.forceSet, text: 'shelf one' }, { text: 'shelf one' });
  });

  it('37. lets a host that does not hold the reservation set the string', async () => {
    const reserve = reserveRequest(1, [HOLDER_MAC], { slot: 4 });
    const replies = await served.client.exchange(reserve, 1);
    expectFrames(replies, [reserveReply(reserve, 1, [HOLDER_MAC])]);
    const set = { slot: 4, ccmd: CCMD.set, source: INITIATOR_MAC };
    await expectReply({ ...set, text: 'anyone' }, { text: 'anyone' });
  });
});
