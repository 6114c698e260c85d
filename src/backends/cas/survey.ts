/**
 * Tells how well a store does: what its volumes and snapshots hold, what that takes, and what is
 * garbage. Reads every tree node once and the head of every record.
 */
import { referenceOf } from './catalog.ts';
import { whileMarking } from './collect.ts';
import {
  BLOCK_SIZE,
  ENTRIES_MAX,
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  FANOUT,
  HASH_WORDS,
  hexOf,
  NODE_SIZE,
  storedSize,
} from './format.ts';
import { isZeroHash, parentOf } from './hash-words.ts';
import { Pace } from './pace.ts';
import { bytesRead, recordsOf } from './records.ts';
import type { Segment, StreamName } from './segments.ts';
import type { CasStore } from './store.ts';
import { rootLevel } from './tree.ts';
import { type StoredRoot, settledBytes, storedRoots } from './walk.ts';

export interface StoreSurvey {
  /** Blocks that volumes and snapshots hold, each counted as often as it occurs; zeroes are not. */
  readonly logicalBytes: number;
  /** The same, each distinct block counted once. */
  readonly uniqueBytes: number;
  /** What distinct blocks take after compression. */
  readonly compressedBytes: number;
  /** What is needed: blocks, tree nodes, and their entries. */
  readonly liveBytes: number;
  /** Records, less what is needed of them. */
  readonly garbageBytes: number;
  readonly segments: readonly SurveyedSegment[];
}

export interface SurveyedSegment {
  readonly number: number;
  readonly stream: StreamName;
  readonly usedBytes: number;
  readonly liveBytes: number;
}

/** @throws {DamageError} a node cannot be read */
export function surveyStore(store: CasStore, pace = new Pace()): Promise<StoreSurvey> {
  return whileMarking(store, pace, async () => {
    const count = await new BlockCounter(store, pace).countAll();
    const segments: SurveyedSegment[] = [];
    let compressedBytes = 0;
    let usedBytes = 0;
    let liveBytes = 0;
    for (const segment of [...store.segments.table.values()]) {
      const measured = await measureSegment(store, segment, pace);
      const { number, stream } = segment;
      segments.push({ number, stream, ...measured.sizes });
      compressedBytes += measured.blockBytes;
      usedBytes += measured.sizes.usedBytes;
      liveBytes += measured.sizes.liveBytes;
    }
    return {
      logicalBytes: count.logical * BLOCK_SIZE,
      uniqueBytes: count.unique * BLOCK_SIZE,
      compressedBytes,
      liveBytes,
      garbageBytes: usedBytes - liveBytes,
      segments,
    };
  });
}

/** Counts the blocks of trees and marks everything that they reach. */
class BlockCounter {
  readonly #store: CasStore;
  readonly #pace: Pace;
  /** Blocks below each node, by its hash: trees share most of their nodes. */
  readonly #known = new Map<string, number>();
  #unique = 0;

  constructor(store: CasStore, pace: Pace) {
    this.#store = store;
    this.#pace = pace;
  }

  async countAll(): Promise<{ logical: number; unique: number }> {
    let logical = 0;
    for (const root of storedRoots(this.#store)) logical += await this.#countRoot(root);
    return { logical, unique: this.#unique };
  }

  async #countRoot({ root, sizeBytes }: StoredRoot): Promise<number> {
    const parent = parentOf(referenceOf(root));
    if (isZeroHash(parent, 0)) return 0;
    this.#store.engine.mark(parent, 1);
    return this.#count(parent, 0, rootLevel(sizeBytes));
  }

  async #count(parent: Uint32Array, child: number, level: number): Promise<number> {
    const hash = hexOf(parent, child * HASH_WORDS);
    const known = this.#known.get(hash);
    if (known !== undefined) return known;
    await this.#pace.spend(NODE_SIZE);
    const words = await this.#store.reader.loadNode(parent, child);
    const fresh = this.#store.engine.mark(words, FANOUT);
    if (level === 0) this.#unique += fresh;
    let count = 0;
    for (let next = 0; next < FANOUT; next++) {
      if (isZeroHash(words, next * HASH_WORDS)) continue;
      count += level === 0 ? 1 : await this.#count(words, next, level - 1);
    }
    this.#known.set(hash, count);
    return count;
  }
}

/** Adds up what is marked in a segment. */
async function measureSegment(store: CasStore, segment: Segment, pace: Pace) {
  const flags = new Uint8Array(ENTRIES_MAX);
  const usedBytes = settledBytes(store, segment);
  let [liveBytes, blockBytes] = [0, 0];
  // It is empty, and recycled as soon as nobody else reads it.
  if (segment.condemnedIn > 0) return { sizes: { usedBytes, liveBytes }, blockBytes };
  for await (const found of recordsOf(store.recordParts, segment, usedBytes)) {
    if (typeof found === 'number') break;
    await pace.spend(bytesRead(found));
    const { entryCount } = found.header;
    if (entryCount === 0) continue;
    liveBytes += await store.engine.marked(found.bytes, flags);
    const words = entryWords(found.bytes, entryCount);
    for (let i = 0; i < entryCount; i++) {
      const at = i * ENTRY_WORDS;
      if (flags[i] === 0 || words[at + EntryWord.kind] !== EntryKind.block) continue;
      blockBytes += storedSize(words[at + EntryWord.place] as number);
    }
  }
  return { sizes: { usedBytes, liveBytes }, blockBytes };
}
