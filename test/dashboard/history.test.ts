import { describe, expect, it } from 'vitest';
import { HISTORY_MS, History, quantile } from '../../src/dashboard/history.ts';
import type { ServerStatus, TargetStatus } from '../../src/status.ts';

const START = '2026-01-01T00:00:00.000Z';

interface Counts {
  reads?: number;
  writes?: number;
  readBytes?: number;
  writtenBytes?: number;
  /** Latencies of reads: how many in each bucket. */
  counts?: number[];
}

function target(name: string, { counts = [], ...counters }: Counts = {}): TargetStatus {
  const none = { reads: 0, writes: 0, readBytes: 0, writtenBytes: 0 };
  const latencyUs = { read: { counts }, write: { counts: [] } };
  return { name, counters: { ...none, ...counters }, latencyUs } as unknown as TargetStatus;
}

function status(targets: TargetStatus[], startedAt = START): ServerStatus {
  return { startedAt, targets } as unknown as ServerStatus;
}

describe('History', () => {
  it('makes rates of what was counted between two statuses', () => {
    const history = new History();
    history.add(status([target('e1.0', { reads: 10, readBytes: 1000, counts: [0, 5] })]), 1000);
    expect(history.latest('e1.0')).toBeUndefined();
    const after = { reads: 30, readBytes: 5000, writes: 4, writtenBytes: 64, counts: [0, 5, 20] };
    history.add(status([target('e1.0', after)]), 3000);
    expect(history.latest('e1.0')).toEqual({
      ...{ reads: 10, writes: 2, readBytes: 2000, writtenBytes: 32 },
      ...{ p50Us: 3, p99Us: 2 + (2 * 19.8) / 20 },
    });
  });

  it('adds up all targets, each once', () => {
    const history = new History();
    const names = ['e1.0', 'e1.1', 'e1.2'];
    history.add(status(names.map((name) => target(name))), 0);
    const busy = names.map((name) => target(name, { reads: 5, writtenBytes: 100, counts: [1] }));
    history.add(status(busy), 1000);
    expect(history.latest()).toMatchObject({ reads: 15, writtenBytes: 300, p99Us: 0 });
  });

  it('begins anew with a target that was opened anew, though it has done more since', () => {
    const history = new History();
    history.add(status([target('e1.0', { reads: 10, counts: [0, 0, 10] })]), 0);
    history.add(status([target('e1.0', { reads: 20, counts: [0, 20, 0] })]), 1000);
    expect(history.latest('e1.0')).toMatchObject({ reads: 20, p50Us: 1.5 });
  });

  it('has no latency when nothing was done', () => {
    const history = new History();
    history.add(status([target('e1.0', { counts: [7] })]), 0);
    history.add(status([target('e1.0', { counts: [7] })]), 1000);
    expect(history.latest('e1.0')).toMatchObject({ p50Us: undefined, p99Us: undefined });
  });

  it('begins anew with a server that has started again', () => {
    const history = new History();
    history.add(status([target('e1.0', { reads: 1000 })]), 0);
    history.add(status([target('e1.0', { reads: 2000 })], '2026-01-02T00:00:00.000Z'), 1000);
    expect(history.latest()).toBeUndefined();
    expect(history.of()).toEqual([]);
  });

  it('leaves out a target that has just come, and forgets one that is gone', () => {
    const history = new History();
    history.add(status([target('e1.0')]), 0);
    history.add(status([target('e1.0'), target('e1.1', { reads: 500 })]), 1000);
    expect(history.latest('e1.1')).toBeUndefined();
    expect(history.latest()).toMatchObject({ reads: 0 });
    history.add(status([target('e1.1', { reads: 700 })]), 2000);
    expect(history.latest('e1.1')).toMatchObject({ reads: 200 });
    expect(history.of('e1.0')).toEqual([]);
  });

  it('counts a target anew that was removed and added again', () => {
    const history = new History();
    history.add(status([target('e1.0', { reads: 1000, counts: [1000] })]), 0);
    history.add(status([target('e1.0', { reads: 30, counts: [30] })]), 1000);
    expect(history.latest('e1.0')).toMatchObject({ reads: 30, p50Us: 0 });
  });

  it('keeps five minutes', () => {
    const history = new History();
    for (let atMs = 0; atMs <= 2 * HISTORY_MS; atMs += 1000) history.add(status([]), atMs);
    const moments = history.of();
    expect([moments[0]?.atMs, moments.at(-1)?.atMs]).toEqual([HISTORY_MS, 2 * HISTORY_MS]);
  });
});

describe('quantile', () => {
  it('spreads the values of a bucket evenly', () => {
    expect(quantile([0, 0, 0, 100], 0.5)).toBe(6);
    expect(quantile([50, 0, 50], 0.5)).toBe(0);
    expect(quantile([0, 0, 50, 50], 0.75)).toBe(6);
    expect(quantile([0, 0, 50, 50], 1)).toBe(8);
  });
});
