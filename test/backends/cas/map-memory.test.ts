import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, FANOUT, HASH_WORDS, NODE_WORDS } from '../../../src/backends/cas/format.ts';
import { REFERENCE_WORDS, Tree, type TreeNode } from '../../../src/backends/cas/tree.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, clientOf, openTiny } from './tiny-store.ts';

const LEAVES = 60;
const LEAF_BYTES = FANOUT * BLOCK_SIZE;
const SIZE = LEAVES * LEAF_BYTES;
const NODES_MAX = 10;

describe('the map of a volume', () => {
  it('does not fill the memory when the volume is read and never written', async () => {
    const files = new SimFs();
    const before = await openTiny(files);
    const writer = clientOf(await before.openVolume('disk', SIZE));
    for (let leaf = 0; leaf < LEAVES; leaf++) {
      await writer.write(leaf * LEAF_BYTES, blockOf(leaf + 1));
    }
    await before.close();

    const store = await openTiny(files, { nodeCountMax: NODES_MAX });
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let round = 0; round < 2; round++) {
      for (let leaf = 0; leaf < LEAVES; leaf++) {
        const block = await client.read(leaf * LEAF_BYTES, BLOCK_SIZE);
        expect(block.equals(blockOf(leaf + 1))).toBe(true);
        expect(store.findVolume('disk')?.tree.nodeCount).toBeLessThan(2 * NODES_MAX);
      }
    }
    await store.close();
  });

  it('takes a leaf that two wait for into memory once, with what is changed in it then', async () => {
    const answers: (() => void)[] = [];
    const load = () =>
      new Promise<Uint32Array>((resolve) => {
        answers.push(() => resolve(new Uint32Array(NODE_WORDS)));
      });
    // The first leaf is stored, the second one is zero.
    const root = new Uint32Array(NODE_WORDS).fill(1, 0, HASH_WORDS);
    const tree = new Tree(2 * LEAF_BYTES, root, load);
    const content = new Uint32Array(REFERENCE_WORDS).fill(7);
    expect(tree.set(FANOUT, content, 0)).toBe(true);
    const [first, second] = [tree.fetch(0), tree.fetch(1)];
    answers[0]?.();
    await first;
    expect(tree.set(0, content, 0)).toBe(true);
    answers[1]?.();
    await second;
    expect(tree.peek(0)?.hasStored(0)).toBe(true);
  });

  it('knows where a leaf is stored that leaves the memory, though it was stored for a frozen one', () => {
    const tree = new Tree(2 * LEAF_BYTES, undefined, () => Promise.reject(new Error('not stored')));
    const content = new Uint32Array(REFERENCE_WORDS).fill(7);
    tree.set(0, content, 0);
    const leaf = tree.peek(0) as TreeNode;
    tree.freeze();
    tree.set(FANOUT, content, 0);
    // As a checkpoint does with what is frozen.
    leaf.reference = new Uint32Array(REFERENCE_WORDS).fill(9);
    leaf.dirty = false;
    for (let sweeps = 0; sweeps < 2; sweeps++) tree.sweep();
    expect(tree.root.children[0]).toBeUndefined();
    expect(tree.root.words.subarray(0, HASH_WORDS)).toEqual(leaf.reference.subarray(0, HASH_WORDS));
  });
});
