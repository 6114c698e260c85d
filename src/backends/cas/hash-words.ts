/** Hashes among the words of nodes and records. */
import { HASH_WORDS, HINT_WORD, NODE_WORDS } from './format.ts';

/**
 * Copies words into a node, but for those that it has: two may find out the hashes of a frozen tree
 * at once, and the thread of one reads what the other one would write again.
 */
export function updateWords(
  words: Uint32Array,
  at: number,
  source: Uint32Array,
  from: number,
  count: number,
): void {
  for (let word = 0; word < count; word++) {
    const value = source[from + word] as number;
    if (words[at + word] !== value) words[at + word] = value;
  }
}

/** The words of a node that has what `reference` leads to, by hash and hint, as its first child only. */
export function parentOf(reference: Uint32Array): Uint32Array {
  const words = new Uint32Array(NODE_WORDS);
  words.set(reference.subarray(0, HASH_WORDS));
  words.set(reference.subarray(HASH_WORDS), HINT_WORD);
  return words;
}

export function isZeroHash(words: Uint32Array, index: number): boolean {
  for (let word = 0; word < HASH_WORDS; word++) {
    if (words[index + word] !== 0) return false;
  }
  return true;
}
