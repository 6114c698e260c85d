/** The nodes of frozen trees that are stored nowhere yet. */
import { inLanes } from '../../core/lanes.ts';
import type { CasEngine } from '../../native.ts';
import { HASH_WORDS } from './format.ts';
import { updateWords } from './hash-words.ts';
import type { TreeNode } from './tree.ts';

/** Nodes whose children are handed to another thread at once: more would hold up clients. */
const BATCH = 64;
/** While one batch is hashed the next is made ready; the other threads are for clients. */
const LANE_COUNT = 2;

let passes = 0;

/** Sorts the dirty nodes of trees by level, leaves first; each is there once. */
export function dirtyLevels(roots: Iterable<TreeNode>): TreeNode[][] {
  const levels: TreeNode[][] = [];
  const pass = ++passes;
  const visit = (node: TreeNode): void => {
    if (!node.dirty || node.visitedIn === pass) return;
    node.visitedIn = pass;
    for (const child of node.children) {
      if (child !== undefined) visit(child);
    }
    while (levels.length <= node.level) levels.push([]);
    (levels[node.level] as TreeNode[]).push(node);
  };
  for (const root of roots) visit(root);
  return levels;
}

/**
 * Finds out the hash of a frozen tree before it is written. The hashes of its dirty nodes enter
 * their parents, which would get them anyway.
 *
 * @returns the words of the hash
 */
export async function hashTree(engine: CasEngine, root: TreeNode): Promise<Uint32Array> {
  const [, ...parents] = dirtyLevels([root]);
  for (const level of parents) {
    await inLanes(LANE_COUNT, batchesOf(level), (batch) => hashChildren(engine, batch));
  }
  return hashNodes(engine, [root.words]);
}

function* batchesOf(nodes: readonly TreeNode[]): Generator<readonly TreeNode[]> {
  for (let start = 0; start < nodes.length; start += BATCH) yield nodes.slice(start, start + BATCH);
}

async function hashChildren(engine: CasEngine, parents: readonly TreeNode[]): Promise<void> {
  const nodes: Uint32Array[] = [];
  /** Where each hash goes: the words of the parent, and the index there. */
  const targets: Uint32Array[] = [];
  const indices: number[] = [];
  for (const parent of parents) {
    parent.children.forEach((node, child) => {
      if (!node?.dirty) {
        parent.learn(child);
        return;
      }
      nodes.push(node.words);
      targets.push(parent.words);
      indices.push(child * HASH_WORDS);
    });
  }
  const hashes = await hashNodes(engine, nodes);
  targets.forEach((words, at) => {
    updateWords(words, indices[at] as number, hashes, at * HASH_WORDS, HASH_WORDS);
  });
}

/** @returns the words of all hashes, one after the other */
async function hashNodes(engine: CasEngine, nodes: readonly Uint32Array[]): Promise<Uint32Array> {
  const hashes = new Uint32Array(nodes.length * HASH_WORDS);
  await engine.hashNodes(nodes, new Uint8Array(hashes.buffer));
  return hashes;
}
