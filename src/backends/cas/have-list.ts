/**
 * The list of what a store has, for another one that is about to send something to it;
 * docs/CAS-FORMAT.md describes it.
 */
import { createHash } from 'node:crypto';
import { StartupError } from '../../core/startup-error.ts';
import { whileNothingIsFreed } from './collect.ts';
import { FANOUT, HASH_WORDS } from './format.ts';
import { HashSet } from './hash-set.ts';
import { isZeroHash } from './hash-words.ts';
import { Pace } from './pace.ts';
import type { CasStore } from './store.ts';
import { ByteReader, TransferError } from './transfer-bytes.ts';
import { storedRoots, walkTree } from './walk.ts';

const MAGIC = 0x48434f41;
const VERSION = 1;
const HEADER_SIZE = 16;
const HASH_BYTES = HASH_WORDS * 4;
/** Hashes that are read or written at once. */
const GROUP_COUNT = 2048;
const CHECKSUM = 'sha256';

/**
 * Gathers the hashes of all blocks and tree nodes that volumes and snapshots reach.
 *
 * @throws {DamageError} a node cannot be read; @throws {StartupError} they are too many
 */
export function gatherHashes(
  store: CasStore,
  pace = new Pace(),
  countMax = Number.MAX_SAFE_INTEGER,
): Promise<HashSet> {
  return whileNothingIsFreed(store, pace, async () => {
    await store.whenSnapshotsStored();
    const hashes = new HashSet();
    for (const root of storedRoots(store)) {
      await walkTree(store.reader, root, pace, {
        enter: (words, index) => hashes.add(words, index),
        node: ({ level, words }) => {
          if (hashes.count > countMax) throw tooLong(countMax);
          if (level > 0) return;
          for (let index = 0; index < FANOUT * HASH_WORDS; index += HASH_WORDS) {
            if (!isZeroHash(words, index)) hashes.add(words, index);
          }
        },
      });
    }
    return hashes;
  });
}

export function* encodeHaveList(hashes: HashSet): Generator<Uint8Array> {
  const header = Buffer.alloc(HEADER_SIZE);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(VERSION, 4);
  header.writeBigUInt64LE(BigInt(hashes.count), 8);
  const checksum = createHash(CHECKSUM).update(header);
  yield header;
  for (const group of hashes.groups(GROUP_COUNT)) {
    const bytes = new Uint8Array(group.buffer, 0, group.byteLength);
    checksum.update(bytes);
    yield bytes;
  }
  yield checksum.digest();
}

/**
 * @throws {TransferError} it is cut off or damaged, or no list
 * @throws {StartupError} it is too long
 */
export async function readHaveList(
  bytes: AsyncIterable<Uint8Array>,
  countMax = Number.MAX_SAFE_INTEGER,
): Promise<HashSet> {
  const reader = new ByteReader(bytes, 'the list of what the other store has');
  const header = await reader.take(HEADER_SIZE);
  if (header.readUInt32LE(0) !== MAGIC) {
    throw new TransferError('this is no list of what a store has');
  }
  const version = header.readUInt32LE(4);
  if (version !== VERSION) {
    throw new TransferError(`the list of what the other store has is of version ${version}`);
  }
  const checksum = createHash(CHECKSUM).update(header);
  const count = Number(header.readBigUInt64LE(8));
  if (count > countMax) throw tooLong(countMax);
  const hashes = new HashSet();
  for (let left = count; left > 0; left -= GROUP_COUNT) {
    const group = await reader.take(Math.min(left, GROUP_COUNT) * HASH_BYTES);
    checksum.update(group);
    const words = new Uint32Array(Uint8Array.from(group).buffer);
    for (let index = 0; index < words.length; index += HASH_WORDS) {
      if (!isZeroHash(words, index)) hashes.add(words, index);
    }
  }
  if (!checksum.digest().equals(await reader.take(HASH_BYTES))) throw reader.damaged();
  await reader.takeEnd();
  return hashes;
}

function tooLong(countMax: number): StartupError {
  return new StartupError(
    `there are more than ${countMax} hashes, too many for a running server`,
    'stop the server, and ask again; or send --from a common snapshot',
  );
}
