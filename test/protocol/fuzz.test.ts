import { afterEach, describe, expect, it } from 'vitest';
import { type Expected, executeOnModel, type ModelTarget } from './disk-model.ts';
import {
  ataRequest,
  BROADCAST_MAC,
  configRequest,
  maskRequest,
  reserveRequest,
  SECTOR_SIZE,
} from './frames.ts';
import { Random, randomFrame } from './random-frames.ts';
import { readDisk, Stage, TARGET_MAC_NUMBER } from './stage.ts';

const FUZZ_MS = process.env['CI'] === 'true' ? 60_000 : 10_000;
const SEED = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const MTU = 1500;
const SIZE_SECTORS = 64;
const BATCHES_PER_STAGE = 400;
const BATCH_FRAMES_MAX = 4;
const OLD_US = 3_000_000;
/** Lies in all memory that replies are built in; no request contains a run of it. */
const CANARY = 0xca;
const CANARY_RUN = Buffer.alloc(4, CANARY);

const TARGETS = [
  { shelf: 1, slot: 0, readOnly: false, configString: 'first' },
  { shelf: 1, slot: 1, readOnly: true, configString: '' },
  { shelf: 2, slot: 0, readOnly: false, configString: 'x'.repeat(1024) },
].map((target) => ({ ...target, sizeBytes: SIZE_SECTORS * SECTOR_SIZE }));

/** A server, and the model that its disks must equal. */
class Examination {
  readonly stage: Stage;
  readonly #disks = TARGETS.map(({ sizeBytes }) => Buffer.alloc(sizeBytes));

  constructor() {
    this.stage = new Stage(TARGETS, MTU);
  }

  /** Delivers frames as one batch and checks all that comes of it. */
  async examine(frames: readonly Buffer[], isOld = false): Promise<void> {
    const model = this.stage.targets.map(
      ({ shelf, slot, readOnly, target }, index): ModelTarget => {
        return { shelf, slot, readOnly, state: target.state, disk: this.#disks[index] as Buffer };
      },
    );
    const expected = new Map<number, Expected>();
    // What came in seconds ago has been resent: nothing of it is taken up.
    for (const frame of isOld ? [] : frames) {
      const outcome = executeOnModel(model, frame, TARGET_MAC_NUMBER);
      if (outcome.kind !== 'nothing') expected.set(frame.readUInt32BE(20), outcome);
    }
    this.stage.slab.fill(CANARY);
    const replies = await this.stage.deliver(frames, Date.now() * 1000 - (isOld ? OLD_US : 0));
    for (const reply of replies) {
      const request = frames.find((frame) => frame.subarray(20, 24).equals(reply.subarray(20, 24)));
      if (request === undefined) throw new Error(`nobody asked for ${reply.toString('hex')}`);
      expectSoundReply(request, reply);
      checkOutcome(expected.get(request.readUInt32BE(20)), reply);
    }
    const answered = new Set(replies.map((reply) => reply.readUInt32BE(20)));
    if (isOld) expect(answered.size).toBe(0);
    for (const tag of expected.keys()) expect(answered).toContain(tag);
    expect(this.stage.server.counters.overload).toBe(0);
  }

  async expectSameDisks(): Promise<void> {
    for (const [index, target] of this.stage.targets.entries()) {
      expect((await readDisk(target)).equals(this.#disks[index] as Buffer)).toBe(true);
    }
  }
}

/** A valid read brings the model's data, a valid write succeeds. */
function checkOutcome(expected: Expected | undefined, reply: Buffer): void {
  if (expected === undefined) return;
  expect(reply.subarray(24, 28)).toEqual(Buffer.from([0, 0, 0, 0x40]));
  if (expected.kind === 'read') expect(reply.subarray(36).equals(expected.data)).toBe(true);
}

/** What holds of each reply, whatever was asked. */
function expectSoundReply(request: Buffer, reply: Buffer): void {
  expect(reply.length).toBeLessThanOrEqual(14 + MTU);
  expect(reply.subarray(0, 6)).toEqual(request.subarray(6, 12));
  expect((reply[0] as number) & 1).toBe(0);
  expect(reply.readUIntBE(6, 6)).toBe(TARGET_MAC_NUMBER);
  expect(reply.readUInt16BE(12)).toBe(0x88a2);
  const hasError = reply[14] === 0x1c;
  expect(hasError || reply[14] === 0x18).toBe(true);
  expect(hasError ? [1, 2, 3, 4, 5, 6] : [0]).toContain(reply[15]);
  expect(TARGETS.some((t) => t.shelf === reply.readUInt16BE(16) && t.slot === reply[18])).toBe(
    true,
  );
  expect(reply[19]).toBe(request[19]);
  expect(reply.includes(CANARY_RUN)).toBe(false);
  const definedSize = definedSizeOf(request, reply, hasError);
  expect(reply.length).toBe(Math.max(60, definedSize));
  expect(reply.subarray(definedSize).every((byte) => byte === 0)).toBe(true);
}

/** How many bytes of a reply mean something; the zeroes among them are checked. */
function definedSizeOf(request: Buffer, reply: Buffer, hasError: boolean): number {
  if (hasError && [1, 5].includes(reply[15] as number)) return 24;
  switch (reply[19]) {
    case 0:
      return hasError ? 24 : ataSize(request, reply);
    case 1:
      expect(reply[29]).toBe(0x10 | ((request[29] as number) & 0x0f));
      return hasError && reply[15] === 3 ? 24 : 32 + reply.readUInt16BE(30);
    case 2: {
      if (hasError) return reply[15] === 3 ? 24 : 28;
      expect(reply[24]).toBe(0);
      return 28 + (reply[26] === 0 ? 8 * (reply[27] as number) : 0);
    }
    default:
      return 26 + 6 * (reply[25] as number);
  }
}

function ataSize(request: Buffer, reply: Buffer): number {
  const opcode = request[27] as number;
  expect([0x40, 0x41, 0x61]).toContain(reply[27]);
  expect(reply[24]).toBe(0);
  expect(reply[26]).toBe(opcode === 0xe5 ? 0xff : 0);
  // SMART tells the disk's health in two bytes of the LBA.
  const zeroes = opcode === 0xb0 ? [28, 31, 32, 33, 34, 35] : [28, 29, 30, 31, 32, 33, 34, 35];
  for (const at of zeroes) expect(reply[at]).toBe(0);
  if (reply[27] !== 0x40) return 36;
  expect(reply[25]).toBe(0);
  if (opcode === 0x20 || opcode === 0x24) return 36 + SECTOR_SIZE * (request[26] as number);
  if (opcode !== 0xec && opcode !== 0xb0) return 36;
  // Their checksums make all bytes add up to zero.
  const sum = reply.subarray(36).reduce((total, byte) => total + byte, 0);
  expect(sum % 256).toBe(0);
  return 36 + SECTOR_SIZE;
}

describe('the server under random frames', () => {
  let examination: Examination | undefined;

  afterEach(async () => {
    await examination?.stage.close();
    examination = undefined;
  });

  it(
    `is sound for ${FUZZ_MS / 1000} s (seed ${SEED})`,
    async () => {
      const random = new Random(SEED);
      const addresses = [...TARGETS, { shelf: 7, slot: 7 }];
      const sources = { random, addresses, sizeSectors: SIZE_SECTORS, mtu: MTU };
      const deadline = performance.now() + FUZZ_MS;
      let tag = 0;
      for (let batch = 0; performance.now() < deadline; batch++) {
        if (batch % BATCHES_PER_STAGE === 0) {
          await examination?.stage.close();
          examination = new Examination();
        }
        const frames = Array.from({ length: 1 + random.below(BATCH_FRAMES_MAX) }, () =>
          randomFrame(sources, tag++),
        );
        const exam = examination as Examination;
        try {
          await exam.examine(frames, random.oneIn(50));
          if (batch % 50 === 0) await exam.expectSameDisks();
        } catch (cause) {
          const dump = frames.map((frame) => frame.toString('hex')).join('\n');
          throw new Error(`FUZZ_SEED=${SEED} fails in batch ${batch}:\n${dump}`, { cause });
        }
      }
      console.info(`fuzz: ${tag} frames with seed ${SEED}`);
    },
    FUZZ_MS + 30_000,
  );

  describe('is sound for frames that crashed or fooled servers before', () => {
    const everywhere = { destination: BROADCAST_MAC, shelf: 0xffff, slot: 0xff };
    const write = { opcode: 0x34, aflags: 0x41, sectorCount: 1 };
    const cases: Record<string, Buffer> = {
      'a string longer than its frame': configRequest({ ccmd: 4, text: 'abc', length: 35 }),
      'a string of 65535 bytes': configRequest({ ccmd: 4, text: 'abc', length: 0xffff }),
      'more directives than the frame holds': maskRequest(1, [], { count: 255 }),
      'more reserved addresses than the frame holds': reserveRequest(2, [], { count: 255 }),
      'a write to every disk': ataRequest({ ...write, ...everywhere, data: Buffer.alloc(512, 1) }),
      'a write without its data': ataRequest(write),
      'a write of half its data': ataRequest({ ...write, data: Buffer.alloc(256, 1) }),
      'a write without the write flag': ataRequest({
        ...{ opcode: 0x34, aflags: 0x40, sectorCount: 1 },
        data: Buffer.alloc(512, 1),
      }),
      'the highest LBA there is': ataRequest({
        ...write,
        lba: 2 ** 48 - 1,
        data: Buffer.alloc(512),
      }),
      'a trim whose filler names no sector of the disk': ataRequest({
        ...{ opcode: 0x06, aflags: 0x41, feature: 1, sectorCount: 1 },
        data: Buffer.alloc(512, Buffer.from('ffffffffffff0000', 'hex')),
      }),
      'a header without an argument': configRequest().subarray(0, 24),
      'half a header': configRequest().subarray(0, 19),
    };

    for (const [name, frame] of Object.entries(cases)) {
      it(name, async () => {
        examination = new Examination();
        await examination.examine([frame]);
        await examination.expectSameDisks();
      });
    }
  });
});
