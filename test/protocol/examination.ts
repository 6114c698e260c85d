/** What must hold of a server under any frames at all, and a model of what it executes. */
import assert from 'node:assert/strict';
import type { TargetState } from '../../src/aoe/target-state.ts';
import { FOREIGN_BYTE } from '../support/frames.ts';
import { type Expected, executeOnModel, type ModelTarget } from './disk-model.ts';
import { SECTOR_SIZE } from './frames.ts';
import { readDisk, Stage, TARGET_MAC_NUMBER } from './stage.ts';

export const MTU = 1500;
export const SIZE_SECTORS = 64;
const OLD_US = 3_000_000;
/** Lies in all memory that replies are built in; no request contains a run of it. */
export const CANARY = 0xca;
const CANARY_RUN = Buffer.alloc(4, CANARY);
/** Lies around requests; as long as an address, so that chance does not make one. */
const FOREIGN_RUN = Buffer.alloc(6, FOREIGN_BYTE);

export const TARGETS = [
  { shelf: 1, slot: 0, readOnly: false, configString: 'first' },
  { shelf: 1, slot: 1, readOnly: true, configString: '' },
  { shelf: 2, slot: 0, readOnly: false, configString: 'x'.repeat(1024) },
].map((target) => ({ ...target, sizeBytes: SIZE_SECTORS * SECTOR_SIZE }));
const EMPTY_DISK = Buffer.alloc(SIZE_SECTORS * SECTOR_SIZE);

/** A server, and the model that its disks must equal. */
export class Examination {
  readonly #disks = TARGETS.map(({ sizeBytes }) => Buffer.alloc(sizeBytes));
  #stage = new Stage(TARGETS, MTU);
  #states = statesOf(this.#stage);

  /**
   * Delivers frames as one batch and checks all that comes of it.
   *
   * @returns the replies
   */
  async examine(frames: readonly Buffer[], isOld = false): Promise<Buffer[]> {
    const model = this.#stage.targets.map(
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
    this.#stage.slab.fill(CANARY);
    const replies = await this.#stage.deliver(frames, Date.now() * 1000 - (isOld ? OLD_US : 0));
    for (const reply of replies) {
      const request = frames.find((frame) => frame.subarray(20, 24).equals(reply.subarray(20, 24)));
      if (request === undefined) throw new Error(`nobody asked for ${reply.toString('hex')}`);
      expectSoundReply(request, reply);
      checkOutcome(expected.get(request.readUInt32BE(20)), reply);
    }
    const answered = new Set(replies.map((reply) => reply.readUInt32BE(20)));
    if (isOld) assert.equal(answered.size, 0);
    for (const tag of expected.keys()) assert.ok(answered.has(tag), `no reply to ${tag}`);
    assert.equal(this.#stage.server.counters.overload, 0);
    return replies;
  }

  async expectSameDisks(): Promise<void> {
    for (const [index, target] of this.#stage.targets.entries()) {
      const disk = await readDisk(target);
      assert.ok(disk.equals(this.#disks[index] as Buffer), `disk ${index} differs`);
    }
  }

  /** Makes the server and the model what they were at first. */
  async reset(): Promise<void> {
    const states = statesOf(this.#stage);
    if (states.some((state, index) => state !== this.#states[index])) {
      await this.#stage.close();
      this.#stage = new Stage(TARGETS, MTU);
      this.#states = statesOf(this.#stage);
    }
    for (const [index, { storage }] of this.#stage.targets.entries()) {
      const disk = this.#disks[index] as Buffer;
      if (disk.equals(EMPTY_DISK)) continue;
      disk.fill(0);
      await storage.write(0, EMPTY_DISK);
    }
  }

  close(): Promise<void> {
    return this.#stage.close();
  }
}

function statesOf(stage: Stage): TargetState[] {
  return stage.targets.map(({ target }) => target.state);
}

/** A valid read brings the model's data, a valid write succeeds. */
function checkOutcome(expected: Expected | undefined, reply: Buffer): void {
  if (expected === undefined) return;
  assert.equal(reply.readUInt32BE(24), 0x40);
  if (expected.kind === 'read') assert.ok(reply.subarray(36).equals(expected.data), 'data differs');
}

/** What holds of each reply, whatever was asked. */
function expectSoundReply(request: Buffer, reply: Buffer): void {
  assert.ok(reply.length <= 14 + MTU);
  assert.ok(reply.subarray(0, 6).equals(request.subarray(6, 12)));
  assert.equal((reply[0] as number) & 1, 0);
  assert.equal(reply.readUIntBE(6, 6), TARGET_MAC_NUMBER);
  assert.equal(reply.readUInt16BE(12), 0x88a2);
  const hasError = reply[14] === 0x1c;
  assert.ok(hasError || reply[14] === 0x18);
  assert.ok((hasError ? [1, 2, 3, 4, 5, 6] : [0]).includes(reply[15] as number));
  assert.ok(TARGETS.some((t) => t.shelf === reply.readUInt16BE(16) && t.slot === reply[18]));
  assert.equal(reply[19], request[19]);
  assert.ok(!reply.includes(CANARY_RUN), 'a byte of the reply was not written');
  assert.ok(!reply.includes(FOREIGN_RUN), 'the reply has bytes from beyond the request');
  const definedSize = definedSizeOf(request, reply, hasError);
  assert.equal(reply.length, Math.max(60, definedSize));
  assert.ok(reply.subarray(definedSize).every((byte) => byte === 0));
}

/** How many bytes of a reply mean something; the zeroes among them are checked. */
function definedSizeOf(request: Buffer, reply: Buffer, hasError: boolean): number {
  if (hasError && [1, 5].includes(reply[15] as number)) return 24;
  switch (reply[19]) {
    case 0:
      return hasError ? 24 : ataSize(request, reply);
    case 1:
      assert.equal(reply[29], 0x10 | ((request[29] as number) & 0x0f));
      return hasError && reply[15] === 3 ? 24 : 32 + reply.readUInt16BE(30);
    case 2: {
      if (hasError) return reply[15] === 3 ? 24 : 28;
      assert.equal(reply[24], 0);
      return 28 + (reply[26] === 0 ? 8 * (reply[27] as number) : 0);
    }
    default:
      return 26 + 6 * (reply[25] as number);
  }
}

function ataSize(request: Buffer, reply: Buffer): number {
  const opcode = request[27] as number;
  assert.ok([0x40, 0x41, 0x61].includes(reply[27] as number));
  assert.equal(reply[24], 0);
  assert.equal(reply[26], opcode === 0xe5 ? 0xff : 0);
  // SMART tells the disk's health in two bytes of the LBA.
  const zeroes = opcode === 0xb0 ? [28, 31, 32, 33, 34, 35] : [28, 29, 30, 31, 32, 33, 34, 35];
  for (const at of zeroes) assert.equal(reply[at], 0);
  if (reply[27] !== 0x40) return 36;
  assert.equal(reply[25], 0);
  if (opcode === 0x20 || opcode === 0x24) return 36 + SECTOR_SIZE * (request[26] as number);
  if (opcode !== 0xec && opcode !== 0xb0) return 36;
  // Their checksums make all bytes add up to zero.
  const sum = reply.subarray(36).reduce((total, byte) => total + byte, 0);
  assert.equal(sum % 256, 0);
  return 36 + SECTOR_SIZE;
}
