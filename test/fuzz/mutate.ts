/** Inputs made from inputs. */
import type { Random } from '../protocol/random-frames.ts';

const INPUT_SIZE_MAX = 8192;
/** Values at which programs change their minds. */
const BORDERS = [0, 1, 2, 3, 0x0f, 0x10, 0x40, 0x7f, 0x80, 0xfe, 0xff];
const MUTATIONS_MAX = 6;

export interface Sources {
  readonly random: Random;
  /** Inputs that parts are taken from. */
  readonly corpus: readonly Buffer[];
  /** Byte strings that mean something to what is tested. */
  readonly words: readonly Buffer[];
}

/** `input` with a few changes; it stays as it is itself. */
export function mutate(input: Buffer, sources: Sources): Buffer {
  let mutated: Buffer = Buffer.from(input);
  for (let count = 1 + sources.random.below(MUTATIONS_MAX); count > 0; count--) {
    mutated = mutateOnce(mutated, sources).subarray(0, INPUT_SIZE_MAX);
  }
  return mutated;
}

function mutateOnce(input: Buffer, { random, corpus, words }: Sources): Buffer {
  const at = placeIn(input, random);
  const size = 1 + random.below(random.oneIn(4) ? 256 : 8);
  switch (random.below(9)) {
    case 0:
      return withByte(input, at, (input[at] ?? 0) ^ (1 << random.below(8)));
    case 1:
      return withByte(input, at, random.below(256));
    case 2:
      return withByte(input, at, random.pick(BORDERS));
    case 3:
      return withByte(input, at, (input[at] ?? 0) + random.below(9) - 4);
    case 4:
      return replace(input, at, size, Buffer.alloc(0));
    case 5:
      return replace(input, at, 0, input.subarray(at, at + size));
    case 6:
      return overwrite(input, at, random.pick(words));
    case 7:
      return replace(input, at, 0, random.pick(words));
    default:
      return splice(input, random.pick(corpus), random);
  }
}

/** Most decisions are made at the start. */
function placeIn(input: Buffer, random: Random): number {
  return random.below(random.oneIn(2) ? Math.min(64, input.length + 1) : input.length + 1);
}

function withByte(input: Buffer, at: number, value: number): Buffer {
  if (at < input.length) input[at] = value & 0xff;
  return input;
}

function replace(input: Buffer, at: number, size: number, part: Buffer): Buffer {
  return Buffer.concat([input.subarray(0, at), part, input.subarray(at + size)]);
}

function overwrite(input: Buffer, at: number, part: Buffer): Buffer {
  return replace(input, at, part.length, part);
}

/** One input behind the other, or a part of it somewhere inside. */
function splice(input: Buffer, other: Buffer, random: Random): Buffer {
  if (random.oneIn(2)) return Buffer.concat([input, other]);
  const from = random.below(other.length + 1);
  return overwrite(input, placeIn(input, random), other.subarray(from, from + random.below(128)));
}
