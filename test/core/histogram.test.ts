import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Histogram } from '../../src/core/histogram.ts';

const MOST = 2 ** 27 - 1;

function histogramOf(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

describe('Histogram', () => {
  it('knows nothing at first', () => {
    const counts = new Array(28).fill(0);
    const expected = { count: 0, sum: 0, p50: 0, p99: 0, p999: 0, counts };
    expect(new Histogram().distribution()).toEqual(expected);
  });

  it('cuts off fractions, and takes what it cannot hold for its bounds', () => {
    const { counts, sum } = histogramOf([-5, 0.9, Number.NaN, 1.5, 2 ** 40]).distribution();
    expect(sum).toBe(1 + MOST);
    expect([counts[0], counts[1], counts[27]]).toEqual([3, 1, 1]);
  });

  it('counts by powers of two exactly', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: MOST })), (values) => {
        const { counts } = histogramOf(values).distribution();
        counts.forEach((count, bits) => {
          const least = bits === 0 ? 0 : 2 ** (bits - 1);
          const inside = values.filter((value) => value >= least && value < 2 ** bits);
          expect(count).toBe(inside.length);
        });
      }),
    );
  });

  it('tells quantiles at most an eighth too high, and never too low', () => {
    const values = fc.array(fc.integer({ min: 0, max: MOST }), { minLength: 1 });
    fc.assert(
      fc.property(values, (given) => {
        const sorted = given.toSorted((a, b) => a - b);
        const { count, p50, p99, p999 } = histogramOf(given).distribution();
        expect(count).toBe(given.length);
        for (const [share, told] of [
          [0.5, p50],
          [0.99, p99],
          [0.999, p999],
        ] as const) {
          const exact = sorted[Math.max(0, Math.ceil(share * count) - 1)] as number;
          expect(told).toBeGreaterThanOrEqual(exact);
          expect(told).toBeLessThanOrEqual(exact + exact / 8);
        }
      }),
    );
  });
});
