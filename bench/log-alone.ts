/**
 * What a log takes of this disk: a load's records written and synced, in the same order and to room
 * of the same kind as a growing store has, from one thread that does nothing else.
 */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { recordSizeMax } from '../src/backends/cas/format.ts';
import { native } from '../src/native.ts';
import { BLOCK, type StoreLoad } from './store-load.ts';

const FILE_BYTES = 1 << 30;
/** A store's largest record. */
const RECORD_BLOCKS_MAX = 256;
/** Less than that a store writes where the file was written before: its sync takes half the time. */
const LITTLE_BYTES = 128 << 10;
const WRITTEN_BYTES = 16 << 20;

/**
 * @returns how long all requests in flight take together, in microseconds; undefined for reads, and
 * where no request waits for the disk
 */
export async function logAlone(
  path: string,
  load: StoreLoad,
  seconds: number,
): Promise<number | undefined> {
  if (!load.durable) return undefined;
  const blocks = (load.depth * load.requestBytes) / BLOCK;
  const recordBlocks = Math.min(blocks, RECORD_BLOCKS_MAX);
  const stored = load.content === 'duplicate' ? 0 : BLOCK;
  const record = Buffer.alloc(recordSizeMax(recordBlocks, stored), 1);
  const isLittle = record.length < LITTLE_BYTES;
  const sizeBytes = isLittle ? WRITTEN_BYTES : FILE_BYTES;
  const file = openSync(path, 'wx');
  try {
    await new native.FileTasks(1).allocate(file, sizeBytes);
    if (isLittle) writeSync(file, Buffer.alloc(sizeBytes), 0, sizeBytes, 0);
    fdatasyncSync(file);
    const groupBytes = Math.ceil(blocks / recordBlocks) * record.length;
    const startMs = performance.now();
    let groupCount = 0;
    for (let at = 0; performance.now() - startMs < seconds * 1000; groupCount++) {
      if (at + groupBytes > sizeBytes) {
        if (!isLittle) break;
        at = 0;
      }
      for (const end = at + groupBytes; at < end; ) {
        at += writeSync(file, record, 0, record.length, at);
      }
      fdatasyncSync(file);
    }
    return ((performance.now() - startMs) * 1000) / groupCount;
  } finally {
    closeSync(file);
    await rm(path);
  }
}
