/**
 * Frames that a server gets in one batch, and what it answers. An input is a list of frames, each
 * after its size in two bytes, big-endian.
 */
import { join } from 'node:path';
import { CANARY, Examination } from '../protocol/examination.ts';
import { FOREIGN_BYTE } from '../support/frames.ts';
import { readInputs } from './corpus.ts';
import type { Target } from './loop.ts';

const FRAME_COUNT_MAX = 8;
const FRAME_SIZE_MAX = 14 + 1500;
const FRAME_SIZE_MIN = 15;
const ETHERTYPE = 12;
const VERSION_FLAGS = 14;
const RESPONSE_FLAG = 0x08;
const TAG = 20;

const MACS = ['020000000001', '020000000003', 'ffffffffffff', '000000000000'];
const ADDRESSES = ['000100', '000101', '000200', 'ffffff', '0001ff', 'ffff00'];
/** Opcode and aflags of ATA, SMART's signature. */
const COMMANDS = ['34', '41', '24', '40', 'ec', '06', 'b0', '4fc2', 'e7', 'ea', 'ef'];
/** Entries of a TRIM list: a sector at the start, some across the end. */
const RANGES = ['0000000000000100', '3f00000000000400'];

/** Bytes that lie around requests, and in memory that replies are built in. */
const MARKS = [CANARY, FOREIGN_BYTE];

const examination = new Examination();

export const frames: Target = {
  seeds: readInputs(join(process.cwd(), 'test/frames')).map((frame) =>
    Buffer.concat([sizeOf(frame), frame]),
  ),

  words: [
    ...[...MACS, ...ADDRESSES, ...COMMANDS, ...RANGES].map((hex) => Buffer.from(hex, 'hex')),
    Buffer.alloc(512),
  ],

  async fuzz(input: Buffer): Promise<string[]> {
    const batch = framesOf(input);
    if (batch.length === 0) return [];
    const replies = await examination.examine(batch);
    await examination.expectSameDisks();
    await examination.reset();
    const outcomes = replies.map(outcomeOf);
    // What a reply follows tells how the state changed.
    return outcomes.map((outcome, index) => `${outcomes[index - 1]} ${outcome}`);
  },
};

/** What kind of reply it is: command, errors, what was done, how much of it. */
function outcomeOf(reply: Buffer): string {
  const [command, argument] = [reply[19] as number, reply.subarray(24, 32)];
  const count = Math.min(4, reply[command === 2 ? 27 : 25] as number);
  const kinds: Record<number, string> = {
    0: `${argument.toString('hex', 0, 4)} ${reply.length > 60}`,
    1: argument.toString('hex', 5, 6),
    2: `${argument.toString('hex', 1, 3)} ${count}`,
    3: `${argument[0]} ${count}`,
  };
  return `${reply.toString('hex', 14, 16)} ${command} ${kinds[command]}`;
}

function sizeOf(frame: Uint8Array): Buffer {
  return Buffer.from([frame.length >> 8, frame.length & 0xff]);
}

function framesOf(input: Buffer): Buffer[] {
  const batch: Buffer[] = [];
  for (let at = 0; at + 2 < input.length && batch.length < FRAME_COUNT_MAX; ) {
    const size = input.readUInt16BE(at);
    const frame = Buffer.from(input.subarray(at + 2, at + 2 + Math.min(size, FRAME_SIZE_MAX)));
    if (frame.length >= FRAME_SIZE_MIN) batch.push(passable(frame, batch.length));
    at += 2 + size;
  }
  return batch;
}

/**
 * The frame as the kernel's filter would pass it, with a tag of its own, and without the bytes
 * that replies must not have.
 */
function passable(frame: Buffer, tag: number): Buffer {
  for (const [at, byte] of frame.entries()) if (MARKS.includes(byte)) frame[at] = byte + 1;
  frame.writeUInt16BE(0x88a2, ETHERTYPE);
  frame[VERSION_FLAGS] = (frame[VERSION_FLAGS] as number) & ~RESPONSE_FLAG;
  if (frame.length >= TAG + 4) frame.writeUInt32BE(tag, TAG);
  return frame;
}
