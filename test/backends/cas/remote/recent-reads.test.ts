import { describe, expect, it } from 'vitest';
import { SEGMENT_BYTES_MAX } from '../../../../src/backends/cas/format.ts';
import { RecentReads } from '../../../../src/backends/cas/remote/recent-reads.ts';

const MIB = 1 << 20;

/** The place of a frame that begins at byte `offset`, as large as a frame can be. */
function placeAt(offset: number): number {
  return (offset / 16) * 512 + 511;
}

/** Has read one frame. */
function readsAt(segment: number, offset: number): RecentReads {
  const reads = new RecentReads();
  reads.note(segment, placeAt(offset));
  return reads;
}

describe('notes of reads', () => {
  it('tell of a read once', () => {
    const reads = readsAt(7, 3 * MIB);
    expect(reads.take(7, 3 * MIB, 4 * MIB)).toBe(true);
    expect(reads.take(7, 3 * MIB, 4 * MIB)).toBe(false);
  });

  it.each([0, MIB - 16, SEGMENT_BYTES_MAX - 16])(
    'tell of a read at byte %i, and of its segment only',
    (offset) => {
      expect(readsAt(7, offset).take(7, 0, SEGMENT_BYTES_MAX)).toBe(true);
      expect(readsAt(7, offset).take(7, offset, offset + 16)).toBe(true);
      expect(readsAt(7, offset).take(6, 0, SEGMENT_BYTES_MAX)).toBe(false);
      expect(readsAt(7, offset).take(8, 0, SEGMENT_BYTES_MAX)).toBe(false);
    },
  );

  it('tell of no read before or behind', () => {
    const reads = readsAt(7, 3 * MIB);
    expect(reads.take(7, 0, 3 * MIB)).toBe(false);
    expect(reads.take(7, 4 * MIB, SEGMENT_BYTES_MAX)).toBe(false);
    expect(reads.take(7, 0, SEGMENT_BYTES_MAX)).toBe(true);
  });

  it('forget all that they tell of', () => {
    const reads = readsAt(7, 0);
    reads.note(7, placeAt(5 * MIB));
    expect(reads.take(7, 0, SEGMENT_BYTES_MAX)).toBe(true);
    expect(reads.take(7, 5 * MIB, 6 * MIB)).toBe(false);
  });
});
