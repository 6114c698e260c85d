/**
 * The superblock: which catalog is the current one. Four copies of 4 KiB in one file; generation
 * g is written to copies 0 and 1 when g is even, to 2 and 3 when it is odd, so the generation
 * before it stays whole until this one is durable.
 *
 *     0      4      8     24           32      40        44       48      56         88
 *     | magic| vers.| UUID| generation | epoch | segment | offset | length| checksum | 0 ...
 *
 * `segment`, `offset` and `length` say where the catalog record is. The checksum is BLAKE3 in the
 * record domain over the copy with a zero checksum.
 */
import type { CasEngine } from '../../native.ts';
import type { StoreFile } from './file-layer.ts';
import { getUint53, HashDomain, SUPERBLOCK_VERSIONS, setUint53, viewOf } from './format.ts';

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
const COPY_COUNT = 4;
const MAGIC = 0x42534f41;
const CHECKSUM_OFFSET = 56;
const CHECKSUM_SIZE = 32;

/** The whole copies, newest generation first. */
export async function readSuperblocks(file: StoreFile, engine: CasEngine): Promise<Superblock[]> {
  const bytes = new Uint8Array(COPY_SIZE * COPY_COUNT);
  const length = await file.read(bytes, 0);
  const found: Superblock[] = [];
  for (let start = 0; start + COPY_SIZE <= length; start += COPY_SIZE) {
    const superblock = decode(bytes.slice(start, start + COPY_SIZE), engine);
    if (superblock !== undefined) found.push(superblock);
  }
  return found.sort((a, b) => b.generation - a.generation);
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
