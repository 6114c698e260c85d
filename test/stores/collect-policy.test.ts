import { describe, expect, it } from 'vitest';
import { CollectPolicy } from '../../src/stores/collect-policy.ts';
import type { StoreReport } from '../../src/stores/contract.ts';

const GIB = 1 << 30;

/** What a survey found, as far as the policy looks at it. */
function found(liveBytes: number, garbageBytes: number): StoreReport {
  return { liveBytes, garbageBytes } as StoreReport;
}

describe('the collections that nobody asked for', () => {
  it('come when a survey has found as much garbage as half of what is live', () => {
    const policy = new CollectPolicy();
    expect(policy.isWasteful()).toBe(false);
    policy.surveyed(found(20 * GIB, 9 * GIB));
    expect(policy.isWasteful()).toBe(false);
    policy.surveyed(found(20 * GIB, 11 * GIB));
    expect(policy.isWasteful()).toBe(true);
    policy.collected(20 * GIB);
    expect(policy.isWasteful()).toBe(false);
  });

  it('do not come for a little garbage while there is room', () => {
    const policy = new CollectPolicy();
    policy.surveyed(found(GIB / 100, GIB / 2));
    expect(policy.isWasteful()).toBe(false);
    expect(policy.isScarce({ usedBytes: GIB, freeBytes: 900 * GIB })).toBe(false);
  });

  it('come the more often the less room is left', () => {
    const policy = new CollectPolicy();
    policy.collected(100 * GIB);
    expect(policy.isScarce({ usedBytes: 109 * GIB, freeBytes: 12 * GIB })).toBe(false);
    expect(policy.isScarce({ usedBytes: 109 * GIB, freeBytes: 10 * GIB })).toBe(true);
    policy.collected(109 * GIB);
    expect(policy.isScarce({ usedBytes: 110 * GIB, freeBytes: 9 * GIB })).toBe(false);
    expect(policy.isScarce({ usedBytes: 112 * GIB, freeBytes: 7 * GIB })).toBe(true);
    policy.collected(112 * GIB);
    expect(policy.isScarce({ usedBytes: 112 * GIB + GIB / 8, freeBytes: 0 })).toBe(true);
    expect(policy.isScarce({ usedBytes: 112 * GIB + 1, freeBytes: 0 })).toBe(false);
  });

  it('free a part of what the store takes, and no less than a small store', () => {
    const policy = new CollectPolicy();
    expect(policy.enoughBytes(GIB)).toBe(GIB);
    expect(policy.enoughBytes(160 * GIB)).toBe(10 * GIB);
  });

  it('are not repeated at once for writes that the last one did not help', () => {
    const policy = new CollectPolicy();
    expect(policy.isHopeful(0)).toBe(true);
    policy.wasVain(1000);
    expect(policy.isHopeful(2000)).toBe(false);
    expect(policy.isHopeful(60_000)).toBe(true);
  });
});
