import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { allEnded, waitWhile } from '../src/wait-while.ts';

afterEach(() => {
  vi.useRealTimers();
});

it('waits as long when the clock is set', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  let looks = 0;
  const isBusy = () => {
    vi.setSystemTime(Date.now() + 3_600_000);
    return ++looks < 5;
  };
  expect(await waitWhile(isBusy)).toBe(true);
  expect(looks).toBeGreaterThanOrEqual(5);
});

it('fails as the first that failed, when all has ended', async () => {
  let hasEnded = false;
  const late = sleep(20).then(() => {
    hasEnded = true;
    throw new Error('the first');
  });
  const soon = Promise.reject(new Error('the second'));
  await expect(allEnded([Promise.resolve(), late, soon])).rejects.toThrow('the first');
  expect(hasEnded).toBe(true);
  await allEnded([]);
});
