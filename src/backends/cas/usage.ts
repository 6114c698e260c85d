/**
 * Tells what each volume and snapshot takes. Reads each tree node once, and once more when a
 * second root turns out to share it.
 */
import { referenceOf } from './catalog.ts';
import { whileNothingIsFreed } from './collect.ts';
import { BLOCK_SIZE, FANOUT, HASH_WORDS, HINT_WORD, NODE_SIZE, storedSize } from './format.ts';
import { HashTable } from './hash-table.ts';
import { isZeroHash, parentOf } from './hash-words.ts';
import { Pace } from './pace.ts';
import type { CasStore } from './store.ts';
import { rootLevel } from './tree.ts';
import { type StoredRoot, storedRoots } from './walk.ts';

export interface RootUsage {
  readonly name: string;
  readonly kind: 'volume' | 'snapshot';
  /** Of the disk. */
  readonly sizeBytes: number;
  /** Blocks that are not zero. */
  readonly logicalBytes: number;
  /** What these take when each is stored for itself, compressed. */
  readonly referencedBytes: number;
  /** Blocks and nodes that nothing else needs, as stored: what deleting this would free. */
  readonly exclusiveBytes: number;
}

interface Content {
  blockCount: number;
  storedBytes: number;
}

/** Values of hashes: several roots need it, or one: this and the root's number. */
const SHARED = 1;
const FIRST_OWNER = 2;

/** @throws {DamageError} a node cannot be read */
export function measureUsage(store: CasStore, pace = new Pace()): Promise<RootUsage[]> {
  return whileNothingIsFreed(store, pace, () => measure(store, pace));
}

async function measure(store: CasStore, pace: Pace): Promise<RootUsage[]> {
  await store.checkpoint(() => pace.isUrgent);
  const roots = storedRoots(store);
  const meter = new Meter(store, roots.length, pace);
  const contents: Content[] = [];
  for (const [number, root] of roots.entries()) contents.push(await meter.add(root, number));
  return roots.map(({ name, sizeBytes }, number) => {
    const { blockCount, storedBytes } = contents[number] as Content;
    return {
      name,
      kind: store.findVolume(name) === undefined ? 'snapshot' : 'volume',
      sizeBytes,
      logicalBytes: blockCount * BLOCK_SIZE,
      referencedBytes: storedBytes,
      exclusiveBytes: meter.exclusiveBytes[number] as number,
    };
  });
}

/**
 * Invariant: what is below a node that one root owns is owned by that root or shared; what is
 * below a shared one is shared. So a walk may turn back where it changes nothing.
 */
class Meter {
  readonly exclusiveBytes: number[];
  readonly #store: CasStore;
  readonly #pace: Pace;
  readonly #owners = new HashTable();
  /** Of nodes, by their number in `#numbers`. */
  readonly #contents: Content[] = [];
  readonly #numbers = new HashTable();

  constructor(store: CasStore, rootCount: number, pace: Pace) {
    this.#store = store;
    this.#pace = pace;
    this.exclusiveBytes = new Array(rootCount).fill(0);
  }

  async add({ root, sizeBytes }: StoredRoot, number: number): Promise<Content> {
    const parent = parentOf(referenceOf(root));
    if (isZeroHash(parent, 0)) return { blockCount: 0, storedBytes: 0 };
    return this.#visit(parent, 0, rootLevel(sizeBytes), number);
  }

  async #visit(
    parent: Uint32Array,
    child: number,
    level: number,
    number: number,
  ): Promise<Content> {
    const changed = this.#claim(parent, child, number);
    const index = child * HASH_WORDS;
    if (!changed) return this.#contents[this.#numbers.get(parent, index) - 1] as Content;
    const content = { blockCount: 0, storedBytes: 0 };
    await this.#pace.spend(NODE_SIZE);
    const words = await this.#store.reader.loadNode(parent, child);
    for (let next = 0; next < FANOUT; next++) {
      if (isZeroHash(words, next * HASH_WORDS)) continue;
      if (level === 0) {
        this.#claim(words, next, number);
        content.blockCount++;
        content.storedBytes += frameBytes(words, next);
        continue;
      }
      const below = await this.#visit(words, next, level - 1, number);
      content.blockCount += below.blockCount;
      content.storedBytes += below.storedBytes;
    }
    this.#numbers.set(parent, index, this.#contents.push(content));
    return content;
  }

  /** @returns whether that changes who owns it */
  #claim(words: Uint32Array, child: number, number: number): boolean {
    const index = child * HASH_WORDS;
    const owner = this.#owners.get(words, index);
    if (owner === SHARED || owner === number + FIRST_OWNER) return false;
    const size = frameBytes(words, child);
    if (owner === 0) {
      this.#owners.set(words, index, number + FIRST_OWNER);
      this.exclusiveBytes[number] = (this.exclusiveBytes[number] as number) + size;
      return true;
    }
    const other = owner - FIRST_OWNER;
    this.#owners.set(words, index, SHARED);
    this.exclusiveBytes[other] = (this.exclusiveBytes[other] as number) - size;
    return true;
  }
}

/** A frame keeps its stored size wherever a collection moves it, so an old hint will do. */
function frameBytes(words: Uint32Array, child: number): number {
  return storedSize(words[HINT_WORD + child * 2 + 1] as number);
}
