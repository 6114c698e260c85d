import { describe, expect, it } from 'vitest';
import { measureActivity } from '../../../src/cli/top/activity.ts';
import { formatActivity, ORDER_COUNT } from '../../../src/cli/top/report.ts';
import { link, sample, target } from './statuses.ts';

const NAMES = ['e1.0', 'e1.1', 'e20.0'];

function measure() {
  const before = sample(
    1,
    NAMES.map((name) => target(name)),
    { links: [link(0, 0)] },
  );
  const readUs = new Array<number>(500).fill(1500);
  const busy = target('e1.1', { reads: 500, readUs });
  const failed = { ...target('e20.0', { writes: 3, failures: 1 }), failed: true };
  const drained = { ...target('e1.0'), drained: true };
  const links = [link(600, 500, { dropped: 2 })];
  return measureActivity(before, sample(2, [drained, busy, failed], { links }));
}

/** The names of targets, from above. */
function order(lines: readonly string[]): string[] {
  return lines.flatMap((line) => /^(e\d+\.\d+) /.exec(line)?.[1] ?? []);
}

describe('the report of an activity', () => {
  it('has the server, its interfaces, and a line for each target', () => {
    const lines = formatActivity(measure());
    expect(lines[0]).toMatch(/^aoe-server 1\.2\.3, up .*, targets: 3, 0 requests\/s, 0 of 1024/);
    expect(lines).toContain('eth0: 600 received/s, 500 sent/s, 2.0 lost/s');
    expect(order(lines)).toEqual(NAMES);
    const row = 'e1.1 500 0 2.0 0.0 1.54 2.04 - - 0 0 0 0';
    expect(lines.map((line) => line.replaceAll(/ +/g, ' '))).toContain(row);
    expect(lines.join('\n')).toMatch(/^e1\.0 drained +0 +0 /m);
    expect(lines.join('\n')).toMatch(/^e20\.0 FAILED +0 +3\.0 /m);
  });

  it('sets numbers below one another', () => {
    const table = formatActivity(measure()).slice(-4);
    expect(new Set(table.map((line) => line.length)).size).toBe(1);
  });

  it('sorts by any column, the highest first, and marks it', () => {
    const activity = measure();
    const reads = formatActivity(activity, 1);
    expect(order(reads)[0]).toBe('e1.1');
    expect(reads.join('\n')).toContain('R/S*');
    expect(order(formatActivity(activity, 2))[0]).toBe('e20.0');
    for (let column = 1; column < ORDER_COUNT; column++) {
      expect(order(formatActivity(activity, column)).toSorted()).toEqual(NAMES);
    }
  });

  it('says what has changed', () => {
    const after = sample(5, [target('e1.1')], { pid: 8 });
    const text = formatActivity(measureActivity(sample(1, [target('e1.0')]), after)).join('\n');
    expect(text).toContain('The server was started again');
    expect(text).toContain('New: e1.1');
    expect(text).toContain('Gone: e1.0');
  });
});
