import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReusedList } from '../../src/core/reused-list.ts';

type Step = { push: number } | { removeFirst: number } | { set: number } | 'pop' | 'clear';

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ push: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ removeFirst: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ set: fc.nat() }) },
  { weight: 2, arbitrary: fc.constant<Step>('pop') },
  { weight: 1, arbitrary: fc.constant<Step>('clear') },
);

describe('ReusedList', () => {
  it('holds what an array holds that is changed in the same way', () => {
    fc.assert(
      fc.property(fc.array(stepArbitrary, { maxLength: 60 }), (steps) => {
        const list = new ReusedList<number>();
        const model: number[] = [];
        for (const step of steps) {
          if (step === 'clear') {
            list.clear();
            model.length = 0;
          } else if (step === 'pop') {
            if (model.length > 0) expect(list.pop()).toBe(model.pop());
          } else if ('push' in step) {
            expect(list.push(step.push)).toBe(model.push(step.push) - 1);
          } else if ('set' in step) {
            if (model.length === 0) continue;
            list.set(step.set % model.length, step.set);
            model[step.set % model.length] = step.set;
          } else {
            const count = Math.min(step.removeFirst, model.length);
            list.removeFirst(count);
            model.splice(0, count);
          }
          expect(Array.from({ length: list.count }, (_, index) => list.at(index))).toEqual(model);
        }
      }),
    );
  });
});
