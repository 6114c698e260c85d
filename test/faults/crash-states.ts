/**
 * What a disk may hold after a power cut, made from a recording of all that was written to it.
 *
 * The recording has dm-log-writes' format: a sector with a header, then for each write a sector
 * with where it went and its flags, followed by its data. After a cut, writes that a later flush
 * covers are there; of the others each may be there, or not, or in some of its sectors only (but
 * for a superblock).
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { SECTOR_SIZE } from './setup.ts';

const MAGIC = 0x6a736677736872n;
const FLAG_FLUSH = 1n;
const FLAG_FUA = 2n;
const FLAG_DISCARD = 4n;
/**
 * Where ext4 has its superblock, of two sectors. It relies on disks never to tear that: it checks the
 * superblock before it replays the journal, and then refuses to mount.
 */
const SUPERBLOCK = 1024;

export interface LoggedWrite {
  /** In bytes. */
  readonly offset: number;
  readonly length: number;
  /** Undefined for a discard. */
  readonly data: Buffer | undefined;
  /** Makes all writes before it durable. */
  readonly flushes: boolean;
  /** Is durable itself. */
  readonly durable: boolean;
}

/** Reads a whole recording. */
export function parseLog(log: Buffer): LoggedWrite[] {
  if (log.readBigUInt64LE(0) !== MAGIC) throw new Error('this is no recording of writes');
  const count = Number(log.readBigUInt64LE(16));
  const writes: LoggedWrite[] = [];
  let at = SECTOR_SIZE;
  for (let index = 0; index < count; index++) {
    const offset = Number(log.readBigUInt64LE(at)) * SECTOR_SIZE;
    const length = Number(log.readBigUInt64LE(at + 8)) * SECTOR_SIZE;
    const flags = log.readBigUInt64LE(at + 16);
    at += SECTOR_SIZE;
    const hasData = (flags & FLAG_DISCARD) === 0n;
    const data = hasData ? log.subarray(at, at + length) : undefined;
    if (hasData) at += length;
    const flushes = (flags & FLAG_FLUSH) !== 0n;
    writes.push({ offset, length, data, flushes, durable: (flags & FLAG_FUA) !== 0n });
  }
  return writes;
}

/** Makes crash states one after the other, each of a later cut than the one before. */
export class CrashStates {
  readonly #writes: readonly LoggedWrite[];
  readonly #durable: Buffer;
  #durableCount = 0;

  constructor(writes: readonly LoggedWrite[], sizeBytes: number) {
    this.#writes = writes;
    this.#durable = Buffer.alloc(sizeBytes);
  }

  /** One of the states after a cut behind the first `cut` writes. */
  at(cut: number): Buffer {
    for (let index = cut - 1; index >= this.#durableCount; index--) {
      if (!this.#writes[index]?.flushes) continue;
      for (const write of this.#writes.slice(this.#durableCount, index + 1)) {
        apply(this.#durable, write, () => true);
      }
      this.#durableCount = index + 1;
    }
    const state = Buffer.from(this.#durable);
    // Some cuts lose nearly all that may be lost, some nearly nothing.
    const keptPart = Math.random();
    for (const write of this.#writes.slice(this.#durableCount, cut)) {
      const isTorn = Math.random() < 0.2;
      const isKept = write.durable || Math.random() < keptPart;
      if (isTorn && !write.durable) apply(state, write, () => Math.random() < keptPart);
      else if (isKept) apply(state, write, () => true);
    }
    return state;
  }
}

function apply(disk: Buffer, write: LoggedWrite, keeps: () => boolean): void {
  let isKept = true;
  for (let at = 0; at < write.length; at += SECTOR_SIZE) {
    if (write.offset + at !== SUPERBLOCK + SECTOR_SIZE) isKept = keeps();
    if (!isKept) continue;
    const sector = write.data?.subarray(at, at + SECTOR_SIZE) ?? Buffer.alloc(SECTOR_SIZE);
    sector.copy(disk, write.offset + at);
  }
}

/**
 * Writes a state to `path`, sparse: to a new file, as the last state may still be mounted. A program
 * in a network namespace has mounts of its own, those of its start, and a file system writes when the
 * last one goes.
 */
export async function saveState(path: string, state: Buffer): Promise<void> {
  await rm(path, { force: true });
  const file: FileHandle = await open(path, 'w');
  const chunk = 65_536;
  const zeroes = Buffer.alloc(chunk);
  try {
    await file.truncate(state.length);
    for (let at = 0; at < state.length; at += chunk) {
      const part = state.subarray(at, at + chunk);
      if (!part.equals(zeroes.subarray(0, part.length))) await file.write(part, 0, part.length, at);
    }
  } finally {
    await file.close();
  }
}
