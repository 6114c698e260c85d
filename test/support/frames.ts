import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FRAMES = join(import.meta.dirname, '../frames');

/** Reads `test/frames/<name>.hex`: bytes in hex, and after each `#` what they are. */
export function readFrame(name: string): Uint8Array {
  const text = readFileSync(join(FRAMES, `${name}.hex`), 'utf8');
  const digits = text.replace(/#.*$/gm, '').replace(/\s/g, '');
  if (!/^(?:[0-9a-f]{2})+$/.test(digits)) throw new Error(`${name}.hex is not whole bytes in hex`);
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

/** What lies around a frame in {@link placeFrame}: nothing of it may be read or changed. */
export const FOREIGN_BYTE = 0xee;

/** A frame somewhere in a larger buffer, as in a receive ring; it starts at byte `at`. */
export function placeFrame(frame: Uint8Array, at: number): DataView {
  const ring = new Uint8Array(at + frame.length + 2048).fill(FOREIGN_BYTE);
  ring.set(frame, at);
  // The view does not start where its buffer starts, as a part of a slab does not.
  const slab = new Uint8Array(ring.length + 8).fill(FOREIGN_BYTE);
  slab.set(ring, 8);
  return new DataView(slab.buffer, 8);
}
