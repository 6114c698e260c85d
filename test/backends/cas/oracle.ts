/**
 * The format read and computed once more, from its description alone and in plain JavaScript:
 * what the engine is compared with.
 */
import { blake3 } from '@noble/hashes/blake3.js';

const encoder = new TextEncoder();

export type Domain = 'block' | 'node' | 'record';

export function hashOf(domain: Domain, bytes: Uint8Array): Buffer {
  return Buffer.from(blake3(bytes, { context: encoder.encode(`aoe-server cas v1 ${domain}`) }));
}

/** The root of a volume with this content. */
export function rootOf(content: Uint8Array): Buffer {
  let hashes: Buffer[] = [];
  for (let start = 0; start < content.length; start += 4096) {
    const block = Buffer.alloc(4096);
    block.set(content.subarray(start, start + 4096));
    hashes.push(isZero(block) ? Buffer.alloc(32) : hashOf('block', block));
  }
  do {
    const parents: Buffer[] = [];
    for (let first = 0; first < hashes.length; first += 128) {
      const node = Buffer.alloc(4096);
      node.set(Buffer.concat(hashes.slice(first, first + 128)));
      parents.push(isZero(node) ? Buffer.alloc(32) : hashOf('node', node));
    }
    hashes = parents;
  } while (hashes.length > 1);
  return hashes[0] as Buffer;
}

export interface OracleEntry {
  readonly kind: number;
  readonly volume: number;
  readonly lba: number;
  readonly hash: Buffer;
  readonly segment: number;
  readonly offset: number;
  readonly stored: number;
}

/** Reads a record. @throws when its checksum is wrong */
export function readRecord(record: Buffer): OracleEntry[] {
  const count = record.readUInt32LE(56);
  const end = 128 + count * 64 + record.readUInt32LE(64);
  const covered = Buffer.concat([record.subarray(0, 96), record.subarray(128, end)]);
  if (!hashOf('record', covered).equals(record.subarray(96, 128))) throw new Error('checksum');
  return Array.from({ length: count }, (_, index) => {
    const entry = record.subarray(128 + index * 64, 192 + index * 64);
    const place = entry.readUInt32LE(52);
    return {
      kind: entry.readUInt32LE(0),
      volume: entry.readUInt32LE(4),
      lba: Number(entry.readBigUInt64LE(8)),
      hash: Buffer.from(entry.subarray(16, 48)),
      segment: entry.readUInt32LE(48),
      offset: Math.floor(place / 512) * 16,
      stored: (place % 512) * 16,
    };
  });
}

/** Restores what a frame holds. */
export function decodeFrame(frame: Buffer, rawSize: number): Buffer {
  if (frame.length === rawSize) return Buffer.from(frame);
  const length = frame.readUInt16LE(0);
  return decompress(frame.subarray(2, 2 + length), rawSize);
}

/** LZ4 block format. */
function decompress(source: Buffer, rawSize: number): Buffer {
  const out = Buffer.alloc(rawSize);
  let [from, to] = [0, 0];
  const readLength = (nibble: number): number => {
    let length = nibble;
    for (let more = nibble === 15 ? 255 : 0; more === 255; length += more) {
      more = source[from++] as number;
    }
    return length;
  };
  while (from < source.length) {
    const token = source[from++] as number;
    const literals = readLength(token >> 4);
    source.copy(out, to, from, from + literals);
    from += literals;
    to += literals;
    if (from >= source.length) break;
    const distance = source.readUInt16LE(from);
    from += 2;
    const matched = readLength(token & 15) + 4;
    for (let i = 0; i < matched; i++, to++) out[to] = out[to - distance] as number;
  }
  if (to !== rawSize) throw new Error('the frame has another length');
  return out;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
