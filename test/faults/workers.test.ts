import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import {
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  configRequest,
  expectFrames,
  INITIATOR_MAC,
  maskRequest,
  reserveRequest,
  sectors,
} from '../protocol/frames.ts';
import { memoryTarget, Served } from '../protocol/served.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

vi.setConfig({ testTimeout: 60_000 * EFFORT });

const KILLS = 4 * EFFORT;
/** One that finds no server goes on until there is one. */
const LOAD = ['-t', 3, '-m', 1, '-T', 50, '-q', 60];
const SETTINGS = { workers: 2 };
/** One is served by each thread. */
const ADDRESSES = [
  { shelf: 1, slot: 0 },
  { shelf: 1, slot: 1 },
];
/** The targets of both threads, and the fence. */
const TARGET_COUNT = ADDRESSES.length + 1;

describeWith(TOOLS, 'two threads that share the targets', () => {
  let served: Served;

  beforeAll(async () => {
    const targets = ADDRESSES.map(({ shelf, slot }) => memoryTarget(shelf, slot));
    served = await Served.start(targets, 1500, SETTINGS);
  });
  afterAll(() => disposeAll(served));

  it('answer a wildcard once for each target', async () => {
    const wildcard = { destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff };
    for (const request of [
      configRequest(wildcard),
      ataRequest({ ...wildcard, opcode: 0xec, sectorCount: 1 }),
    ]) {
      const replies = await served.client.exchange(request, TARGET_COUNT);
      const addresses = replies.map((reply) => reply.toString('hex', 16, 19));
      expect(addresses.sort()).toEqual(['000100', '000101', '000909']);
    }
  });

  it('write and read, each its own', async () => {
    for (const [index, address] of ADDRESSES.entries()) {
      const data = sectors(2, index);
      const at = { ...address, lba: 5, sectorCount: 2 };
      const write = ataRequest({ ...at, opcode: 0x34, aflags: 0x41, data });
      expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    }
    for (const [index, address] of ADDRESSES.entries()) {
      const at = { ...address, lba: 5, sectorCount: 2 };
      const read = ataRequest({ ...at, opcode: 0x24, aflags: 0x40 });
      const expected = ataReply(read, { data: sectors(2, index) });
      expectFrames(await served.client.exchange(read, 1), [expected]);
    }
  });

  it('keep config strings, mask and reserve lists over a crash', async () => {
    for (const address of ADDRESSES) {
      const changes = [
        configRequest({ ...address, ccmd: 4, text: `string ${address.slot}` }),
        maskRequest(1, [[1, INITIATOR_MAC]], address),
        reserveRequest(1, [INITIATOR_MAC], address),
      ];
      for (const change of changes) {
        const [reply] = await served.client.exchange(change, 1);
        expect(reply?.[14]).toBe(0x18);
      }
    }
    await served.server.kill();
    await served.start();
    for (const address of ADDRESSES) {
      const [config] = await served.client.exchange(configRequest(address), 1);
      expect(config?.toString('latin1', 32, 40)).toBe(`string ${address.slot}`);
      for (const request of [maskRequest(0, [], address), reserveRequest(0, [], address)]) {
        const [reply] = await served.client.exchange(request, 1);
        expect(reply?.toString('hex')).toContain(
          `01${'0000'.repeat(request[19] === 2 ? 1 : 0)}${hexOf(INITIATOR_MAC)}`,
        );
      }
    }
  });

  it('end in good order', async () => {
    expect(await served.server.stop()).toBe(0);
    expect(served.server.errors).toEqual([]);
  });
});

describeWith(TOOLS, 'a server with two threads that cannot start', () => {
  let setup: Setup;
  afterEach(() => disposeAll(setup));

  it('says why, and of nothing else that failed', async () => {
    setup = await Setup.create();
    const file = { path: 'nowhere/disk.img', size: MIB };
    const starting = setup.start([{ shelf: 1, slot: 1, backend: 'file', file }], {
      settings: SETTINGS,
    });
    const { message } = (await starting.catch((error) => error)) as Error;
    expect(message).toContain('cannot open');
    expect(message).not.toContain('closing failed');
  });
});

describeWith(TOOLS, 'a server with two threads that is killed and started again', () => {
  let setup: Setup;
  afterEach(() => disposeAll(setup));

  it('loses no acknowledged write of any thread', async () => {
    setup = await Setup.create({ count: 2 });
    const targets = ADDRESSES.map((address) => ({
      ...{ ...address, backend: 'file' },
      file: { path: `disk${address.slot}.img`, size: 8 * MIB },
    }));
    await setup.start(targets, { settings: SETTINGS });
    let isOver = false;
    const loads = ['1.0', '1.1'].map(async (target) => {
      const journal = ['-j', setup.join(target)];
      while (!isOver) {
        const report = await setup.verify(target, ...journal, ...LOAD);
        expect(report).toMatchObject(UNHARMED);
      }
      expect(await setup.verify(target, ...journal, '-c')).toMatchObject(UNHARMED);
    });
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(Math.random() * 1000);
      await setup.server.kill();
      await setup.start(targets, { settings: SETTINGS });
    }
    isOver = true;
    await Promise.all(loads);
  });
});

function hexOf(mac: string): string {
  return mac.replaceAll(':', '');
}
