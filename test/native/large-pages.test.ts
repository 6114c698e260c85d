import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { native } from '../../src/native.ts';

/** Regions of this process for which large pages are preferred. */
function countPreferred(): number {
  const flags = readFileSync('/proc/self/smaps', 'utf8').match(/^VmFlags:.*\bhg\b/gm);
  return flags?.length ?? 0;
}

it('are preferred for a buffer, however small it is', () => {
  const before = countPreferred();
  const large = new ArrayBuffer(64 << 20);
  native.preferLargePages(large);
  expect(countPreferred()).toBe(before + 1);
  for (const size of [0, 1, 4096, 8191]) native.preferLargePages(new ArrayBuffer(size));
  expect(new Uint8Array(large).every((byte) => byte === 0)).toBe(true);
});
