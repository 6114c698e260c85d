import { performance } from 'node:perf_hooks';
import { afterEach, expect, it, vi } from 'vitest';
import { inSlices } from '../../src/core/slices.ts';

let turnCount = 0;
let isCounting = false;

function countTurns(): void {
  [turnCount, isCounting] = [0, true];
  setImmediate(function count() {
    turnCount++;
    if (isCounting) setImmediate(count);
  });
}

afterEach(() => {
  isCounting = false;
  vi.restoreAllMocks();
});

async function take<Item>(items: Iterable<Item>): Promise<Item[][]> {
  const slices: Item[][] = [];
  for await (const slice of inSlices(items)) slices.push(slice);
  return slices;
}

it('makes items that take long in slices, with turns of the event loop in between', async () => {
  let nowMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  function* items(): Generator<number> {
    for (let item = 0; item < 10; item++) {
      nowMs += 0.4;
      yield item;
    }
  }
  countTurns();
  const slices = await take(items());
  expect(slices).toEqual([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]);
  expect(turnCount).toBe(3);
});

it('yields nothing of nothing', async () => {
  expect(await take([])).toEqual([]);
});
