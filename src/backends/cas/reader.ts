/**
 * Reads blocks and nodes from segments. Everything is verified against its hash on the way in, so
 * what is damaged is reported and never served.
 *
 * The hint beside a hash is tried first. It is out of date after a collection moved the frame, or
 * wrong after damage: then the index is asked by the hash. What is not on this disk, or damaged
 * there, is fetched from where the store is kept besides.
 */
import type { CasEngine } from '../../native.ts';
import {
  BLOCK_SIZE,
  EntryKind,
  FANOUT,
  frameOffset,
  HASH_WORDS,
  HINT_WORD,
  hexOf,
  NODE_WORDS,
  type RecordHeader,
} from './format.ts';
import { isZeroHash, parentOf } from './hash-words.ts';
import type { Segment } from './segments.ts';
import type { Volume } from './volume.ts';

const READ_OK = 0;
const WOULD_BLOCK = 1;
const DAMAGED = 2;
const GONE = 3;
/** What the engine says when it has located something. */
const FOUND = 1;
/** A collection that runs may move a frame between two looks, but hardly three times. */
const LOOKS_MAX = 3;

/** Content that is gone or does not have the hash that it should have. */
export class DamageError extends Error {
  readonly code = 'AOE_CAS_DAMAGE';
  readonly hash: string;

  constructor(hash: string) {
    super(`no intact copy of ${hash}`);
    this.name = 'DamageError';
    this.hash = hash;
  }
}

/** Where frames come from that are not on this disk. */
export interface FrameSource {
  /** Takes notice of a read. */
  touch(segment: number, place: number): void;
  /** Are the frames of a record nowhere but there? */
  isAway(segment: Segment, header: RecordHeader): Promise<boolean>;
  /**
   * Brings back what holds a byte of a segment, and keeps it here while `read` runs.
   *
   * @returns undefined when it is nowhere else
   */
  restored<T>(segment: number, offset: number, read: () => Promise<T> | T): Promise<T | undefined>;
}

export class BlockReader {
  /** undefined when all of the store is on this disk. */
  frames: FrameSource | undefined;
  /** Waits until the index knows every segment; it is built after a start. */
  whenIndexed: () => Promise<unknown> = () => Promise.resolve();
  /** Waits until what the index leads to is in its segment: it may be in a record that is not yet. */
  whenWritten: () => Promise<void> = () => Promise.resolve();
  readonly #engine: CasEngine;
  /** Where the index says that a block is. One for all reads: to hand over a new one takes longer. */
  readonly #otherPlace = new Uint32Array(2);

  constructor(engine: CasEngine) {
    this.#engine = engine;
  }

  /** Reads a block if that takes no waiting. @returns false when it does */
  readNow(volume: Volume, lba: number, out: Uint8Array, outOffset: number): boolean {
    const leaf = volume.tree.peek(lba);
    if (leaf === undefined) return false;
    const child = lba % FANOUT;
    if (leaf === null || !leaf.hasStored(child)) {
      out.fill(0, outOffset, outOffset + BLOCK_SIZE);
      return true;
    }
    const { words } = leaf;
    const hint = HINT_WORD + child * 2;
    const index = child * HASH_WORDS;
    const [segment, place] = [words[hint] as number, words[hint + 1] as number];
    const result = this.#readBlockNow(segment, place, words, index, out, outOffset);
    if (result !== GONE) return result === READ_OK;
    const other = this.#otherPlace;
    if (this.#engine.locateNow(words, index, other) !== FOUND) return false;
    const [newSegment, newPlace] = [other[0] as number, other[1] as number];
    const isRead =
      this.#readBlockNow(newSegment, newPlace, words, index, out, outOffset) === READ_OK;
    if (isRead) words.set(other, hint);
    return isRead;
  }

  #readBlockNow(
    segment: number,
    place: number,
    words: Uint32Array,
    index: number,
    out: Uint8Array,
    outOffset: number,
  ): number {
    const kind = EntryKind.block;
    const result = this.#engine.readNow(segment, place, kind, words, index, out, outOffset);
    if (result === READ_OK) this.frames?.touch(segment, place);
    return result;
  }

  /** @throws {DamageError} */
  async read(volume: Volume, lba: number, out: Uint8Array, outOffset: number): Promise<void> {
    // Its other sectors may have been written, and its former place collected, meanwhile.
    await this.#againWhenWritten(async () => {
      const leaf = await volume.tree.fetch(lba);
      const child = lba % FANOUT;
      if (leaf?.hasStored(child)) {
        await this.#fetch(EntryKind.block, leaf.words, child, out, outOffset);
      } else {
        out.fill(0, outOffset, outOffset + BLOCK_SIZE);
      }
    });
  }

  /** Reads a block that `words` of a leaf point to. @throws {DamageError} */
  async readChild(
    words: Uint32Array,
    child: number,
    out: Uint8Array,
    outOffset: number,
  ): Promise<void> {
    await this.#againWhenWritten(() => this.#fetch(EntryKind.block, words, child, out, outOffset));
  }

  /** Reads once more what is damaged: the same may be being stored anew. */
  async #againWhenWritten(read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      await this.whenWritten();
      await read();
    }
  }

  /** Can the block that a leaf's `words` point to be read? */
  async isIntact(words: Uint32Array, child: number): Promise<boolean> {
    if (isZeroHash(words, child * HASH_WORDS)) return true;
    try {
      await this.readChild(words, child, new Uint8Array(BLOCK_SIZE), 0);
      return true;
    } catch (error) {
      if (error instanceof DamageError) return false;
      throw error;
    }
  }

  /** Reads a child node that `words` of its parent point to. @throws {DamageError} */
  readonly loadNode = async (words: Uint32Array, child: number): Promise<Uint32Array> => {
    const node = new Uint32Array(NODE_WORDS);
    await this.#fetch(EntryKind.node, words, child, new Uint8Array(node.buffer), 0);
    return node;
  };

  /**
   * Reads a root by its reference.
   *
   * @returns undefined for the zero hash
   * @throws {DamageError}
   */
  async loadRoot(reference: Uint32Array): Promise<Uint32Array | undefined> {
    if (isZeroHash(reference, 0)) return undefined;
    return this.loadNode(parentOf(reference), 0);
  }

  /** @throws {DamageError} */
  async #fetch(
    kind: EntryKind,
    words: Uint32Array,
    child: number,
    out: Uint8Array,
    outOffset: number,
  ): Promise<void> {
    const hash = words.slice(child * HASH_WORDS, (child + 1) * HASH_WORDS);
    const hint = HINT_WORD + child * 2;
    const location = words.slice(hint, hint + 2);
    for (let look = 0; look < LOOKS_MAX; look++) {
      const [segment, place] = [location[0] as number, location[1] as number];
      const read = () => this.#engine.read(segment, place, kind, hash, 0, out, outOffset);
      let result = this.#engine.readNow(segment, place, kind, hash, 0, out, outOffset);
      if (result === WOULD_BLOCK) result = await read();
      if (result !== READ_OK && result !== GONE) {
        result = (await this.frames?.restored(segment, frameOffset(place), read)) ?? result;
      }
      // Who writes the same again must not be told that it is there.
      if (result === DAMAGED) this.#engine.distrust(segment, place);
      if (result === READ_OK) {
        this.frames?.touch(segment, place);
        if (look > 0) refreshHint(words, child, hash, location);
        return;
      }
      if (await this.#locate(hash, location)) continue;
      await this.whenIndexed();
      if (!(await this.#locate(hash, location))) break;
    }
    throw new DamageError(hexOf(hash, 0));
  }

  /** Asks the index. @returns whether it knows where that is */
  async #locate(hash: Uint32Array, location: Uint32Array): Promise<boolean> {
    const known = this.#engine.locateNow(hash, 0, location);
    return (known < 0 ? await this.#engine.locate(hash, 0, location) : known) === FOUND;
  }
}

/** Hints are not part of a node's identity, so they may be put right even in a frozen node. */
function refreshHint(
  words: Uint32Array,
  child: number,
  hash: Uint32Array,
  location: Uint32Array,
): void {
  const same = hash.every((word, index) => words[child * HASH_WORDS + index] === word);
  if (same) words.set(location, HINT_WORD + child * 2);
}
