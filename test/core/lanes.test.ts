import { describe, expect, it } from 'vitest';
import { inLanes } from '../../src/core/lanes.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function* slowly(items: readonly number[]): AsyncGenerator<number> {
  for (const item of items) {
    await turn();
    yield item;
  }
}

describe('inLanes', () => {
  it('does every item once, so many at a time', async () => {
    const done: number[] = [];
    let running = 0;
    let most = 0;
    const work = async (item: number) => {
      most = Math.max(most, ++running);
      await turn();
      running--;
      done.push(item);
    };
    await inLanes(3, [1, 2, 3, 4, 5, 6, 7].values(), work);
    await inLanes(2, slowly([8, 9]), work);
    expect([done.toSorted((a, b) => a - b), most]).toEqual([[1, 2, 3, 4, 5, 6, 7, 8, 9], 3]);
  });

  it('begins nothing after a failure, and tells of it when nothing runs any more', async () => {
    const begun: number[] = [];
    const ended: number[] = [];
    const lanes = inLanes(2, [1, 2, 3, 4, 5].values(), async (item) => {
      begun.push(item);
      if (item === 1) throw new Error('one');
      for (let turns = 0; turns < 3; turns++) await turn();
      ended.push(item);
    });
    await expect(lanes).rejects.toThrow('one');
    expect([begun, ended]).toEqual([[1, 2], [2]]);
  });

  it('ends by the reason of its signal', async () => {
    const stop = new AbortController();
    const begun: number[] = [];
    const work = async (item: number) => {
      begun.push(item);
      stop.abort(new Error('enough'));
    };
    await expect(inLanes(1, [1, 2].values(), work, stop.signal)).rejects.toThrow('enough');
    expect(begun).toEqual([1]);
  });
});
