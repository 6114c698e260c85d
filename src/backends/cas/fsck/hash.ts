/** The hashes of the format. The engine lends its hash function, and nothing else. */
import { native } from '../../../native.ts';
import { HashDomain } from '../format.ts';

export const HASH_SIZE = 32;
/** Of a record. */
export const CHECKSUM_START = 96;
const HASHED_SIZE = 4096;
const engine = new native.CasEngine(0);

/** Hash of a block, of a node, or of a superblock with zeroes for its checksum. */
export function hashOf(domain: keyof typeof HashDomain, bytes: Buffer): Buffer {
  const hash = Buffer.alloc(HASH_SIZE);
  engine.hash(HashDomain[domain], bytes.subarray(0, HASHED_SIZE), 1, hash);
  return hash;
}

/**
 * The checksum that a record should have.
 *
 * @param described header, entries and inline data: their lengths must fit those in the header
 */
export function checksumOf(described: Buffer): Buffer {
  const copy = Buffer.from(described);
  engine.seal(copy);
  return copy.subarray(CHECKSUM_START, CHECKSUM_START + HASH_SIZE);
}
