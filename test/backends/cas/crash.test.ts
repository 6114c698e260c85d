import { describe, expect, it } from 'vitest';
import { crashUntil } from './crash-states.ts';

/** Runs as long as it is told to, with other seeds: AOE_CAS_CRASH_MS, AOE_CAS_CRASH_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_CRASH_MS'] ?? 60_000);
const FIRST_SEED = Number(process.env['AOE_CAS_CRASH_SEED'] ?? 1);

describe('the content-addressed store after a crash', () => {
  it(
    'holds every confirmed write and nothing foreign, wherever it was cut',
    async () => {
      const startMs = Date.now();
      const states = await crashUntil(startMs + BUDGET_MS, FIRST_SEED);
      const perSecond = Math.round((states * 1000) / (Date.now() - startMs));
      console.log(`${states} crash states, ${perSecond} a second`);
      expect(states).toBeGreaterThan(100);
    },
    BUDGET_MS + 60_000,
  );
});
