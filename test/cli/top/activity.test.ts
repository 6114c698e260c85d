import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { estimateQuantile, measureActivity } from '../../../src/cli/top/activity.ts';
import { Histogram } from '../../../src/core/histogram.ts';
import { link, STARTED, sample, target } from './statuses.ts';

const many = (count: number, us: number) => new Array<number>(count).fill(us);

describe('the activity between two statuses', () => {
  it('is what counters grew by, by second', () => {
    const before = sample(10, [target('e1.0', { reads: 100, writes: 10, stale: 1 })], {
      ...{ requests: 110, overload: 4, tooOld: 0 },
    });
    const now = target('e1.0', { reads: 300, writes: 20, stale: 5, failures: 2, inFlight: 3 });
    const after = sample(12, [now], { requests: 330, overload: 6, tooOld: 1 });
    const activity = measureActivity(before, after);
    expect(activity).toMatchObject({
      ...{ seconds: 2, restarted: false, added: [], removed: [] },
      ...{ requests: 110, overload: 1, tooOld: 0.5 },
    });
    expect(activity.targets).toMatchObject([
      {
        ...{ name: 'e1.0', reads: 100, writes: 5, readBytes: 409_600, writtenBytes: 20_480 },
        ...{ resends: 2, failures: 1, inFlight: 3 },
      },
    ]);
  });

  it('has the latencies of the interval alone', () => {
    const old = many(1000, 50_000);
    const before = sample(1, [target('e1.0', { reads: 1000, readUs: old })]);
    const readUs = [...old, ...many(98, 100), ...many(2, 3000)];
    const after = sample(2, [target('e1.0', { reads: 1100, readUs })]);
    const [found] = measureActivity(before, after).targets;
    expect(found?.readP50Us).toBeGreaterThanOrEqual(64);
    expect(found?.readP50Us).toBeLessThan(128);
    expect(found?.readP99Us).toBeGreaterThanOrEqual(2048);
    expect(found?.readP99Us).toBeLessThan(4096);
    expect(found).toMatchObject({ writeP50Us: null, writeP99Us: null });
  });

  it('is counted from the start of a server that was started again', () => {
    const past = { reads: 1e6, readUs: many(10, 50_000) };
    const before = sample(1000, [target('e1.0', past)], { links: [link(1e6, 1e6)] });
    const startedAt = new Date(STARTED + 1004_000).toISOString();
    const now = target('e1.0', { reads: 50, readUs: many(50, 100) });
    const after = sample(5, [now], { startedAt, pid: 8, requests: 50, links: [link(60, 50)] });
    const activity = measureActivity(before, after);
    expect(activity).toMatchObject({ restarted: true, seconds: 5, requests: 10, added: [] });
    expect(activity.targets[0]).toMatchObject({ reads: 10, writes: 0 });
    expect(activity.targets[0]?.readP99Us).toBeLessThan(128);
    expect(activity.interfaces).toEqual([
      { interface: 'eth0', up: true, received: 12, sent: 10, lost: 0 },
    ]);
  });

  it('is counted from 0 also when the new server has counted further than the old one', () => {
    const before = sample(1, [target('e1.0', { reads: 1 })]);
    const startedAt = new Date(STARTED + 2000).toISOString();
    const after = sample(10, [target('e1.0', { reads: 100 })], { startedAt });
    expect(measureActivity(before, after).targets[0]).toMatchObject({ reads: 10 });
  });

  it('tells of targets that came and went', () => {
    const before = sample(1, [target('e1.0', { reads: 5 }), target('e1.1', { reads: 5 })]);
    const after = sample(2, [target('e1.1', { reads: 6 }), target('e1.2', { reads: 7 })]);
    const activity = measureActivity(before, after);
    expect(activity).toMatchObject({ added: ['e1.2'], removed: ['e1.0'], restarted: false });
    expect(activity.targets).toMatchObject([
      { name: 'e1.1', reads: 1 },
      { name: 'e1.2', reads: 7 },
    ]);
  });

  it('counts a target from 0 that was removed and added again', () => {
    const before = sample(1, [target('e1.0', { reads: 9, writes: 9, readUs: many(9, 50_000) })]);
    const now = target('e1.0', { reads: 2, writes: 20, readUs: many(2, 100) });
    const [found] = measureActivity(before, sample(2, [now])).targets;
    expect(found).toMatchObject({ reads: 2, writes: 20 });
    expect(found?.readP99Us).toBeLessThan(128);
  });

  it('sums up what an interface lost, and starts anew when it did', () => {
    const losses = { dropped: 1, truncated: 2, unsent: 3 };
    const before = sample(1, [], { links: [link(1000, 1000)] });
    const after = sample(3, [], { links: [link(10, 8, losses)] });
    expect(measureActivity(before, after).interfaces).toEqual([
      { interface: 'eth0', up: true, received: 5, sent: 4, lost: 3 },
    ]);
    const down = { interface: 'eth0', mac: null, mtu: null, counters: null };
    const gone = sample(4, [], { links: [down] });
    expect(measureActivity(after, gone).interfaces).toMatchObject([{ up: false, received: 0 }]);
    const back = sample(6, [], { links: [link(4, 2)] });
    expect(measureActivity(gone, back).interfaces).toMatchObject([{ up: true, received: 2 }]);
  });

  it('never has a negative rate, whatever was counted before', () => {
    const count = fc.nat(100);
    const past = fc.record({
      ...{ reads: count, writes: count, stale: count, failures: count },
      ...{ readUs: fc.array(fc.nat(100_000)), writeUs: fc.array(fc.nat(100_000)) },
    });
    fc.assert(
      fc.property(past, past, fc.boolean(), (old, now, restarted) => {
        const before = sample(1, [target('e1.0', old)]);
        const fields = restarted ? { pid: 8 } : {};
        const after = sample(2, [target('e1.0', now)], fields);
        const numbers = JSON.stringify(measureActivity(before, after).targets);
        expect(numbers).not.toMatch(/:-|NaN/);
      }),
    );
  });
});

describe('a quantile of counts by power of two', () => {
  it('is null of none', () => {
    expect(estimateQuantile([0, 0, 0], 0.5)).toBeNull();
  });

  it('is in the power of two of the true one', () => {
    const values = fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(values, fc.constantFrom(0.5, 0.99), (us, share) => {
        const histogram = new Histogram();
        for (const value of us) histogram.record(value);
        const { counts } = histogram.distribution();
        const sorted = us.toSorted((x, y) => x - y);
        const truth = sorted[Math.ceil(share * us.length) - 1] as number;
        const bits = truth === 0 ? 0 : Math.floor(Math.log2(truth)) + 1;
        const estimate = estimateQuantile(counts, share) as number;
        expect(estimate).toBeGreaterThanOrEqual(bits === 0 ? 0 : 2 ** (bits - 1));
        expect(estimate).toBeLessThanOrEqual(2 ** bits);
      }),
    );
  });
});
