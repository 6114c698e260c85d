import { describe, expect, it } from 'vitest';
import { HASH_WORDS } from '../../../src/backends/cas/format.ts';
import { HashSet } from '../../../src/backends/cas/hash-set.ts';
import { seededRandom } from './sim-fs.ts';

describe('a set of hashes', () => {
  it('has what was added, while it grows, and compares all of each hash', () => {
    const random = seededRandom(1);
    const count = 5000;
    const words = new Uint32Array(count * HASH_WORDS);
    for (let i = 0; i < words.length; i++) words[i] = Math.floor(random() * 2 ** 32);
    const set = new HashSet();
    for (let i = 0; i < count; i++) {
      const index = i * HASH_WORDS;
      // A neighbour that differs in the last word only.
      if (i % 2 === 1) words.copyWithin(index, index - HASH_WORDS, index - 1);
      expect(set.has(words, index)).toBe(false);
      expect(set.add(words, index)).toBe(true);
    }
    for (let i = 0; i < count; i++) expect(set.add(words, i * HASH_WORDS)).toBe(false);
    expect(set.count).toBe(count);
    const groups = [...set.groups(999)];
    expect(groups.map(({ length }) => length / HASH_WORDS)).toEqual([999, 999, 999, 999, 999, 5]);
    const again = new HashSet();
    for (const group of groups) {
      for (let at = 0; at < group.length; at += HASH_WORDS) expect(again.add(group, at)).toBe(true);
    }
    for (let i = 0; i < count; i++) expect(again.has(words, i * HASH_WORDS)).toBe(true);
  });
});
