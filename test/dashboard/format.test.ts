import { describe, expect, it } from 'vitest';
import {
  formatDuration,
  formatLatency,
  formatMegabytes,
  formatNumberOf,
  formatSize,
} from '../../src/dashboard/format.ts';

describe('the figures of the dashboard', () => {
  it.each([
    [0, '0 B'],
    [1023, '1,023 B'],
    [1024, '1 KiB'],
    [1536 * 1024, '1.50 MiB'],
    [10.25 * 1024 ** 3, '10.3 GiB'],
    [64 * 1024 ** 2, '64 MiB'],
    [2 ** 60, '1,024 PiB'],
  ])('write %d bytes as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  it.each([
    [undefined, '–'],
    [0, '0'],
    [12_345, '0.01'],
    [9_994_000, '9.99'],
    [9_996_000, '10.0'],
    [1_234_567_890, '1,235'],
  ])('write %s bytes a second as %s MB/s', (bytes, text) => {
    expect(formatMegabytes(bytes)).toBe(text);
  });

  it.each([
    [undefined, '–'],
    [0, '0 µs'],
    [999.4, '999 µs'],
    [999.6, '1.00 ms'],
    [15_640, '15.6 ms'],
    [2_500_000, '2.50 s'],
  ])('write %s us as %s', (us, text) => {
    expect(formatLatency(us)).toBe(text);
  });

  it.each([
    [-5, '0 s'],
    [59_999, '59 s'],
    [61_000, '1 min 1 s'],
    [3_600_000, '1 h 0 min'],
    [90_000_000, '1 d 1 h'],
  ])('write %d ms as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  it('count things', () => {
    expect([formatNumberOf(1, 'thread'), formatNumberOf(2, 'thread')]).toEqual([
      '1 thread',
      '2 threads',
    ]);
  });
});
