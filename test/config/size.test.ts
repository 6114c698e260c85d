import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatSize, parseSize } from '../../src/config/size.ts';

describe('parseSize', () => {
  it.each([
    [0, 0],
    [1024, 1024],
    ['1024', 1024],
    ['1K', 1024],
    ['1KiB', 1024],
    ['3MiB', 3 * 1024 ** 2],
    ['1 GiB', 1024 ** 3],
    ['1g', 1024 ** 3],
    ['2tib', 2 * 1024 ** 4],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ])('reads %j as %d bytes', (input, sizeBytes) => {
    expect(parseSize(input)).toBe(sizeBytes);
  });

  it.each<[number | string, string]>([
    ['1GB', 'GB may mean either of two things'],
    ['1.5GiB', 'it is not whole'],
    ['-1', 'it is negative'],
    ['', 'it is empty'],
    ['GiB', 'it has no number'],
    ['1PiB', 'the unit is unknown'],
    ['9007199254740992', 'it is not exact as a number'],
    ['8192TiB', 'it is not exact as a number'],
    [-512, 'it is negative'],
    [0.5, 'it is not whole'],
    [Number.NaN, 'it is not a number'],
    [Number.POSITIVE_INFINITY, 'it is not finite'],
  ])('refuses %j, because %s', (input) => {
    expect(parseSize(input)).toBeUndefined();
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0'],
    [512, '512'],
    [1536, '1536'],
    [4096, '4KiB'],
    [1536 * 1024 ** 2, '1536MiB'],
    [1024 ** 5, '1024TiB'],
  ])('writes %d as %s', (sizeBytes, text) => {
    expect(formatSize(sizeBytes)).toBe(text);
  });

  it('is undone by parsing, for every size', () => {
    const exponent = fc.integer({ min: 0, max: 52 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), exponent, (factor, shift) => {
        const sizeBytes = factor * 2 ** shift;
        fc.pre(Number.isSafeInteger(sizeBytes));
        expect(parseSize(formatSize(sizeBytes))).toBe(sizeBytes);
      }),
    );
  });
});
