import { describe, expect, it } from 'vitest';
import { Progress, type ProgressOutput } from '../../src/cli/progress.ts';

const MIB = 1 << 20;

/** A progress of 100 MiB with a clock that the test moves. */
function start(isTTY: boolean, columns?: number) {
  const written: string[] = [];
  const clock = { ms: 5000 };
  const width = columns === undefined ? {} : { columns };
  const output: ProgressOutput = { isTTY, ...width, write: (text) => written.push(text) };
  const progress = new Progress('importing', 100 * MIB, output, () => clock.ms);
  return { progress, written, clock };
}

describe('progress', () => {
  it('draws a bar with rate and time left over itself on a terminal', () => {
    const { progress, written, clock } = start(true);
    progress.update(MIB);
    expect(written).toEqual([]);
    clock.ms += 1000;
    progress.update(25 * MIB);
    expect(written).toEqual([
      '\rimporting [######------------------] 25%, 25MiB of 100MiB, 25MiB/s, 3 s left\x1b[K',
    ]);
    clock.ms += 100;
    progress.update(26 * MIB);
    expect(written).toHaveLength(1);
    progress.end();
    expect(written.at(-1)).toBe('\r\x1b[K');
  });

  it('prints a plain line now and then elsewhere', () => {
    const { progress, written, clock } = start(false);
    clock.ms += 9000;
    progress.update(9 * MIB);
    expect(written).toEqual([]);
    clock.ms += 1000;
    progress.update(10 * MIB);
    progress.end();
    expect(written).toEqual(['importing 10%, 10MiB of 100MiB, 1MiB/s, 1 min 30 s left\n']);
  });

  it('follows the rate smoothly and knows no time left while nothing moves', () => {
    const { progress, written, clock } = start(false);
    clock.ms += 10_000;
    progress.update(0);
    expect(written.at(-1)).toBe('importing 0%, 0B of 100MiB, 0B/s\n');
    clock.ms += 10_000;
    progress.update(20 * MIB);
    clock.ms += 10_000;
    progress.update(20 * MIB);
    expect(written.at(-1)).toBe('importing 20%, 20MiB of 100MiB, 1.6MiB/s, 50 s left\n');
  });

  it('fits into one line of a terminal, however narrow', () => {
    for (const [columns, wanted] of [
      [200, /^importing \[-{24}\] 1%, .* left$/],
      [80, /^importing \[-{17}\] 1%, .* left$/],
      [60, /^importing 1%, .* left$/],
      [30, /^importing 1%, 1\.1MiB of 100Mi$/],
    ] as const) {
      const { progress, written, clock } = start(true, columns);
      clock.ms += 11_800;
      progress.update(1.1 * MIB);
      const line = (written[0] as string).slice('\r'.length, -'\x1b[K'.length);
      expect(line.length).toBeLessThan(columns);
      expect(line).toMatch(wanted);
    }
  });

  it('counts what turns up later', () => {
    const { progress, written, clock } = start(false);
    clock.ms += 10_000;
    progress.update(110 * MIB);
    expect(written).toEqual(['importing 100%, 110MiB of 110MiB, 11MiB/s, 0 s left\n']);
  });

  it('knows no time left after a long halt either', () => {
    const { progress, written, clock } = start(true, 200);
    clock.ms += 1000;
    progress.update(50 * MIB);
    for (let second = 0; second < 120; second++) {
      clock.ms += 1000;
      progress.update(50 * MIB);
    }
    expect(written.at(-1)).toContain(' 50%, 50MiB of 100MiB, 0B/s\x1b[K');
  });
});
