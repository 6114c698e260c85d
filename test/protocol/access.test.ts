import { truncate, writeFile } from 'node:fs/promises';
import { stringify, type TomlTable } from 'smol-toml';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { createFile, LoopDevice } from '../faults/storage.ts';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  aoeReply,
  ataReply,
  ataRequest,
  BROADCAST_MAC,
  configRequest,
  expectFrames,
  INITIATOR_MAC,
  maskReply,
  maskRequest,
  reserveRequest,
  SECTOR_SIZE,
  sectors,
} from './frames.ts';
import { MIB, memoryTarget, Served, TOOLS } from './served.ts';

const OTHER_MAC = '02:00:00:00:00:42';
const STRANGER_MAC = '02:00:00:00:00:43';
const ABORTED = { status: 0x41, error: 0x04 };
const READ_EXT = { opcode: 0x24, aflags: 0x40, sectorCount: 1 };
const WRITE_EXT = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
const IDENTIFY = { opcode: 0xec, sectorCount: 1 };
const FORCE_SET = 4;
const RESERVED = 6;

let served: Served;

/** Requests of every kind to one target. */
function everything(slot: number, source: string): Buffer[] {
  const header = { slot, source };
  return [
    configRequest(header),
    configRequest({ ...header, ccmd: FORCE_SET, text: source }),
    maskRequest(0, [], header),
    reserveRequest(0, [], header),
    ataRequest({ ...header, ...IDENTIFY }),
    ataRequest({ ...header, ...READ_EXT }),
    ataRequest({ ...header, ...WRITE_EXT, data: sectors(1, 1) }),
  ];
}

describeWith(TOOLS, 'the lists of initiators in the configuration', () => {
  const allow = [INITIATOR_MAC, OTHER_MAC];
  const file = { path: 'disk.img', size: MIB };
  const targetFor = (mac: string) => {
    return { shelf: 1, slot: 1, backend: 'file', file, allow: [mac] };
  };

  beforeAll(async () => {
    const targets = [memoryTarget(1, 0), targetFor(OTHER_MAC)];
    served = await Served.start(targets, 1500, { allow });
  });
  afterAll(() => disposeAll(served));
  afterEach(() => served.client.setMac(INITIATOR_MAC));

  async function denied(): Promise<number> {
    return (await askStatus(served.join('state/control.sock'))).frames.denied;
  }

  /** Whoever is at `source` is not answered by e1.`slot`, and is counted. */
  async function expectSilence(slot: number, source: string): Promise<void> {
    const before = await denied();
    const requests = everything(slot, source);
    expectFrames(await served.client.exchange(requests), []);
    expect(await denied()).toBe(before + requests.length);
  }

  async function expectAnswers(slot: number, source: string): Promise<void> {
    await served.client.setMac(source);
    const requests = everything(slot, source);
    expect(await served.client.exchange(requests, requests.length)).toHaveLength(requests.length);
  }

  it('of the server: others hear nothing of any target, whatever they ask', async () => {
    for (const slot of [0, 1]) await expectSilence(slot, STRANGER_MAC);
    for (const source of allow) await expectAnswers(0, source);
  });

  it('of a target: others hear nothing of this one', async () => {
    await expectSilence(1, INITIATOR_MAC);
    const wildcard = configRequest({ destination: BROADCAST_MAC, shelf: 1, slot: 0xff });
    expect((await served.client.exchange(wildcard)).map((reply) => reply[18])).toEqual([0]);
    await expectAnswers(1, OTHER_MAC);
  });

  it('of a target follow a reload, over which reservations and masks stay', async () => {
    await served.client.setMac(OTHER_MAC);
    const header = { slot: 1, source: OTHER_MAC };
    const both = allow.map((mac) => [1, mac] as const);
    for (const request of [maskRequest(1, both, header), reserveRequest(1, [OTHER_MAC], header)]) {
      expect(await served.client.exchange(request, 1)).toHaveLength(1);
    }
    const fence = memoryTarget(9, 9, { memory: { size: MIB } });
    const targets = [memoryTarget(1, 0), targetFor(INITIATOR_MAC), fence];
    const server = { interfaces: ['aoe0'], state_dir: 'state', allow };
    await writeFile(served.join('aoe-server.toml'), stringify({ server, target: targets }));
    const { status } = await askControl(served.join('state/control.sock'), 'POST', '/v1/reload');
    expect(status).toBe(200);
    await served.client.settle();
    await expectSilence(1, OTHER_MAC);
    await served.client.setMac(INITIATOR_MAC);
    const read = ataRequest({ ...READ_EXT, slot: 1 });
    const refused = aoeReply(read, [], { aoeError: RESERVED });
    expectFrames(await served.client.exchange(read, 1), [refused]);
    const masks = maskRequest(0, [], { slot: 1 });
    const expected = maskReply(masks, 0, allow);
    expectFrames(await served.client.exchange(masks, 1), [expected]);
  });
});

describeWith([...TOOLS, 'losetup'], 'a read-only target', () => {
  const names = ['a file', 'a device', 'a volume of a store'];
  let device: LoopDevice;

  beforeAll(async () => {
    served = await Served.start([]);
    await createFile(served.join('below'), MIB);
    device = await LoopDevice.attach(served.join('below'));
    const store = { type: 'file', path: 'store' };
    const targets = () => [
      { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: MIB } },
      { shelf: 1, slot: 1, backend: 'device', device: { path: device.path } },
      { shelf: 1, slot: 2, backend: 'cas', cas: { size: MIB, blob_store: store } },
    ];
    await served.server.stop();
    await served.start(targets());
    for (const [slot] of names.entries()) {
      const write = ataRequest({ ...WRITE_EXT, slot, lba: 8, data: sectors(1, slot) });
      expectFrames(await served.client.exchange(write, 1), [ataReply(write)]);
    }
    await served.server.stop();
    await disposeAll(device);
    // Who opens it for writing is refused.
    device = await LoopDevice.attach(served.join('below'), '--read-only');
    await served.start(targets().map((target) => ({ ...target, read_only: true })));
  });
  afterAll(() => disposeAll(served, device));

  for (const [slot, name] of names.entries()) {
    it(`is read, and refuses a WRITE and a trim by an ATA error at once (${name})`, async () => {
      const range = Buffer.alloc(SECTOR_SIZE);
      range.writeUIntLE(8, 0, 6);
      range.writeUInt16LE(8, 6);
      const requests = [
        ataRequest({ ...WRITE_EXT, slot, lba: 8, data: sectors(1, 9) }),
        ataRequest({ opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1, slot, data: range }),
      ];
      for (const request of requests) {
        expectFrames(await served.client.exchange(request, 1), [ataReply(request, ABORTED)]);
      }
      const read = ataRequest({ ...READ_EXT, slot, lba: 8 });
      const data = sectors(1, slot);
      expectFrames(await served.client.exchange(read, 1), [ataReply(read, { data })]);
    });
  }
});

describeWith(TOOLS, 'a disk that initiators know', () => {
  const fileTarget = (file: TomlTable) => ({ shelf: 1, slot: 0, backend: 'file', file });

  beforeAll(async () => {
    served = await Served.start([fileTarget({ path: 'disk.img', size: MIB })]);
  });
  afterAll(() => disposeAll(served));

  it('has the same serial number and size after a crash', async () => {
    const identify = ataRequest(IDENTIFY);
    const before = await served.client.exchange(identify, 1);
    await served.server.kill();
    await served.start();
    expectFrames(await served.client.exchange(identify, 1), before);
  });

  it('is not served any more when it is smaller at a start', async () => {
    await served.server.stop();
    await truncate(served.join('disk.img'), MIB / 2);
    const starting = served.start([fileTarget({ path: 'disk.img' })]);
    await expect(starting).rejects.toThrow(/e1.0 has 524288 bytes, but initiators have seen it/);
  });
});
