/** The nodes of frozen trees that are stored nowhere yet. */
import type { CasEngine } from '../../native.ts';
import { HASH_WORDS } from './format.ts';
import { REFERENCE_WORDS, type TreeNode } from './tree.ts';

/** Nodes that are handed to another thread at once: more would hold up clients. */
const BATCH = 8192;

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

/** Finds out the hash of a frozen tree, and of all that is dirty in it, before it is written. */
export async function hashTree(engine: CasEngine, root: TreeNode): Promise<void> {
  for (const level of dirtyLevels([root])) {
    const unknown = level.filter(({ reference }) => reference === undefined);
    for (let start = 0; start < unknown.length; start += BATCH) {
      await hashNodes(engine, unknown.slice(start, start + BATCH));
    }
  }
}

async function hashNodes(engine: CasEngine, nodes: readonly TreeNode[]): Promise<void> {
  const hashes = new Uint32Array(nodes.length * HASH_WORDS);
  for (const node of nodes) node.learnAll();
  await engine.hashNodes(
    nodes.map(({ words }) => words),
    new Uint8Array(hashes.buffer),
  );
  nodes.forEach((node, index) => {
    // A checkpoint may have written it meanwhile, and knows its place too.
    if (!node.dirty) return;
    node.reference = new Uint32Array(REFERENCE_WORDS);
    node.reference.set(hashes.subarray(index * HASH_WORDS, (index + 1) * HASH_WORDS));
  });
}
