import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { run, tryRun } from '../../support/tools.ts';

/** Runs as long as it is told to, with other seeds: AOE_CAS_CRASH_MS, AOE_CAS_CRASH_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_CRASH_MS'] ?? 30_000);
const FIRST_SEED = Number(process.env['AOE_CAS_CRASH_SEED'] ?? 1);
const PROCESSES = availableParallelism();
const COMPILE_MS_MAX = 120_000;

describe('the content-addressed store after a crash', () => {
  it(
    'holds every confirmed write and nothing foreign, wherever it was cut',
    async () => {
      // Without what a test runner adds to each import and each line, it is faster by far.
      const compile = ['tsc', '-p', 'test/backends/cas/tsconfig.crash.json'];
      await run('npx', compile, { timeoutMs: COMPILE_MS_MAX });
      process.env['AOE_SERVER_ADDON'] ??= resolve('build/Release/aoe_native.node');
      const startMs = Date.now();
      const seeds = Array.from({ length: PROCESSES }, (_, index) => FIRST_SEED + index);
      const counts = await Promise.all(seeds.map((seed) => crash(startMs + BUDGET_MS, seed)));
      const states = counts.reduce((sum, count) => sum + count);
      const perSecond = Math.round((states * 1000) / (Date.now() - startMs));
      console.log(`${states} crash states, ${perSecond} a second`);
      expect(states).toBeGreaterThan(100);
    },
    BUDGET_MS + COMPILE_MS_MAX + 60_000,
  );
});

/** Crashes stores in a process of its own. @returns in how many states they were looked at */
async function crash(endMs: number, seed: number): Promise<number> {
  const program = '.cache/crash/test/backends/cas/crash-process.js';
  const args = [program, `${endMs}`, `${seed}`, `${PROCESSES}`];
  const timeoutMs = BUDGET_MS + 30_000;
  const { status, stdout, output } = await tryRun(process.execPath, args, { timeoutMs });
  // A sanitizer may tell of something on standard error, and let the process end well.
  if (status !== 0 || output !== stdout) throw new Error(output);
  return Number(stdout);
}
