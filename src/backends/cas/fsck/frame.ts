/** Restores frames, trusting nothing: LZ4 block format, decoded with every bound checked. */
import { BLOCK_SIZE, EntryKind, NODE_SIZE } from '../format.ts';
import { hashOf } from './hash.ts';

/** What a frame is of. */
export type Content = 'block' | 'node';

const RAW_SIZES: Readonly<Record<Content, number>> = { block: BLOCK_SIZE, node: NODE_SIZE };

/** @returns undefined when an entry of this kind has no frame */
export function contentOf(kind: number): Content | undefined {
  if (kind === EntryKind.block) return 'block';
  return kind === EntryKind.node ? 'node' : undefined;
}

/** @returns what a frame restores to; undefined when that does not have this hash */
export function restoreFrame(frame: Buffer, content: Content, hash: Buffer): Buffer | undefined {
  const raw = decodeFrame(frame, RAW_SIZES[content]);
  return raw !== undefined && hashOf(content, raw).equals(hash) ? raw : undefined;
}

/** @returns undefined when it is no frame of this size */
function decodeFrame(frame: Buffer, rawSize: number): Buffer | undefined {
  if (frame.length === rawSize) return frame;
  if (frame.length < 2 || frame.length > rawSize) return undefined;
  const end = 2 + frame.readUInt16LE(0);
  if (end > frame.length || frame.length - end >= 16) return undefined;
  if (frame.subarray(end).some((byte) => byte !== 0)) return undefined;
  return decompress(frame.subarray(2, end), rawSize);
}

function decompress(source: Buffer, rawSize: number): Buffer | undefined {
  const out = Buffer.alloc(rawSize);
  let [from, to] = [0, 0];
  const readLength = (nibble: number): number => {
    let length = nibble;
    for (let more = nibble === 15 ? 255 : 0; more === 255; length += more) {
      more = source[from++] ?? 0;
    }
    return length;
  };
  while (from < source.length) {
    const token = source[from++] as number;
    const literals = readLength(token >> 4);
    if (from + literals > source.length || to + literals > rawSize) return undefined;
    source.copy(out, to, from, from + literals);
    from += literals;
    to += literals;
    // The last sequence has literals only.
    if (from === source.length) break;
    if (from + 2 > source.length) return undefined;
    const distance = source.readUInt16LE(from);
    from += 2;
    const matched = readLength(token & 15) + 4;
    if (distance === 0 || distance > to || to + matched > rawSize) return undefined;
    for (let i = 0; i < matched; i++, to++) out[to] = out[to - distance] as number;
  }
  return to === rawSize ? out : undefined;
}
