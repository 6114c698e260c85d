/**
 * The LBA map of one volume: a Merkle tree with 128 children a node. A leaf's children are blocks,
 * an inner node's children are nodes. A child that is all zero has the zero hash and is not kept.
 * Beside each hash stands a hint where the child is stored; the hint is not part of the identity.
 *
 * The tree is persistent in memory, so that a checkpoint or snapshot takes a frozen tree at once
 * while writes go on.
 *
 * Invariants:
 * - A node with `epoch` of the map may be changed; any other belongs to frozen trees too and is
 *   copied, with its path, before it is changed.
 * - A dirty node has only itself to tell its content: its hash in the parent is out of date. Every
 *   ancestor of a dirty node is dirty and holds it in `children`.
 * - A clean node may be dropped from memory: its `reference`, or else its parent's words, tell
 *   where it is. A parent that was copied before the node was written learns it on that occasion.
 */
import { BLOCK_SIZE, FANOUT, HASH_WORDS, HINT_WORD, NODE_WORDS } from './format.ts';
import { isZeroHash, updateWords } from './hash-words.ts';

/** Eight words of hash, then the two words of the hint. */
export const REFERENCE_WORDS = HASH_WORDS + 2;

/** Of the nodes that a sweep has left, how many more make the next one worth its time. */
const CROWDED_SHARE = 1.25;

/** The epoch of a node that was read: frozen trees may hold it too. */
const SHARED = -1;

export class TreeNode {
  /** 0 for a leaf. */
  readonly level: number;
  readonly epoch: number;
  readonly words: Uint32Array;
  /** Nodes in memory by child number; empty for a leaf. */
  readonly children: (TreeNode | undefined)[];
  dirty: boolean;
  /** Hash and hint of this node once it was written; until then, or if it was read, its parents'
   * words tell. */
  reference: Uint32Array | undefined;
  /** The last search for dirty nodes that came by. */
  visitedIn = 0;
  /** Visited since the last sweep of the cache. */
  used = true;

  constructor(level: number, epoch: number, words: Uint32Array, dirty: boolean) {
    this.level = level;
    this.epoch = epoch;
    this.words = words;
    this.children = level === 0 ? [] : new Array(FANOUT);
    this.dirty = dirty;
  }

  /** Takes over what a child knows about itself. */
  learn(child: number): void {
    const reference = this.children[child]?.reference;
    if (reference === undefined) return;
    updateWords(this.words, child * HASH_WORDS, reference, 0, HASH_WORDS);
    updateWords(this.words, HINT_WORD + child * 2, reference, HASH_WORDS, 2);
  }

  /** Takes over what all children know about themselves. */
  learnAll(): void {
    for (let child = 0; child < this.children.length; child++) this.learn(child);
  }

  /** Does the stored child with this number differ from zero? */
  hasStored(child: number): boolean {
    return !isZeroHash(this.words, child * HASH_WORDS);
  }
}

/** Reads a stored node: its words, verified. */
export type LoadNode = (words: Uint32Array, child: number) => Promise<Uint32Array>;

export class Tree {
  readonly #load: LoadNode;
  #epoch = 0;
  #root: TreeNode;
  /** Leaves and nodes in memory, about: frozen copies are not counted. */
  nodeCount = 1;
  /** Leaves and nodes that were changed since the tree was last frozen. */
  changedCount = 0;
  /** Leaves and nodes that the last sweep has left. */
  #keptCount = 0;

  /**
   * @param sizeBytes of the disk, which decides the height
   * @param root the words of the stored root, undefined for an empty volume
   */
  constructor(sizeBytes: number, root: Uint32Array | undefined, load: LoadNode) {
    this.#load = load;
    const level = rootLevel(sizeBytes);
    this.#root = new TreeNode(level, SHARED, root ?? new Uint32Array(NODE_WORDS), false);
  }

  get root(): TreeNode {
    return this.#root;
  }

  /** Returns the tree as it is now; it will not change any more. */
  freeze(): TreeNode {
    this.#epoch++;
    this.changedCount = 0;
    return this.#root;
  }

  /** Adds levels until the tree has room for a disk of this size. */
  grow(sizeBytes: number): void {
    const level = rootLevel(sizeBytes);
    while (this.#root.level < level) {
      const old = this.#root;
      this.#root = new TreeNode(old.level + 1, this.#epoch, new Uint32Array(NODE_WORDS), true);
      // The old root is stored only as a volume's root: it must be written again as a child.
      this.#root.children[0] = copyOf(old, this.#epoch);
    }
  }

  /** The leaf of a block if it is in memory, null if it is all zero, undefined if it must be loaded. */
  peek(lba: number): TreeNode | null | undefined {
    let node = this.#root;
    for (let level = node.level; level > 0; level--) {
      const child = childOf(lba, level);
      const next = node.children[child];
      if (next === undefined) return node.hasStored(child) ? undefined : null;
      node = next;
    }
    node.used = true;
    return node;
  }

  /** Brings the leaf of a block into memory. */
  async fetch(lba: number): Promise<TreeNode | null> {
    let node = this.#root;
    for (let level = node.level; level > 0; level--) {
      const child = childOf(lba, level);
      let next = node.children[child];
      if (next === undefined) {
        if (!node.hasStored(child)) return null;
        const words = await this.#load(node.words, child);
        // The path may have been copied meanwhile: start again, what was read is not lost.
        next = node.children[child] ??= this.#adopt(level - 1, SHARED, words);
      }
      node = next;
    }
    node.used = true;
    return node;
  }

  /**
   * Points a block to content.
   *
   * @param source words that hold hash and hint, one after the other; undefined for zero
   * @returns false when the leaf must be fetched first
   */
  set(lba: number, source: Uint32Array | undefined, at: number): boolean {
    const leaf = this.peek(lba);
    if (leaf === undefined) return false;
    if (leaf === null && source === undefined) return true;
    const { words } = this.#changeable(lba, 0);
    const index = lba % FANOUT;
    for (let word = 0; word < HASH_WORDS; word++) {
      words[index * HASH_WORDS + word] = source === undefined ? 0 : (source[at + word] as number);
    }
    const hint = HINT_WORD + index * 2;
    words[hint] = source === undefined ? 0 : (source[at + HASH_WORDS] as number);
    words[hint + 1] = source === undefined ? 0 : (source[at + HASH_WORDS + 1] as number);
    return true;
  }

  /** Makes blocks zero; whole subtrees at once. */
  async clear(first: number, count: number): Promise<void> {
    const end = first + count;
    for (let lba = first; lba < end; ) {
      let level = this.#root.level;
      while (lba % FANOUT ** level !== 0 || lba + FANOUT ** level > end) level--;
      const isClear = level > 0 ? this.#drop(lba, level) : this.set(lba, undefined, 0);
      if (isClear) lba += FANOUT ** level;
      else await this.fetch(lba);
    }
  }

  /** Is it time for a {@link sweep}, as there are more leaves and nodes in memory than `countMax`? */
  isCrowded(countMax: number): boolean {
    return this.nodeCount > Math.max(countMax, CROWDED_SHARE * this.#keptCount);
  }

  /** Drops clean leaves that were not used since the last call. */
  sweep(): void {
    let count = 1;
    const visit = (node: TreeNode): void => {
      for (let child = 0; child < node.children.length; child++) {
        const next = node.children[child];
        if (next === undefined) continue;
        visit(next);
        if (!next.used && !next.dirty && next.children.every((below) => below === undefined)) {
          node.learn(child);
          node.children[child] = undefined;
        } else {
          count++;
        }
        next.used = false;
      }
    };
    visit(this.#root);
    this.nodeCount = count;
    this.#keptCount = count;
  }

  #adopt(level: number, epoch: number, words: Uint32Array): TreeNode {
    this.nodeCount++;
    return new TreeNode(level, epoch, words, false);
  }

  /** The node at `level` above a block, made changeable with its path. */
  #changeable(lba: number, level: number): TreeNode {
    if (this.#root.epoch !== this.#epoch) {
      this.#root = copyOf(this.#root, this.#epoch);
      this.changedCount++;
    }
    let node = this.#root;
    node.dirty = true;
    while (node.level > level) {
      const child = childOf(lba, node.level);
      let next = node.children[child];
      if (next === undefined) {
        next = this.#adopt(node.level - 1, this.#epoch, new Uint32Array(NODE_WORDS));
      } else if (next.epoch !== this.#epoch) {
        next = copyOf(next, this.#epoch);
      }
      if (next !== node.children[child]) this.changedCount++;
      node.children[child] = next;
      next.dirty = true;
      node = next;
    }
    return node;
  }

  /**
   * Drops the child that covers a block at `level`.
   *
   * @returns false when what is above it must be fetched first
   */
  #drop(lba: number, level: number): boolean {
    let node = this.#root;
    while (node.level > level) {
      const above = childOf(lba, node.level);
      const next = node.children[above];
      if (next === undefined) return !node.hasStored(above);
      node = next;
    }
    const child = childOf(lba, level);
    if (node.children[child] === undefined && !node.hasStored(child)) return true;
    node = this.#changeable(lba, level);
    node.children[child] = undefined;
    node.words.fill(0, child * HASH_WORDS, (child + 1) * HASH_WORDS);
    node.words.fill(0, HINT_WORD + child * 2, HINT_WORD + child * 2 + 2);
    return true;
  }
}

/** The level of the root of the tree over a disk of this size. */
export function rootLevel(sizeBytes: number): number {
  let level = 0;
  for (let span = FANOUT * BLOCK_SIZE; span < sizeBytes; span *= FANOUT) level++;
  return level;
}

function copyOf(node: TreeNode, epoch: number): TreeNode {
  const copy = new TreeNode(node.level, epoch, node.words.slice(), true);
  for (let child = 0; child < node.children.length; child++) {
    copy.children[child] = node.children[child];
  }
  return copy;
}

function childOf(lba: number, level: number): number {
  return Math.floor(lba / FANOUT ** level) % FANOUT;
}
