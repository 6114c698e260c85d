import { describe, expect, it } from 'vitest';
import { ConcurrentWork } from './concurrent-work.ts';
import { unlessStuck, whileSlow } from './delays.ts';

/** Runs as long as it is told to, from a seed on: AOE_CAS_CONCURRENT_MS, AOE_CAS_CONCURRENT_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_CONCURRENT_MS'] ?? 15_000);
const FIRST_SEED = Number(process.env['AOE_CAS_CONCURRENT_SEED'] ?? 1);

describe.each([
  ['', false],
  [' that is in blobs, too', true],
])('a content-addressed store%s with which everything is done at once', (_, isRemote) => {
  it(
    'holds what was written last, and snapshots what there was',
    async () => {
      const endMs = Date.now() + BUDGET_MS;
      let [seed, requests, made] = [FIRST_SEED, 0, 0];
      for (; Date.now() < endMs; seed++) {
        const work = new ConcurrentWork(seed, endMs, isRemote);
        const run = whileSlow(work, () => work.run());
        const examined = unlessStuck(work.outstanding, run).then(() => work.examine());
        await examined.catch((cause) => {
          const seedAndProblems = [`AOE_CAS_CONCURRENT_SEED=${seed}`, ...work.problems];
          throw new Error(seedAndProblems.join('\n'), { cause });
        });
        requests += work.requestCount;
        made += work.madeCount;
      }
      console.log(
        `seeds ${FIRST_SEED} to ${seed - 1}: ${requests} requests, ${made} snapshots and others`,
      );
      expect(made).toBeGreaterThan(0);
    },
    BUDGET_MS + 60_000,
  );
});
