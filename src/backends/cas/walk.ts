/** Walks stored trees: every node that is reachable from the roots of volumes and snapshots. */

import { StartupError } from '../../core/startup-error.ts';
import { type RootEntry, referenceOf, rootEntry } from './catalog.ts';
import { FANOUT, HASH_WORDS, NODE_SIZE } from './format.ts';
import { isZeroHash, parentOf } from './hash-words.ts';
import type { Pace } from './pace.ts';
import { type BlockReader, DamageError } from './reader.ts';
import type { Segment } from './segments.ts';
import type { CasStore } from './store.ts';
import { rootLevel } from './tree.ts';

export interface StoredRoot {
  readonly name: string;
  readonly sizeBytes: number;
  readonly root: RootEntry;
}

/** A node on a walk, and the blocks that it covers. */
export interface WalkedNode {
  readonly level: number;
  readonly firstLba: number;
  readonly words: Uint32Array;
}

export interface Visitor {
  /** Called for a child that is not zero before it is read. @returns whether to go down */
  enter(words: Uint32Array, index: number): boolean;
  /** The walk waits for what it returns. */
  node(node: WalkedNode): Promise<void> | void;
  /** A node that cannot be read; without this it ends the walk. */
  damaged?(level: number, firstLba: number): void;
}

/** The roots that must stay: of volumes, as the last checkpoint wrote them, and of snapshots. */
export function storedRoots(store: CasStore): StoredRoot[] {
  const volumes = [...store.volumes].map(({ name, referenceBytes, reference }) => {
    return { name, sizeBytes: referenceBytes, root: rootEntry(reference) };
  });
  return [...volumes, ...store.snapshots];
}

/**
 * Finds a root by the name of its volume or snapshot, or by its hash; waits until it is stored.
 *
 * @throws {StartupError} there is none
 */
export async function findRoot(store: CasStore, nameOrHash: string): Promise<StoredRoot> {
  await store.whenSnapshotsStored();
  return findRootNow(store, nameOrHash);
}

/** The same, among those that are stored. @throws {StartupError} there is none */
export function findRootNow(store: CasStore, nameOrHash: string): StoredRoot {
  const roots = storedRoots(store);
  const found =
    roots.find(({ name }) => name === nameOrHash) ??
    roots.find(({ root }) => root[0] === nameOrHash);
  if (found !== undefined) return found;
  throw new StartupError(
    `the store ${store.path} has no volume, snapshot or root ${nameOrHash}`,
    'see which ones there are: aoe-server cas list',
  );
}

/** Up to where a segment is written, and will not change. */
export function settledBytes({ log, nodes, moved }: CasStore, segment: Segment): number {
  const stream = [log, nodes, moved].find(({ name }) => name === segment.stream);
  return stream?.durableBytesOf(segment) ?? segment.usedBytes;
}

/**
 * Visits the nodes of one tree, parents first.
 *
 * @throws {DamageError} a node cannot be read, and the visitor is not told
 * @throws {BlobUnreachableError}
 * @throws the pace's reason, when it is cancelled
 */
export async function walkTree(
  reader: BlockReader,
  { root, sizeBytes }: StoredRoot,
  pace: Pace,
  visitor: Visitor,
): Promise<void> {
  const parent = parentOf(referenceOf(root));
  await visit({ reader, pace, visitor }, parent, 0, rootLevel(sizeBytes), 0);
}

interface Walk {
  readonly reader: BlockReader;
  readonly pace: Pace;
  readonly visitor: Visitor;
}

async function visit(
  walk: Walk,
  parent: Uint32Array,
  child: number,
  level: number,
  firstLba: number,
): Promise<void> {
  const { reader, pace, visitor } = walk;
  const index = child * HASH_WORDS;
  if (isZeroHash(parent, index)) return;
  if (!visitor.enter(parent, index)) return;
  await pace.spend(NODE_SIZE);
  let words: Uint32Array;
  try {
    words = await reader.loadNode(parent, child);
  } catch (error) {
    // A blob store that does not answer may pass.
    if (!(error instanceof DamageError) || visitor.damaged === undefined) throw error;
    visitor.damaged(level, firstLba);
    return;
  }
  await visitor.node({ level, firstLba, words });
  if (level === 0) return;
  const span = FANOUT ** level;
  for (let next = 0; next < FANOUT; next++) {
    await visit(walk, words, next, level - 1, firstLba + next * span);
  }
}
