import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith, disposeAll, run, waitUntil } from '../support/tools.ts';
import {
  ataReply,
  ataRequest,
  configReply,
  configRequest,
  expectFrames,
  sectors,
} from './frames.ts';
import { MIB, Served, TOOLS } from './served.ts';

const MTU = 9000;
const SECTORS_PER_FRAME = 17;
const ALIGNED_SECTORS = 16;
const ABORTED = { status: 0x41, error: 0x04 };
const FLOOD_ROUNDS = 400;
const ROUNDS_AT_ONCE = 16;

describeWith(TOOLS, 'robustness', () => {
  let served: Served;

  function readRequest(sectorCount: number): Buffer {
    return ataRequest({ opcode: 0x24, aflags: 0x40, sectorCount });
  }

  async function expectRead(sectorCount: number): Promise<void> {
    const request = readRequest(sectorCount);
    const data = sectors(SECTORS_PER_FRAME, 1).subarray(0, 512 * sectorCount);
    expectFrames(await served.client.exchange(request, 1), [ataReply(request, { data })]);
  }

  function setServerLink(...settings: string[]): Promise<string> {
    return served.network.run('ip', ['link', 'set', 'aoe0', ...settings]);
  }

  beforeAll(async () => {
    const file = { path: 'disk.img', size: 8 * MIB };
    served = await Served.start([{ shelf: 1, slot: 0, backend: 'file', file }], MTU);
    const data = sectors(SECTORS_PER_FRAME, 1);
    const count = { sectorCount: SECTORS_PER_FRAME };
    const write = ataRequest({ opcode: 0x34, aflags: 0x41, ...count, data });
    expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
  });
  afterAll(() => disposeAll(served));

  it('announces whole pages, and serves whatever fits in the frame', async () => {
    const config = configRequest();
    const reply = configReply(config, { sectorCount: ALIGNED_SECTORS });
    expectFrames(await served.client.exchange(config), [reply]);
    await expectRead(SECTORS_PER_FRAME);
    const tooMany = readRequest(SECTORS_PER_FRAME + 1);
    expectFrames(await served.client.exchange(tooMany), [ataReply(tooMany, ABORTED)]);
  });

  it('answers IDENTIFY with up to 8192 bytes behind it', async () => {
    for (let size = 8704; size >= 512; size -= 512) {
      const identify = { opcode: 0xec, sectorCount: 1, data: Buffer.alloc(size) };
      const [reply] = await served.client.exchange(ataRequest(identify));
      expect(reply).toHaveLength(548);
    }
  });

  it('keeps serving when the link goes down and up', async () => {
    for (let round = 0; round < 3; round++) {
      await served.changeLink('down');
      await served.changeLink('up');
      await served.client.settle();
      await expectRead(2);
    }
  });

  it('keeps serving when the other end goes down and up', async () => {
    await served.client.cut();
    await served.client.settle();
    await expectRead(2);
  });

  it('keeps serving when the link goes down and up faster than the server can look', async () => {
    const pids = (await run('ip', ['netns', 'pids', served.network.name])).trim();
    await run('kill', ['-STOP', ...pids.split('\n')]);
    await setServerLink('down');
    await setServerLink('up');
    await run('kill', ['-CONT', ...pids.split('\n')]);
    await served.client.settle();
    await expectRead(2);
  });

  it('answers with an ATA error what no longer fits when the MTU shrinks', async () => {
    await served.changeLink('mtu', '1500');
    await served.client.settle();
    await waitUntil('the new MTU', async () => {
      const [reply] = await served.client.exchange(configRequest());
      return reply?.[28] === 2;
    });
    const jumbo = readRequest(ALIGNED_SECTORS);
    expectFrames(await served.client.exchange(jumbo), [ataReply(jumbo, ABORTED)]);
    await expectRead(2);
    await served.changeLink('mtu', `${MTU}`);
    await served.client.settle();
    await waitUntil('the old MTU', async () => {
      const [reply] = await served.client.exchange(configRequest());
      return reply?.[28] === ALIGNED_SECTORS;
    });
    await expectRead(ALIGNED_SECTORS);
  });

  it('keeps serving when the interface is removed and comes back', async () => {
    await served.network.run('ip', ['link', 'del', 'aoe0']);
    await served.client.reconnect();
    await served.client.settle();
    await expectRead(SECTORS_PER_FRAME);
  });

  it('survives random and truncated frames, and writes nothing because of them', async () => {
    const digest = async () =>
      createHash('sha256')
        .update(await readFile(served.join('disk.img')))
        .digest('hex');
    const before = await digest();
    const header = configRequest().subarray(0, 24);
    for (let round = 0; round < FLOOD_ROUNDS; round++) {
      const frames = Array.from({ length: 32 }, () => {
        const size = 14 + Math.floor(Math.random() * 200);
        const frame = randomBytes(size);
        // Addressed to us as AoE; half of them to the target, too, with any command but WRITE.
        header.copy(frame, 0, 0, Math.min(size, Math.random() < 0.5 ? 14 : 19));
        if (size > 27 && isWrite(frame[27] as number)) frame[27] = 0xec;
        return frame;
      });
      served.client.send(...frames);
      // More than a thousand in the kernel's queue would be lost, wherever the server is late.
      if (round % ROUNDS_AT_ONCE === 0) await served.client.settle();
    }
    await served.client.settle();
    expect(await digest()).toBe(before);
    expect(served.server.errors).toEqual([]);
  });

  it('ends in good order after all that', async () => {
    expect(await served.server.stop()).toBe(0);
  });
});

/** Commands that change data, or the target's state. */
function isWrite(opcode: number): boolean {
  return [0x06, 0x30, 0x34].includes(opcode);
}
