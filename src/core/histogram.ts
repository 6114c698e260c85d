/**
 * Counts values in buckets of fixed number, whose width grows with the value: 8 to each power of
 * two, so a value read back is at most one eighth too high. Recording costs a few nanoseconds and
 * allocates nothing.
 */

/** Buckets to each power of two, and the number of its bits. */
const STEPS = 8;
const STEP_BITS = 3;
/** Values have at most this many bits; higher ones are counted as the highest. */
const VALUE_BITS = 27;
const VALUE_MAX = 2 ** VALUE_BITS - 1;
const BUCKET_COUNT = (VALUE_BITS - STEP_BITS + 1) * STEPS;

/** What a histogram holds, as plain data. */
export interface Distribution {
  readonly count: number;
  readonly sum: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  /** Element i: how many values are below 2^i and not below 2^(i-1). */
  readonly counts: number[];
}

export class Histogram {
  readonly #buckets = new Float64Array(BUCKET_COUNT);
  #sum = 0;

  /** Counts `value`, a number from 0; fractions are cut off, and what is below 0 counts as 0. */
  record(value: number): void {
    const whole = value > VALUE_MAX ? VALUE_MAX : value > 0 ? value | 0 : 0;
    const bucket = bucketOf(whole);
    this.#buckets[bucket] = (this.#buckets[bucket] as number) + 1;
    this.#sum += whole;
  }

  /** Loops, not iterators: the status of a thousand targets has thousands of these. */
  distribution(): Distribution {
    const counts = new Array<number>(VALUE_BITS + 1).fill(0);
    let count = 0;
    for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
      const inBucket = this.#buckets[bucket] as number;
      if (inBucket === 0) continue;
      const bits = 32 - Math.clz32(highestOf(bucket));
      counts[bits] = (counts[bits] as number) + inBucket;
      count += inBucket;
    }
    return {
      count,
      sum: this.#sum,
      p50: this.#quantile(0.5 * count),
      p99: this.#quantile(0.99 * count),
      p999: this.#quantile(0.999 * count),
      counts,
    };
  }

  /** The highest value of the bucket in which the `rank`-th value from below is; 0 if none is. */
  #quantile(rank: number): number {
    let below = 0;
    for (let bucket = 0; bucket < BUCKET_COUNT; bucket++) {
      below += this.#buckets[bucket] as number;
      if (below > 0 && below >= rank) return highestOf(bucket);
    }
    return 0;
  }
}

function bucketOf(value: number): number {
  if (value < STEPS) return value;
  const shift = 31 - STEP_BITS - Math.clz32(value);
  return shift * STEPS + (value >>> shift);
}

function highestOf(bucket: number): number {
  if (bucket < 2 * STEPS) return bucket;
  const shift = (bucket >>> STEP_BITS) - 1;
  return (((bucket & (STEPS - 1)) + STEPS + 1) << shift) - 1;
}
