import { afterEach, expect, it, vi } from 'vitest';
import { waitWhile } from '../src/wait-while.ts';

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
