import { mkdirSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWith, disposeAll, run, tryRun } from '../support/tools.ts';
import {
  type AtaFields,
  ataReply,
  ataRequest,
  configReply,
  configRequest,
  dataOf,
  expectFrames,
  SECTOR_SIZE,
  sectors,
} from './frames.ts';
import { MIB, Served, TOOLS } from './served.ts';
import { SyncGate } from './sync-gate.ts';

const UNREADABLE = { status: 0x41, error: 0x40 };
const DEVICE_FAULT = { status: 0x61, error: 0x04 };
const READ_EXT = { opcode: 0x24, aflags: 0x40, sectorCount: 1 };
const WRITE_EXT = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
const SMALL_MEMORY = '/var/tmp';

function fileTarget(slot: number, path: string) {
  return { shelf: 1, slot, backend: 'file', file: { path, size: 8 * MIB } };
}

describeWith([...TOOLS, 'gcc', 'mount'], 'storage that is slow or fails', () => {
  let gate: SyncGate;
  let served: Served;
  const full = `${SMALL_MEMORY}/aoe-full-${process.pid}`;

  async function ask(fields: AtaFields, replyCount = 1): Promise<Buffer[]> {
    return served.client.exchange(ataRequest(fields), replyCount);
  }

  beforeAll(async () => {
    gate = await SyncGate.create();
    mkdirSync(full);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', full]);
    served = await Served.start([
      fileTarget(0, 'disk.img'),
      fileTarget(1, 'cut.img'),
      fileTarget(2, `${full}/full.img`),
      fileTarget(3, 'failing.img'),
      { ...fileTarget(4, 'cached.img'), write_cache: true },
    ]);
  });
  afterAll(async () => {
    await disposeAll(served, gate);
    await tryRun('umount', [full]);
    await tryRun('rmdir', [full]);
  });

  it('25. answers FLUSH and WRITE when they are durable, and not before', async () => {
    const requests = [
      ataRequest({ ...WRITE_EXT, lba: 1, data: sectors(1, 1) }),
      ataRequest({ opcode: 0xe7, tag: 7 }),
      ataRequest({ opcode: 0xea, tag: 8 }),
    ];
    await gate.shut();
    expectFrames(await served.client.exchange(requests), []);
    await gate.open();
    const replies = await served.client.receive(3);
    expect(replies.sort((a, b) => a.readUInt32BE(20) - b.readUInt32BE(20))).toEqual(
      [...requests.slice(1), ...requests.slice(0, 1)].map((request) => ataReply(request)),
    );
  });

  it('25. with the write cache on, answers WRITE at once and FLUSH when it is durable', async () => {
    await gate.shut();
    const write = ataRequest({ ...WRITE_EXT, slot: 4, data: sectors(1, 1) });
    expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    const flush = ataRequest({ opcode: 0xea, slot: 4 });
    expectFrames(await served.client.exchange(flush), []);
    await gate.open();
    expectFrames(await served.client.receive(1), [ataReply(flush)]);
  });

  it('25. rests, and has its write cache switched off, when what it held is durable', async () => {
    for (const command of [
      { opcode: 0xe0 },
      { opcode: 0xe2 },
      { opcode: 0xe6 },
      { opcode: 0xef, feature: 0x82 },
    ]) {
      const request = ataRequest({ ...command, slot: 4 });
      await gate.shut();
      expectFrames(await served.client.exchange(request), []);
      await gate.open();
      expectFrames(await served.client.receive(1), [ataReply(request)]);
    }
  });

  it('23. answers a WRITE with the A flag when it is durable, and not before', async () => {
    const write = ataRequest({ ...WRITE_EXT, aflags: 0x43, lba: 2, data: sectors(1, 1) });
    await gate.shut();
    expectFrames(await served.client.exchange(write), []);
    await gate.open();
    expectFrames(await served.client.receive(1), [ataReply(write)]);
  });

  it('28. says uncorrectable for a READ that the storage cannot do', async () => {
    await truncate(served.join('cut.img'), MIB);
    const beyond = ataRequest({ ...READ_EXT, slot: 1, lba: (2 * MIB) / SECTOR_SIZE });
    expectFrames(await served.client.exchange(beyond, 1), [ataReply(beyond, UNREADABLE)]);
    const across = ataRequest({ ...READ_EXT, slot: 1, sectorCount: 2, lba: MIB / SECTOR_SIZE - 1 });
    expectFrames(await served.client.exchange(across, 1), [ataReply(across, UNREADABLE)]);
    // It is looked at in steps: the first ones find nothing.
    const inVerify = { opcode: 0x42, slot: 1, sectorCount: 200, lba: MIB / SECTOR_SIZE - 199 };
    const verify = ataRequest(inVerify);
    expectFrames(await served.client.exchange(verify, 1), [ataReply(verify, UNREADABLE)]);
    const within = ataRequest({ ...READ_EXT, slot: 1 });
    const data = Buffer.alloc(SECTOR_SIZE);
    expectFrames(await served.client.exchange(within, 1), [ataReply(within, { data })]);
  });

  it('28. says device fault for a WRITE that the storage has no room for', async () => {
    // A page at a time until the file system is full.
    let failed: Buffer | undefined;
    for (let lba = 0; lba < 8 * 32 && failed === undefined; lba += 8) {
      const request = ataRequest({ ...WRITE_EXT, slot: 2, lba, data: sectors(1, 2) });
      const [reply] = await served.client.exchange(request, 1);
      if (reply?.equals(ataReply(request, DEVICE_FAULT))) failed = reply;
      else expect(reply).toEqual(ataReply(request));
    }
    expect(failed).toBeDefined();
    const [reply] = await ask({ ...READ_EXT, slot: 2 });
    expect(dataOf(reply as Buffer)).toEqual(sectors(1, 2));
  });

  it('25. says device fault for a flush that fails, and lets no write succeed from then on', async () => {
    const write = ataRequest({ ...WRITE_EXT, slot: 3, lba: 5, data: sectors(1, 3) });
    expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    await gate.break();
    const flush = ataRequest({ opcode: 0xea, slot: 3 });
    expectFrames(await served.client.exchange(flush, 1), [ataReply(flush, DEVICE_FAULT)]);
    await gate.mend();
    expectFrames(await served.client.exchange(write, 1), [ataReply(write, DEVICE_FAULT)]);
    expectFrames(await served.client.exchange(flush, 1), [ataReply(flush, DEVICE_FAULT)]);
    const read = ataRequest({ ...READ_EXT, slot: 3, lba: 5 });
    const data = sectors(1, 3);
    expectFrames(await served.client.exchange(read, 1), [ataReply(read, { data })]);
    const smart = ataRequest({ opcode: 0xb0, slot: 3, lba: 0xc24f00, feature: 0xda });
    const [failing] = await served.client.exchange(smart, 1);
    expect(failing?.subarray(29, 31)).toEqual(Buffer.from([0xf4, 0x2c]));
  });

  it('28. still answers another target while one cannot sync', async () => {
    await gate.shut();
    const stalled = ataRequest({ ...WRITE_EXT, data: sectors(1, 4) });
    expectFrames(await served.client.exchange(stalled), []);
    const read = ataRequest({ ...READ_EXT, slot: 1, tag: 3 });
    const data = Buffer.alloc(SECTOR_SIZE);
    expectFrames(await served.client.exchange(read, 1), [ataReply(read, { data })]);
    await gate.open();
    expectFrames(await served.client.receive(1), [ataReply(stalled)]);
  });

  it('36. answers a config string that is set when it is durable, and not before', async () => {
    const set = configRequest({ ccmd: 4, text: 'durable' });
    await gate.shut();
    expectFrames(await served.client.exchange(set), []);
    // What is not durable is not told either.
    const question = configRequest({ tag: 9 });
    expectFrames(await served.client.exchange(question), [configReply(question)]);
    await gate.open();
    expectFrames(await served.client.receive(1), [configReply(set, { ccmd: 4, text: 'durable' })]);
  });

  it('36. refuses a config string that cannot be made durable', async () => {
    await gate.break();
    const set = configRequest({ ccmd: 4, text: 'lost' });
    const [reply] = await served.client.exchange(set, 1);
    expect(reply?.readUInt16BE(14)).toBe(0x1c03);
    await gate.mend();
    const question = configRequest();
    expectFrames(await served.client.exchange(question), [
      configReply(question, { text: 'durable' }),
    ]);
  });

  it('writes data to the image itself', async () => {
    const write = ataRequest({ ...WRITE_EXT, lba: 77, data: sectors(1, 77) });
    expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    const image = await open(served.join('disk.img'));
    const { buffer } = await image.read(
      Buffer.alloc(SECTOR_SIZE),
      0,
      SECTOR_SIZE,
      77 * SECTOR_SIZE,
    );
    await image.close();
    expect(buffer).toEqual(sectors(1, 77));
  });
});
