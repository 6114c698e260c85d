/**
 * What happened lately: rates between one status and the next, for each target and for all.
 *
 * Invariants: what is kept is bounded in time. Rates are never made from counters of two runs of
 * the server, nor of a target from before it was there.
 */
import type { ServerStatus, TargetStatus } from '../status.ts';

export const HISTORY_MS = 300_000;

/** Of a time between two statuses; each second of it. */
export interface Rates {
  readonly reads: number;
  readonly writes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Microseconds, of reads and writes that ended then; undefined when none did. */
  readonly p50Us: number | undefined;
  readonly p99Us: number | undefined;
}

export interface Moment {
  /** By a clock that never goes back. */
  readonly atMs: number;
  readonly rates: Rates;
}

/** What rates are made of. */
interface Totals {
  readonly reads: number;
  readonly writes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** As in a distribution of the status. */
  readonly latencies: readonly number[];
}

/** Stands for all targets together. */
const ALL = '';

export class History {
  #status: ServerStatus | undefined;
  #atMs = 0;
  readonly #moments = new Map<string, Moment[]>();

  /** Takes what the server told at `atMs`. */
  add(status: ServerStatus, atMs: number): void {
    const before = this.#status;
    const seconds = (atMs - this.#atMs) / 1000;
    this.#status = status;
    this.#atMs = atMs;
    this.#forget(status, atMs - HISTORY_MS);
    if (before === undefined || before.startedAt !== status.startedAt) return;
    const changes: Totals[] = [];
    for (const target of status.targets) {
      const old = before.targets.find(({ name }) => name === target.name);
      if (old === undefined) continue;
      const change = subtract(totalsOf(target), totalsOf(old));
      changes.push(change);
      this.#put(target.name, atMs, change, seconds);
    }
    this.#put(
      ALL,
      atMs,
      changes.reduce((sum, change) => add(sum, change), NOTHING),
      seconds,
    );
  }

  /** The moments of a target, the oldest first; of all targets together without a name. */
  of(name = ALL): readonly Moment[] {
    return this.#moments.get(name) ?? [];
  }

  /** What happened just now. */
  latest(name = ALL): Rates | undefined {
    const moment = this.of(name).at(-1);
    return moment?.atMs === this.#atMs ? moment.rates : undefined;
  }

  #put(name: string, atMs: number, change: Totals, seconds: number): void {
    const moments = this.#moments.get(name) ?? [];
    this.#moments.set(name, moments);
    moments.push({ atMs, rates: toRates(change, seconds) });
  }

  #forget({ targets }: ServerStatus, beforeMs: number): void {
    const names = new Set([ALL, ...targets.map(({ name }) => name)]);
    for (const [name, moments] of this.#moments) {
      while ((moments[0]?.atMs ?? beforeMs) < beforeMs) moments.shift();
      if (!names.has(name)) this.#moments.delete(name);
    }
  }
}

const NOTHING: Totals = { reads: 0, writes: 0, readBytes: 0, writtenBytes: 0, latencies: [] };

function totalsOf({ counters, latencyUs }: TargetStatus): Totals {
  const { reads, writes, readBytes, writtenBytes } = counters;
  const latencies = combine(latencyUs.read.counts, latencyUs.write.counts, 1);
  return { reads, writes, readBytes, writtenBytes, latencies };
}

function add(a: Totals, b: Totals, sign = 1): Totals {
  return {
    reads: a.reads + sign * b.reads,
    writes: a.writes + sign * b.writes,
    readBytes: a.readBytes + sign * b.readBytes,
    writtenBytes: a.writtenBytes + sign * b.writtenBytes,
    latencies: combine(a.latencies, b.latencies, sign),
  };
}

/** A target that was removed and added again counts anew. */
function subtract(now: Totals, before: Totals): Totals {
  const change = add(now, before, -1);
  const { reads, writes, latencies } = change;
  return Math.min(reads, writes, ...latencies) < 0 ? now : change;
}

function combine(a: readonly number[], b: readonly number[], sign: number): number[] {
  const longer = a.length > b.length ? a : b;
  return longer.map((_, bucket) => (a[bucket] ?? 0) + sign * (b[bucket] ?? 0));
}

function toRates({ latencies, ...counters }: Totals, seconds: number): Rates {
  return {
    reads: counters.reads / seconds,
    writes: counters.writes / seconds,
    readBytes: counters.readBytes / seconds,
    writtenBytes: counters.writtenBytes / seconds,
    p50Us: quantile(latencies, 0.5),
    p99Us: quantile(latencies, 0.99),
  };
}

/**
 * The value that a share of all values does not exceed, as if those of a bucket were spread evenly.
 *
 * @param counts element i: how many values are below 2^i and not below 2^(i-1)
 */
export function quantile(counts: readonly number[], share: number): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return undefined;
  let rank = share * total;
  const bucket = counts.findIndex((count) => {
    if (count > 0 && count >= rank) return true;
    rank -= count;
    return false;
  });
  if (bucket === 0) return 0;
  const lowest = 2 ** (bucket - 1);
  return lowest + (lowest * rank) / (counts[bucket] as number);
}
