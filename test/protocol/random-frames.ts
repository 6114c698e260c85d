import {
  aoeRequest,
  ataRequest,
  BROADCAST_MAC,
  configRequest,
  type Directive,
  type HeaderFields,
  INITIATOR_MAC,
  maskRequest,
  padded,
  reserveRequest,
  SECTOR_SIZE,
} from './frames.ts';

/** A repeatable source of random numbers (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** A whole number from 0 up to, but not including, `bound`. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound) | 0;
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  bytes(size: number): Buffer {
    return Buffer.from(Array.from({ length: size }, () => this.below(256)));
  }
}

const MACS = [INITIATOR_MAC, '02:00:00:00:00:03', '02:00:00:00:00:04'];
const BAD_MACS = [BROADCAST_MAC, '01:00:5e:00:00:01', '00:00:00:00:00:00', '02:00:00:00:00:02'];
const COMMON_OPCODES = [0x20, 0x24, 0x30, 0x34, 0x34, 0x06];
const RARE_OPCODES = [0xec, 0xe5, 0xe7, 0xea, 0xef, 0xb0, 0x40, 0x42, 0xe0, 0xe1, 0xe6, 0xc8, 0x00];
const SMART_FEATURES = [0xd0, 0xd1, 0xd8, 0xda, 0xd4];
const FEATURES = [0, 1, 2, 0x82, ...SMART_FEATURES];
const SMART_LBA = 0xc24f00;
const RESPONSE_FLAG = 0x08;
/** Where the kernel's filter looks, and the tag. */
const VERSION_FLAGS = 14;
const TAG = 20;

export interface FrameSources {
  readonly random: Random;
  readonly addresses: readonly { shelf: number; slot: number }[];
  readonly sizeSectors: number;
  readonly mtu: number;
}

/**
 * A frame as the kernel's filter lets it through: of AoE's EtherType, without the response bit.
 * Most are well formed; the others are mutations of such, or noise.
 */
export function randomFrame(sources: FrameSources, tag: number): Buffer {
  const { random, mtu } = sources;
  let frame = random.oneIn(20) ? random.bytes(15 + random.below(200)) : wellFormed(sources);
  if (random.oneIn(3)) frame = mutate(frame, random);
  if (random.oneIn(3)) frame = padded(frame);
  frame = frame.subarray(0, 14 + mtu);
  if (frame.length <= VERSION_FLAGS) frame = padded(frame);
  frame.writeUInt16BE(0x88a2, 12);
  frame[VERSION_FLAGS] = (frame[VERSION_FLAGS] as number) & ~RESPONSE_FLAG;
  if (frame.length >= TAG + 4) frame.writeUInt32BE(tag, TAG);
  return frame;
}

function wellFormed(sources: FrameSources): Buffer {
  const { random } = sources;
  const header = randomHeader(sources);
  switch (random.below(12)) {
    case 0:
      return configRequest({
        ...header,
        ccmd: random.below(6),
        text: random.bytes(random.pick([0, 1, 5, 30, 1024])),
      });
    case 1:
      return maskRequest(random.below(3), randomDirectives(random), header);
    case 2:
      return reserveRequest(random.below(4), randomMacs(random), header);
    case 3:
      return aoeRequest({ ...header, command: random.below(256) }, random.bytes(random.below(60)));
    default:
      return randomAta(sources, header);
  }
}

function randomHeader({ random, addresses }: FrameSources): HeaderFields {
  const address = random.pick(addresses);
  return {
    source: random.oneIn(15) ? random.pick(BAD_MACS) : random.pick(MACS),
    shelf: random.oneIn(12) ? 0xffff : address.shelf,
    slot: random.oneIn(12) ? 0xff : address.slot,
    versionFlags: random.oneIn(20) ? random.below(256) : 0x10,
  };
}

function randomAta(sources: FrameSources, header: HeaderFields): Buffer {
  const { random, sizeSectors } = sources;
  const opcode = random.pick(random.oneIn(3) ? RARE_OPCODES : COMMON_OPCODES);
  const sectorCount = random.oneIn(20) ? random.below(256) : random.below(4);
  const isTrim = opcode === 0x06;
  const writes = isTrim || opcode === 0x30 || opcode === 0x34;
  return ataRequest({
    ...header,
    opcode,
    aflags: random.oneIn(12) ? random.below(256) : writes ? 0x41 : 0x40,
    sectorCount,
    feature: isTrim && !random.oneIn(6) ? 1 : random.pick(FEATURES),
    lba: randomLba(random, sizeSectors, opcode),
    data: isTrim
      ? randomRanges(random, sizeSectors)
      : random.bytes(writes || random.oneIn(9) ? Math.min(sectorCount, 3) * SECTOR_SIZE : 0),
  });
}

function randomLba(random: Random, sizeSectors: number, opcode: number): number {
  if (opcode === 0xb0 && !random.oneIn(5)) return SMART_LBA;
  if (random.oneIn(10)) return random.pick([2 ** 48 - 1, 2 ** 32, 2 ** 28, 0xe000_0000]);
  return random.below(sizeSectors + 2);
}

function randomRanges(random: Random, sizeSectors: number): Buffer {
  const data = Buffer.alloc(SECTOR_SIZE);
  for (let entry = random.below(6); entry > 0; entry--) {
    const at = 8 * random.below(SECTOR_SIZE / 8);
    data.writeUIntLE(random.oneIn(12) ? 2 ** 47 : random.below(sizeSectors), at, 6);
    data.writeUInt16LE(random.below(4), at + 6);
  }
  return data;
}

function randomMacs(random: Random): string[] {
  return Array.from({ length: random.below(4) }, () => random.pick(MACS));
}

/** Mostly no masks: an initiator that is masked out is answered nothing any more. */
function randomDirectives(random: Random): Directive[] {
  return randomMacs(random).map((mac) => [random.pick([0, 1, 1, 2, 2, 3]), mac]);
}

function mutate(frame: Buffer, random: Random): Buffer {
  const mutated = Buffer.from(frame);
  switch (random.below(3)) {
    case 0:
      return mutated.subarray(0, random.below(mutated.length + 1));
    case 1:
      return Buffer.concat([mutated, random.bytes(random.below(80))]);
    default:
      for (let count = 1 + random.below(3); count > 0; count--) {
        // The arguments are what most decisions are made from.
        const at = random.below(Math.min(mutated.length, random.oneIn(2) ? 36 : 2000));
        mutated[at] = random.below(256);
      }
      return mutated;
  }
}
