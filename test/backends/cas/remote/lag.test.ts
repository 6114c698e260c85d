import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Lag } from '../../../../src/backends/cas/remote/lag.ts';

let nowMs = 0;

beforeEach(() => {
  nowMs = 1000;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
});
afterEach(() => {
  vi.restoreAllMocks();
});

function newLag(): Lag {
  return new Lag({ lagBytesMax: Number.POSITIVE_INFINITY, onLag: () => {} }, 0);
}

it('is as old as what is logged and not durable yet', () => {
  const lag = newLag();
  lag.grow(100);
  nowMs += 50;
  lag.storing(100)();
  expect([lag.bytes, lag.ms]).toEqual([100, 50]);
  nowMs += 50;
  lag.grow(10);
  // Of a round that has failed.
  lag.storing(110);
  lag.storing(110)();
  expect([lag.bytes, lag.ms]).toEqual([110, 100]);
  lag.storing(0)();
  expect([lag.bytes, lag.ms]).toEqual([0, 0]);
});

it('is as old as what is logged while what was there before is being stored', () => {
  const lag = newLag();
  lag.grow(100);
  const stored = lag.storing(0);
  nowMs += 50;
  lag.grow(10);
  nowMs += 5;
  expect([lag.bytes, lag.ms]).toEqual([110, 55]);
  stored();
  expect([lag.bytes, lag.ms]).toEqual([10, 5]);
  nowMs += 20;
  lag.storing(10)();
  expect([lag.bytes, lag.ms]).toEqual([10, 25]);
});
