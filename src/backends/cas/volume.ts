/** A volume: a name, a size, and the map of its blocks. */
import { BLOCK_SIZE } from './format.ts';
import type { LoadNode } from './tree.ts';
import { Tree } from './tree.ts';

export class Volume {
  readonly id: number;
  readonly name: string;
  tree: Tree;
  /** The words of hash and hint of the root that the last checkpoint wrote. */
  reference: Uint32Array;
  /** The size of what that root is of, which decides how high its tree is. */
  referenceBytes: number;
  /** What devices may use of it: a growth counts when it is durable. */
  servedBytes: number;
  /** Blocks of it that are found in memory. */
  cachedCount = 0;
  /** Devices that are open on it. */
  users = 0;
  /** Blocks that the map was pointed to anew, so far. */
  changeCount = 0;
  /** Why a write that was taken could not be carried out. */
  lostWrite: Error | undefined;
  #sizeBytes: number;

  /**
   * @param reference hash and hint of the stored root, ten words; all zero for an empty volume
   * @param root the words of that root, undefined for an empty volume
   */
  constructor(
    identity: { readonly id: number; readonly name: string; readonly sizeBytes: number },
    reference: Uint32Array,
    root: Uint32Array | undefined,
    load: LoadNode,
  ) {
    this.id = identity.id;
    this.name = identity.name;
    this.reference = reference;
    this.referenceBytes = identity.sizeBytes;
    this.#sizeBytes = identity.sizeBytes;
    this.servedBytes = identity.sizeBytes;
    this.tree = new Tree(identity.sizeBytes, root, load);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get blockCount(): number {
    return Math.ceil(this.#sizeBytes / BLOCK_SIZE);
  }

  /** Makes it larger; the new blocks are zero. */
  grow(sizeBytes: number): void {
    this.#sizeBytes = sizeBytes;
    this.tree.grow(sizeBytes);
  }
}
