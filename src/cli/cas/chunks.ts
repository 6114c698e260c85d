/** Copies between image and volume: several chunks under way at once, zeroes left out. */
import type { BlockDevice } from '../../core/block-device.ts';
import { DeviceClient } from '../../core/device-client.ts';

const CHUNK_BYTES = 1 << 20;
/** Chunks under way at once. */
export const LANE_COUNT = 4;
/** A request to the device moves so much at most. */
const SLOT_BYTES = 128 << 10;
/** Volumes of targets have whole blocks. */
export const BLOCK_BYTES = 4096;
const ZEROES = Buffer.alloc(CHUNK_BYTES);

/** A piece of the disk, at most {@link CHUNK_BYTES}. */
export interface Chunk {
  readonly offset: number;
  readonly length: number;
}

export function openClient(device: BlockDevice): DeviceClient {
  const bytes = Buffer.alloc(LANE_COUNT * CHUNK_BYTES);
  return new DeviceClient(device, { bytes, region: 0 }, SLOT_BYTES, 0);
}

/** Splits a piece of the disk into chunks. */
export function* chunksOf(offset: number, length: number): Generator<Chunk> {
  for (let done = 0; done < length; done += CHUNK_BYTES) {
    yield { offset: offset + done, length: Math.min(CHUNK_BYTES, length - done) };
  }
}

/** The runs of blocks in a chunk that are not all zero. The last block may be a part of one. */
export function* dataRuns(chunk: Buffer): Generator<{ start: number; end: number }> {
  if (chunk.equals(ZEROES.subarray(0, chunk.length))) return;
  let start = -1;
  for (let at = 0; at < chunk.length; at += BLOCK_BYTES) {
    const block = chunk.subarray(at, at + BLOCK_BYTES);
    const isZero = block.equals(ZEROES.subarray(0, block.length));
    if (isZero && start !== -1) {
      yield { start, end: at };
      start = -1;
    } else if (!isZero && start === -1) start = at;
  }
  if (start !== -1) yield { start, end: chunk.length };
}
