/**
 * The superblock: which catalog is the current one. Four copies of 4 KiB in one file; generation
 * g is written to copies 0 and 1 when g is even, to 2 and 3 when it is odd, so the generation
 * before it stays whole until this one is durable. The second copy is written when the first is
 * durable, and a damaged one is written anew when the store is opened. So a crash damages one of two
 * at most: when both are damaged a generation is lost, and it may have been the newest.
 *
 *     0      4      8     24           32      40        44       48      56         88
 *     | magic| vers.| UUID| generation | epoch | segment | offset | length| checksum | 0 ...
 *
 * `segment`, `offset` and `length` say where the catalog record is. The checksum is BLAKE3 in the
 * record domain over the copy with a zero checksum.
 */
import { isDeepStrictEqual } from 'node:util';
import type { CasEngine } from '../../native.ts';
import type { StoreFile } from './file-layer.ts';
import { getUint53, HashDomain, SUPERBLOCK_VERSIONS, setUint53, viewOf } from './format.ts';
import { unlessUnreadable } from './records.ts';

export interface Superblock {
  /** The store's UUID. */
  readonly store: Uint8Array;
  readonly generation: number;
  /** How often the store has been opened for writing. */
  readonly epoch: number;
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
}

export const SUPERBLOCK_NAME = 'superblock';
const COPY_SIZE = 4096;
const NUMBERS: readonly number[] = [0, 1, 2, 3];
const MAGIC = 0x42534f41;
const CHECKSUM_OFFSET = 56;
const CHECKSUM_SIZE = 32;

/** Undefined when it is damaged, `empty` when it is all zeroes or missing. */
type Copy = Superblock | 'empty' | undefined;

export interface FoundSuperblocks {
  /** In their order in the file. */
  readonly copies: readonly Copy[];
  /** The whole copies, newest generation first. */
  readonly whole: readonly Superblock[];
  /** Numbers of the damaged copies. */
  readonly damaged: readonly number[];
  /** Those of which the other one of their generation is damaged, too: it may be the newest. */
  readonly lost: readonly number[];
}

/** @param isReplica a blob store has it, too: what came back from there has one generation only */
export async function readSuperblocks(
  file: StoreFile,
  engine: CasEngine,
  isReplica: boolean,
): Promise<FoundSuperblocks> {
  const copies: Copy[] = [];
  const failures: unknown[] = [];
  for (const number of NUMBERS) {
    const copy = await readCopy(file, engine, number).catch((error) => {
      failures.push(error);
      return unlessUnreadable(error);
    });
    copies.push(copy);
  }
  if (failures.length === NUMBERS.length) throw failures[0];
  const whole = copies.filter(isWhole).sort((a, b) => b.generation - a.generation);
  const newest = whole[0]?.generation ?? 0;
  const damaged = NUMBERS.filter((number) => {
    if (isWhole(copies[number])) return false;
    const [first, second] = [copies[number & ~1], copies[number | 1]];
    const generation = isWhole(first) ? first.generation : newest + 1;
    // A crash came before the first generation that was to be here was written twice.
    return !(second === 'empty' && (generation <= 2 || isReplica));
  });
  const lost = damaged.filter((number) => damaged.includes(number ^ 1));
  return { copies, whole, damaged, lost };
}

async function readCopy(file: StoreFile, engine: CasEngine, number: number): Promise<Copy> {
  const bytes = new Uint8Array(COPY_SIZE);
  await file.read(bytes, number * COPY_SIZE);
  if (bytes.every((byte) => byte === 0)) return 'empty';
  const superblock = decode(bytes, engine);
  return superblock && isPlace(number, superblock) ? superblock : undefined;
}

/**
 * Gives copies of one place the same content again. Else a crash that damages one of them could
 * leave both damaged.
 */
export async function mendSuperblocks(
  file: StoreFile,
  engine: CasEngine,
  { copies, whole }: FoundSuperblocks,
): Promise<void> {
  for (const number of NUMBERS) {
    const newest = whole.find((superblock) => isPlace(number, superblock));
    if (newest === undefined || isDeepStrictEqual(copies[number], newest)) continue;
    await file.write(encode(newest, engine), COPY_SIZE, number * COPY_SIZE, true);
  }
}

function isWhole(copy: Copy): copy is Superblock {
  return copy !== undefined && copy !== 'empty';
}

function isPlace(number: number, { generation }: Superblock): boolean {
  return generation % 2 === number >> 1;
}

/** Writes both copies of a generation and waits until they are durable. */
export async function writeSuperblock(
  file: StoreFile,
  engine: CasEngine,
  superblock: Superblock,
): Promise<void> {
  const copy = encode(superblock, engine);
  const start = superblock.generation % 2 === 0 ? 0 : 2 * COPY_SIZE;
  await file.write(copy, COPY_SIZE, start, true);
  await file.write(copy, COPY_SIZE, start + COPY_SIZE, true);
}

function encode(superblock: Superblock, engine: CasEngine): Uint8Array {
  const bytes = new Uint8Array(COPY_SIZE);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, SUPERBLOCK_VERSIONS.at(-1) as number, true);
  bytes.set(superblock.store, 8);
  setUint53(view, 24, superblock.generation);
  setUint53(view, 32, superblock.epoch);
  view.setUint32(40, superblock.segment, true);
  view.setUint32(44, superblock.offset, true);
  view.setUint32(48, superblock.length, true);
  bytes.set(checksum(bytes, engine), CHECKSUM_OFFSET);
  return bytes;
}

function decode(bytes: Uint8Array, engine: CasEngine): Superblock | undefined {
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const stored = bytes.slice(CHECKSUM_OFFSET, CHECKSUM_OFFSET + CHECKSUM_SIZE);
  bytes.fill(0, CHECKSUM_OFFSET, CHECKSUM_OFFSET + CHECKSUM_SIZE);
  if (Buffer.compare(stored, checksum(bytes, engine)) !== 0) return undefined;
  if (!SUPERBLOCK_VERSIONS.includes(view.getUint32(4, true))) return undefined;
  return {
    store: bytes.slice(8, 24),
    generation: getUint53(view, 24),
    epoch: getUint53(view, 32),
    segment: view.getUint32(40, true),
    offset: view.getUint32(44, true),
    length: view.getUint32(48, true),
  };
}

function checksum(bytes: Uint8Array, engine: CasEngine): Uint8Array {
  const hash = new Uint8Array(CHECKSUM_SIZE);
  engine.hash(HashDomain.record, bytes, 1, hash);
  return hash;
}
