/**
 * Compares two trees. Where hashes are the same the content is, so only what differs is read:
 * the work grows with the changes and not with the volumes.
 */
import { type RootEntry, referenceOf } from './catalog.ts';
import { FANOUT, HASH_WORDS, HINT_WORD, NODE_SIZE, NODE_WORDS } from './format.ts';
import { isZeroHash, parentOf } from './hash-words.ts';
import { Pace } from './pace.ts';
import type { BlockReader } from './reader.ts';
import { REFERENCE_WORDS, rootLevel } from './tree.ts';
import type { StoredRoot } from './walk.ts';

/** A run of blocks. */
export interface BlockExtent {
  readonly firstLba: number;
  readonly count: number;
}

/** A leaf in which blocks differ from those of an earlier tree. */
export interface ChangedLeaf {
  readonly firstLba: number;
  /** Its hash, which is zero when all of its blocks are, and hint. */
  readonly reference: Uint32Array;
  readonly words: Uint32Array;
  /** The numbers of the blocks that differ, within it. */
  readonly changed: readonly number[];
}

export type SizedRoot = Pick<StoredRoot, 'sizeBytes' | 'root'>;

/** A stored node, or a block at level -1, by hash and hint; all zero for zeroes. */
interface Subtree {
  readonly level: number;
  readonly reference: Uint32Array;
}

/** How trees are read. */
interface Walk {
  readonly reader: BlockReader;
  readonly pace: Pace;
}

/** The words of a node, and the level of its children. */
interface OpenNode {
  readonly words: Uint32Array;
  readonly childLevel: number;
}

const ZEROES: RootEntry = ['0'.repeat(HASH_WORDS * 8), 0, 0];

/**
 * Yields the extents whose content differs, ascending and apart from each other. What one side is
 * too small for counts as zeroes.
 *
 * @throws {DamageError} a node cannot be read; @throws the pace's reason, when it is cancelled
 */
export async function* diffRoots(
  reader: BlockReader,
  before: SizedRoot,
  after: SizedRoot,
  pace = new Pace(),
): AsyncGenerator<BlockExtent> {
  let pending: BlockExtent | undefined;
  for await (const leaf of changedLeaves(reader, before, after, pace)) {
    for (const child of leaf.changed) {
      const firstLba = leaf.firstLba + child;
      if (pending !== undefined && pending.firstLba + pending.count === firstLba) {
        pending = { firstLba: pending.firstLba, count: pending.count + 1 };
        continue;
      }
      if (pending !== undefined) yield pending;
      pending = { firstLba, count: 1 };
    }
  }
  if (pending !== undefined) yield pending;
}

/**
 * Yields the leaves in which blocks differ, ascending.
 *
 * @param before undefined for zeroes
 * @throws {DamageError} a node cannot be read; @throws the pace's reason, when it is cancelled
 */
export function changedLeaves(
  reader: BlockReader,
  before: SizedRoot | undefined,
  after: SizedRoot,
  pace: Pace,
): AsyncGenerator<ChangedLeaf> {
  const left = subtreeOf(before ?? { ...after, root: ZEROES });
  return compare({ reader, pace }, left, subtreeOf(after), 0);
}

/** Yields the extents of a tree that are not zero. @throws what {@link diffRoots} throws */
export function dataExtents(
  reader: BlockReader,
  of: SizedRoot,
  pace?: Pace,
): AsyncGenerator<BlockExtent> {
  return diffRoots(reader, { ...of, root: ZEROES }, of, pace);
}

function subtreeOf({ root, sizeBytes }: SizedRoot): Subtree {
  return { level: rootLevel(sizeBytes), reference: referenceOf(root) };
}

async function* compare(
  walk: Walk,
  left: Subtree,
  right: Subtree,
  firstLba: number,
): AsyncGenerator<ChangedLeaf> {
  if (isSame(left.reference, 0, left.level, right.reference, 0, right.level)) return;
  const level = Math.max(left.level, right.level);
  const a = await openNode(walk, left, level);
  const b = await openNode(walk, right, level);
  const span = FANOUT ** level;
  const changed: number[] = [];
  for (let child = 0; child < FANOUT; child++) {
    const index = child * HASH_WORDS;
    if (isSame(a.words, index, a.childLevel, b.words, index, b.childLevel)) continue;
    if (level === 0) changed.push(child);
    else yield* compare(walk, childOf(a, child), childOf(b, child), firstLba + child * span);
  }
  if (level === 0) yield { firstLba, reference: right.reference, words: b.words, changed };
}

/** A tree of another height has another root, but zeroes are zeroes at any level. */
function isSame(
  left: Uint32Array,
  leftIndex: number,
  leftLevel: number,
  right: Uint32Array,
  rightIndex: number,
  rightLevel: number,
): boolean {
  for (let word = 0; word < HASH_WORDS; word++) {
    if (left[leftIndex + word] !== right[rightIndex + word]) return false;
  }
  return leftLevel === rightLevel || isZeroHash(left, leftIndex);
}

/** The node at `level`; a lower one is the first child of what would be there. */
async function openNode(
  { reader, pace }: Walk,
  { level: ownLevel, reference }: Subtree,
  level: number,
): Promise<OpenNode> {
  if (ownLevel === level) {
    if (!isZeroHash(reference, 0)) await pace.spend(NODE_SIZE);
    const words = (await reader.loadRoot(reference)) ?? new Uint32Array(NODE_WORDS);
    return { words, childLevel: level - 1 };
  }
  return { words: parentOf(reference), childLevel: ownLevel };
}

function childOf({ words, childLevel }: OpenNode, child: number): Subtree {
  const reference = new Uint32Array(REFERENCE_WORDS);
  reference.set(words.subarray(child * HASH_WORDS, (child + 1) * HASH_WORDS));
  const hint = HINT_WORD + child * 2;
  reference.set(words.subarray(hint, hint + 2), HASH_WORDS);
  return { level: childLevel, reference };
}
