import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Initiator } from '../../src/aoe/initiator/initiator.ts';
import { RemoteTarget } from '../../src/aoe/initiator/remote-target.ts';
import { encodeConfig } from '../../src/aoe/initiator/request.ts';
import { Limits } from '../../src/core/limits.ts';
import { slabBytes } from '../../src/core/request-pool.ts';
import { BROADCAST_MAC } from '../../src/net/ethernet.ts';
import type { FrameBatch, Link, LinkCounters, OutgoingFrame } from '../../src/net/link.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';

const WINDOW = 4;
const TAG_OFFSET = 20;
const FLAGS_OFFSET = 14;

/** A link whose far end is a function: it sees each frame sent and says what comes back. */
class ScriptedLink implements Link {
  readonly name = 'scripted';
  readonly mac = 0x0200_0000_0001;
  readonly mtu = 1500;
  readonly loopback = false;
  readonly slab = Buffer.alloc(slabBytes(WINDOW, Limits.requestSlotBytes));
  readonly ring = { bytes: Buffer.alloc(1 << 16), region: 0 };
  readonly ringView = new DataView(this.ring.bytes.buffer, this.ring.bytes.byteOffset);
  readonly sent: Buffer[] = [];
  readonly #answer: (frame: Buffer, index: number) => Buffer[];
  readonly #arrived: Buffer[] = [];
  #wake: () => void = () => {};
  #closed = false;

  constructor(answer: (frame: Buffer, index: number) => Buffer[]) {
    this.#answer = answer;
  }

  send(outgoing: OutgoingFrame): void {
    const start = outgoing.frameOffset;
    const frame = Buffer.from(this.slab.subarray(start, start + outgoing.frameSize));
    this.sent.push(frame);
    outgoing.sent(Date.now() * 1000);
    this.deliver(...this.#answer(frame, this.sent.length - 1));
  }

  deliver(...frames: Buffer[]): void {
    this.#arrived.push(...frames);
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<FrameBatch> {
    while (!this.#closed) {
      const frame = this.#arrived.shift();
      if (frame === undefined) {
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
      } else {
        frame.copy(this.ring.bytes);
        yield { count: 1, offsetOf: () => 0, sizeOf: () => frame.length, arrivalUsOf: () => 0 };
      }
    }
  }

  flush(): void {}

  counters(): LinkCounters {
    return { received: 0, dropped: 0, truncated: 0, sent: this.sent.length, unsent: 0 };
  }

  stopReceiving(): void {
    this.close();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }
}

function open(answer: (frame: Buffer, index: number) => Buffer[]) {
  const link = new ScriptedLink(answer);
  return { link, initiator: new Initiator(link, link.slab.buffer, WINDOW) };
}

function newRequest(initiator: Initiator): Uint8Array<ArrayBuffer> {
  return encodeConfig(initiator.route(BROADCAST_MAC, 0x0100), 0);
}

/** The request as a response to itself. */
function echo(frame: Buffer): Buffer {
  const response = Buffer.from(frame);
  response.writeUInt8(0x18, FLAGS_OFFSET);
  return response;
}

describe('an initiator', () => {
  it('gives every request a tag of its own that Linux takes for a program’s', async () => {
    const { initiator } = open(() => []);
    const tags = Array.from({ length: 1000 }, () => initiator.route(1, 2).tag);
    expect(new Set(tags).size).toBe(1000);
    expect(tags.every((tag) => tag >= 0x8000_0000 && tag <= 0xffff_ffff)).toBe(true);
    await initiator.close();
  });

  it('sends the same frame again until a response comes', async () => {
    const { link, initiator } = open((frame, index) => (index === 2 ? [echo(frame)] : []));
    const request = newRequest(initiator);
    const startMs = performance.now();
    const response = await initiator.exchange(request, { timeoutMs: 200, resends: 5 });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(398);
    expect(link.sent).toEqual([request, request, request].map((frame) => Buffer.from(frame)));
    expect(Buffer.from(response.bytes)).toEqual(echo(Buffer.from(request)));
    // From the last send, not from the first.
    expect(response.roundTripMs).toBeLessThan(200);
    await initiator.close();
  });

  it('gives up when no response came to the last send', async () => {
    const { link, initiator } = open(() => []);
    const exchange = initiator.exchange(newRequest(initiator), { timeoutMs: 10, resends: 2 });
    await expect(exchange).rejects.toMatchObject({
      code: 'AOE_NO_RESPONSE',
      message: expect.stringMatching(/^no response to 3 sends in \d+ ms$/),
    });
    expect(link.sent).toHaveLength(3);
    await initiator.close();
  });

  it('takes no response with another tag, and none that is cut short', async () => {
    const { initiator } = open((frame) => {
      const other = echo(frame);
      // Its last octet stays: where the short frame ends, the ring still holds the right one.
      other.writeUInt32BE((frame.readUInt32BE(TAG_OFFSET) ^ 0x100) >>> 0, TAG_OFFSET);
      return [other, echo(frame).subarray(0, 23)];
    });
    const exchange = initiator.exchange(newRequest(initiator), { timeoutMs: 20, resends: 0 });
    await expect(exchange).rejects.toMatchObject({ code: 'AOE_NO_RESPONSE' });
    await initiator.close();
  });

  it('keeps to its window, again and again, and sends the others in order as responses come', async () => {
    const { link, initiator } = open(() => []);
    for (const _ of [1, 2]) {
      const requests = Array.from({ length: 10 }, () => newRequest(initiator));
      const exchanges = requests.map((request) => initiator.exchange(request, { timeoutMs: 5000 }));
      for (let index = 0; index < requests.length; index++) {
        expect(link.sent).toHaveLength(Math.min(index + WINDOW, requests.length));
        link.deliver(echo(link.sent[index] as Buffer));
        await exchanges[index];
        await new Promise((wake) => setImmediate(wake));
      }
      expect(link.sent).toEqual(requests.map((request) => Buffer.from(request)));
      link.sent.length = 0;
    }
    await initiator.close();
  });

  it('takes no response to a READ that has less data than was asked for', async () => {
    const { initiator } = open((frame) => {
      const response = Buffer.concat([echo(frame).subarray(0, 36), Buffer.alloc(512)]);
      response.writeUInt8(0x40, 27);
      return [response];
    });
    const target = new RemoteTarget(initiator, 0x0200_0000_0002, 0x0100);
    expect(await target.read(0, 1)).toHaveLength(512);
    await expect(target.read(0, 2)).rejects.toThrow('548 bytes where 1060 are due');
    await initiator.close();
  });

  it('gathers all responses to one frame', async () => {
    const { initiator } = open((frame) => [echo(frame), echo(frame)]);
    const request = newRequest(initiator);
    expect(await initiator.collect(request, 20)).toHaveLength(2);
    // The tag is free again.
    expect(await initiator.collect(request, 20)).toHaveLength(2);
    await initiator.close();
  });

  it('hands over frames that nobody asked for', async () => {
    const { link, initiator } = open(() => []);
    const announcement = echo(Buffer.from(newRequest(initiator)));
    announcement.writeUInt32BE(0, TAG_OFFSET);
    const heard = new Promise<number>((onHeard) => {
      initiator.listen(0, {
        onResponse: (response) => onHeard(response.address),
        onEnd: () => onHeard(-1),
      });
    });
    link.deliver(announcement);
    expect(await heard).toBe(0x0100);
    await initiator.close();
  });

  it('tells all that wait, or wait for their turn, when it is closed', async () => {
    const { initiator } = open(() => []);
    const exchanges = Array.from({ length: WINDOW + 2 }, () =>
      initiator.exchange(newRequest(initiator)),
    );
    const outcomes = Promise.allSettled([
      ...exchanges,
      initiator.collect(newRequest(initiator), 5000),
    ]);
    await initiator.close();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ reason: { message: 'the initiator is closed' } });
    }
    await expect(initiator.exchange(newRequest(initiator))).rejects.toThrow('is closed');
    expect(initiator.send(newRequest(initiator))).toBe(false);
  });
});

const MIB = 1 << 20;
const DIST = resolve(import.meta.dirname, '../../dist/aoe');
const TARGETS = [
  { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: 8 * MIB } },
  { shelf: 1, slot: 1, backend: 'memory', write_cache: true, memory: { size: MIB } },
];

interface World {
  initiator: Initiator;
  /** e1.0 */
  target: RemoteTarget;
  targetAt(address: number): RemoteTarget;
}

let directory: TempDirectory;
let network: NetworkNamespace;
let machine: NetworkNamespace;
let server: AoeServer;
let serverMac: number;

function startServer(): Promise<AoeServer> {
  const options = { interfaces: ['aoe0'], directory: directory.path, targets: TARGETS };
  return AoeServer.start({ namespace: network, ...options });
}

/**
 * Runs `body` in a process on the initiator's machine. It is handed over as text, so it uses
 * nothing but its parameter; what it returns comes back as JSON.
 */
async function onMachine<T>(body: (world: World) => Promise<T>): Promise<T> {
  const program = `
    const { Initiator } = await import('${DIST}/initiator/initiator.js');
    const { RemoteTarget } = await import('${DIST}/initiator/remote-target.js');
    const initiator = Initiator.open({ interface: 'eth0' });
    const options = { timeoutMs: 100, resends: 250 };
    const targetAt = (address) => new RemoteTarget(initiator, ${serverMac}, address, options);
    const body = ${body.toString()};
    const result = await body({ initiator, targetAt, target: targetAt(0x0100) });
    await initiator.close();
    console.log(JSON.stringify(result));`;
  const input = { input: program };
  const stdout = await machine.run(process.execPath, ['--input-type=module', '-'], input);
  return JSON.parse(stdout) as T;
}

describeWith(['ip', 'setpriv', 'sysctl'], 'an initiator with a server', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    network = await NetworkNamespace.create();
    machine = await NetworkNamespace.create();
    await network.addVeth('aoe0', machine, 'eth0', 9000);
    const address = await network.run('cat', ['/sys/class/net/aoe0/address']);
    serverMac = Number.parseInt(address.replaceAll(':', ''), 16);
    server = await startServer();
  });

  afterAll(() => disposeAll(server, machine, network, directory));

  it('identifies disks', async () => {
    const identities = await onMachine(async ({ targetAt }) => [
      await targetAt(0x0100).identify(),
      await targetAt(0x0101).identify(),
    ]);
    const serial = expect.stringMatching(/^[0-9A-F]{20}$/);
    const common = { serial, firmware: expect.stringMatching(/^\d/), lba48: true };
    expect(identities).toEqual([
      expect.objectContaining({
        ...common,
        ...{ sizeSectors: (8 * MIB) / 512, model: 'aoe-server e1.0', writeCacheEnabled: false },
      }),
      expect.objectContaining({
        ...common,
        ...{ sizeSectors: MIB / 512, model: 'aoe-server e1.1', writeCacheEnabled: true },
      }),
    ]);
    expect(identities[0]?.serial).not.toBe(identities[1]?.serial);
  });

  it('reads what it wrote, many frames at once, and flushes', async () => {
    const wrong = await onMachine(async ({ target }) => {
      const lbas = Array.from({ length: 300 }, (_, index) => index * 16);
      const contentOf = (lba: number) =>
        Uint8Array.from({ length: 8192 }, (_, index) => (index * 7 + lba * 13 + (lba >> 8)) & 0xff);
      await Promise.all(lbas.map((lba) => target.write(lba, contentOf(lba))));
      await target.flush();
      const read = await Promise.all(lbas.map((lba) => target.read(lba, 16)));
      return lbas.filter(
        (lba, index) => !Buffer.from(contentOf(lba)).equals(read[index] ?? Buffer.alloc(0)),
      );
    });
    expect(wrong).toEqual([]);
  });

  it('tells what the disk and what the target refused', async () => {
    const failures = await onMachine(async ({ target, targetAt }) => {
      const cause = (error: object) => ({ ...error, response: undefined });
      return [
        await target.read((8 << 20) / 512, 1).catch(cause),
        await target.write((8 << 20) / 512 - 1, new Uint8Array(1024)).catch(cause),
        await target.forceSetConfig(Buffer.from('mine')).catch(cause),
        await target.setConfig(Buffer.from('yours')).catch(cause),
        await target.forceSetConfig(new Uint8Array(0)).catch(cause),
        await targetAt(0x0101)
          .read(1, 1)
          .then((bytes) => bytes.length),
      ];
    });
    const outOfRange = { code: 'AOE_ATA_COMMAND', status: 0x41, ataError: 0x10 };
    expect(failures).toMatchObject([
      outOfRange,
      outOfRange,
      { sectorCount: 16 },
      { code: 'AOE_REFUSED', aoeError: 4 },
      { sectorCount: 16 },
      512,
    ]);
  });

  it('sets and reads the config string', async () => {
    const strings = await onMachine(async ({ target }) => {
      const text = (reply: { configString: Uint8Array }) =>
        Buffer.from(reply.configString).toString();
      return [
        text(await target.setConfig(Buffer.from('first'))),
        text(await target.forceSetConfig(Buffer.from('second'))),
        text(await target.readConfig()),
        text(await target.forceSetConfig(new Uint8Array(0))),
      ];
    });
    expect(strings).toEqual(['first', 'second', 'second', '']);
  });

  it('edits the MAC mask list', async () => {
    const replies = await onMachine(async ({ initiator, target }) => {
      const { mac } = initiator.link;
      return {
        mac,
        added: await target.editMaskList([
          { command: 1, mac },
          { command: 1, mac: 0x0200_0000_00aa },
        ]),
        failed: await target.editMaskList([
          { command: 2, mac: 0x0200_0000_00aa },
          { command: 9, mac },
        ]),
        read: await target.readMaskList(),
        emptied: await target.editMaskList([{ command: 2, mac }]),
      };
    });
    const { mac } = replies;
    expect(replies).toEqual({
      mac,
      added: { error: 0, failedIndex: 0, maskList: [mac, 0x0200_0000_00aa] },
      failed: { error: 2, failedIndex: 1, maskList: [] },
      read: { error: 0, failedIndex: 0, maskList: [mac] },
      emptied: { error: 0, failedIndex: 0, maskList: [] },
    });
  });

  it('reserves and releases', async () => {
    const { mac, ...replies } = await onMachine(async ({ initiator, target }) => {
      const { mac } = initiator.link;
      const failure = (error: { aoeError: number }) => error.aoeError;
      return {
        mac,
        reserved: await target.reserve([mac, 0x0200_0000_00bb]),
        read: await target.readReserveList(),
        given: await target.reserve([0x0200_0000_00bb]),
        refusedRead: await target.read(0, 1).catch(failure),
        refusedReserve: await target.reserve([mac]).catch(failure),
        released: await target.forceReserve([]),
        sectorBytes: (await target.read(0, 1)).length,
      };
    });
    expect(replies).toEqual({
      reserved: [mac, 0x0200_0000_00bb],
      read: [mac, 0x0200_0000_00bb],
      given: [0x0200_0000_00bb],
      refusedRead: 6,
      refusedReserve: 6,
      released: [],
      sectorBytes: 512,
    });
  });

  it('outlasts a restart of the server', async () => {
    await server.stop();
    const size = onMachine(async ({ target }) => (await target.read(0, 8)).length);
    // Long enough that the first sends find nobody.
    await new Promise((wake) => setTimeout(wake, 1000));
    server = await startServer();
    expect(await size).toBe(4096);
  });
});
