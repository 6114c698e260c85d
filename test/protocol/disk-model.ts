import type { TargetState } from '../../src/aoe/target-state.ts';
import { SECTOR_SIZE } from './frames.ts';

export interface ModelTarget {
  readonly shelf: number;
  readonly slot: number;
  readonly readOnly: boolean;
  readonly disk: Buffer;
  /** What the target remembers at present. */
  readonly state: TargetState;
}

/** Which write or read a frame asks for, if it is valid; by the rules of the protocol alone. */
export type Expected =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'read'; readonly data: Buffer }
  | { readonly kind: 'change' };

const NOTHING: Expected = { kind: 'nothing' };
const READ_EXT = 0x24;
const WRITE_EXT = 0x34;
const TRIM = 0x06;

/** Executes `frame` on the model. */
export function executeOnModel(
  targets: readonly ModelTarget[],
  frame: Buffer,
  serverMac: number,
): Expected {
  if (frame.length < 36 || (frame[14] as number) >> 4 !== 1 || frame[19] !== 0) return NOTHING;
  const source = frame.readUIntBE(6, 6);
  const isGroup = ((frame[6] as number) & 1) !== 0;
  if (isGroup || source === 0 || source === serverMac) return NOTHING;
  const [shelf, slot] = [frame.readUInt16BE(16), frame.readUInt8(18)];
  const target = targets.find((each) => each.shelf === shelf && each.slot === slot);
  if (target === undefined) return NOTHING;
  const { maskList, reserveList } = target.state;
  const isIn = (list: readonly number[]) => list.length === 0 || list.includes(source);
  if (!isIn(maskList) || !isIn(reserveList)) return NOTHING;
  switch (frame[27]) {
    case READ_EXT:
    case 0x20:
      return read(target, frame);
    case WRITE_EXT:
    case 0x30:
      return write(target, frame);
    case TRIM:
      return trim(target, frame);
    default:
      return NOTHING;
  }
}

function lbaOf(frame: Buffer): number {
  const isExtended = ((frame[27] as number) & 0x04) !== 0;
  return isExtended ? frame.readUIntLE(28, 6) : frame.readUIntLE(28, 4) % 2 ** 28;
}

function read({ disk }: ModelTarget, frame: Buffer): Expected {
  const sectorCount = frame[26] as number;
  const start = lbaOf(frame) * SECTOR_SIZE;
  const end = start + sectorCount * SECTOR_SIZE;
  const hasWriteFlag = ((frame[24] as number) & 0x01) !== 0;
  if (hasWriteFlag || sectorCount === 0 || sectorCount > 2 || end > disk.length) return NOTHING;
  return { kind: 'read', data: Buffer.from(disk.subarray(start, end)) };
}

function write({ disk, readOnly }: ModelTarget, frame: Buffer): Expected {
  const length = (frame[26] as number) * SECTOR_SIZE;
  const start = lbaOf(frame) * SECTOR_SIZE;
  const hasWriteFlag = ((frame[24] as number) & 0x01) !== 0;
  if (!hasWriteFlag || length === 0 || readOnly) return NOTHING;
  if (frame.length < 36 + length || start + length > disk.length) return NOTHING;
  frame.copy(disk, start, 36, 36 + length);
  return { kind: 'change' };
}

function trim({ disk, readOnly }: ModelTarget, frame: Buffer): Expected {
  const length = (frame[26] as number) * SECTOR_SIZE;
  const hasWriteFlag = ((frame[24] as number) & 0x01) !== 0;
  if (!hasWriteFlag || frame[25] !== 1 || length === 0 || readOnly) return NOTHING;
  if (frame.length < 36 + length) return NOTHING;
  const ranges: [start: number, end: number][] = [];
  for (let at = 36; at < 36 + length; at += 8) {
    const sectorCount = frame.readUInt16LE(at + 6);
    // An entry without sectors is filler, whatever its LBA (ACS-3 §7.5).
    if (sectorCount === 0) continue;
    const start = frame.readUIntLE(at, 6) * SECTOR_SIZE;
    ranges.push([start, start + sectorCount * SECTOR_SIZE]);
  }
  if (ranges.some(([, end]) => end > disk.length)) return NOTHING;
  for (const [start, end] of ranges) disk.fill(0, start, end);
  return { kind: 'change' };
}
