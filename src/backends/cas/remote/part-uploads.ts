/**
 * Stores segments as parts.
 *
 * Invariants:
 * - Only what is intact is stored: everything is verified on the way out.
 * - A part that another one replaces stays until a journal entry without it is stored.
 */
import type { CasEngine } from '../../../native.ts';
import { BlobExistsError, type BlobStore } from '../blob-store.ts';
import type { Segment } from '../segments.ts';
import { partName } from './blob-names.ts';
import type { Journal } from './journal.ts';
import { endOfParts, FencedError, newNonce, type Owner, type Part } from './journal-entry.ts';
import { LocalDamageError, type MadePart, makePart } from './part.ts';
import type { PartCache } from './part-cache.ts';

/** Up to this size new bytes are stored together with what was stored just before them. */
const MERGED_BYTES_MAX = 1 << 20;

export interface PartUploadsParts {
  readonly journal: Journal;
  readonly engine: CasEngine;
  readonly cache: PartCache;
  readonly blobs: BlobStore;
  /** Ends uploads. */
  readonly signal: AbortSignal;
}

export class PartUploads {
  readonly #parts: PartUploadsParts;
  /** What is stored of each segment; the journal may not name it yet. */
  readonly #stored: Map<number, readonly Part[]>;
  /** Names of parts that were replaced; the journal may still name them. */
  readonly #replaced = new Set<string>();

  constructor(parts: PartUploadsParts) {
    this.#parts = parts;
    this.#stored = new Map(parts.journal.image.segments);
  }

  /**
   * Stores a segment up to byte `end`.
   *
   * @param store the store's UUID
   * @throws {LocalDamageError} some of it is damaged here, and not stored yet
   */
  async store(segment: Segment, end: number, store: Uint8Array): Promise<void> {
    const before = this.#stored.get(segment.number) ?? [];
    const parts = [...before];
    let from = endOfParts(parts);
    if (from >= end) return;
    for (let last = parts.at(-1); last !== undefined; last = parts.at(-1)) {
      const isSmall = last[1] - last[0] <= end - from && end - last[0] <= MERGED_BYTES_MAX;
      if (!isSmall) break;
      from = last[0];
      parts.pop();
    }
    const replaced = before.slice(parts.length);
    while (from < end) {
      const made = await this.#make(segment, from, end, store);
      parts.push(await this.#put(segment.number, made));
      this.#stored.set(segment.number, [...parts]);
      for (const part of replaced) this.#replaced.add(partName(segment.number, part));
      from = made.part[1];
    }
  }

  /**
   * Stores anew what the blob of a part should hold, which is damaged; under another name, as no
   * blob is ever changed.
   *
   * @returns false when this disk does not have all of it
   */
  async renew(segment: Segment, part: Part, store: Uint8Array): Promise<boolean> {
    const { number } = segment;
    const name = partName(number, part);
    const made = await this.#parts.cache.holding(number, () =>
      this.#makeAgain(segment, part, store),
    );
    if (made === undefined) return false;
    const parts: Part[] = [];
    for (const one of made) parts.push(await this.#putUnique(number, one));
    const stored = this.#stored.get(number) ?? [];
    const isIt = (other: Part) => partName(number, other) === name;
    this.#stored.set(
      number,
      stored.flatMap((other) => (isIt(other) ? parts : [other])),
    );
    this.#replaced.add(name);
    return true;
  }

  /** What a journal entry has to say for segments to be stored as far as `ends` says. */
  changes(ends: ReadonlyMap<number, number>): {
    readonly segments: ReadonlyMap<number, readonly Part[]>;
    readonly removed: readonly number[];
  } {
    const named = this.#parts.journal.image.segments;
    const changed = [...this.#stored].filter(
      ([number, parts]) => ends.has(number) && named.get(number) !== parts,
    );
    return {
      segments: new Map(changed),
      removed: [...named.keys()].filter((number) => !ends.has(number)),
    };
  }

  /** Takes notice that the journal says so. @returns names of parts that it names no more */
  journaled(ends: ReadonlyMap<number, number>): string[] {
    const { journal } = this.#parts;
    for (const [number, parts] of this.#stored) {
      if (ends.has(number)) continue;
      this.#stored.delete(number);
      for (const part of parts) this.#replaced.add(partName(number, part));
    }
    // One whose answer was lost may name some: the next entry leaves them out.
    const obsolete = [...this.#replaced].filter((name) => !journal.names(name));
    for (const name of obsolete) this.#replaced.delete(name);
    return obsolete;
  }

  async #make(segment: Segment, from: number, end: number, store: Uint8Array): Promise<MadePart> {
    const { journal, engine, cache } = this.#parts;
    const make = () => makePart({ engine, store }, segment, from, end, journal.epoch);
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof LocalDamageError)) throw error;
      const made = await cache.restored(segment.number, error.offset, make);
      if (made === undefined) throw error;
      return made;
    }
  }

  /** @returns undefined when it is not whole on this disk */
  async #makeAgain(
    segment: Segment,
    [from, to]: Part,
    store: Uint8Array,
  ): Promise<MadePart[] | undefined> {
    const { journal, engine } = this.#parts;
    const made: MadePart[] = [];
    try {
      for (let at = from; at < to; ) {
        const one = await makePart({ engine, store }, segment, at, to, journal.epoch);
        made.push(one);
        at = one.part[1];
      }
      return made;
    } catch (error) {
      if (error instanceof LocalDamageError) return undefined;
      throw error;
    }
  }

  /** @returns what it is called there */
  async #put(segment: number, made: MadePart): Promise<Part> {
    const { journal, blobs, signal } = this.#parts;
    signal.throwIfAborted();
    if (journal.needsUniqueNames) return this.#putUnique(segment, made);
    const { part, bytes } = made;
    const name = partName(segment, part);
    try {
      await blobs.put(name, bytes);
    } catch (error) {
      if (!(error instanceof BlobExistsError)) throw error;
      // An attempt of ours whose answer was lost, or a twin of this machine goes on as well.
      const found = await blobs.getRange(name, 0, bytes.length);
      if (Buffer.compare(found, bytes) !== 0) throw new FencedError(journal.owner as Owner);
    }
    return part;
  }

  /** Under a name that nobody else ever uses: a twin of this machine would put other bytes there. */
  async #putUnique(segment: number, { part, bytes }: MadePart): Promise<Part> {
    const [from, to, epoch, headBytes] = part;
    const unique: Part = [from, to, epoch, headBytes, newNonce()];
    const name = partName(segment, unique);
    try {
      await this.#parts.blobs.put(name, bytes, true);
      return unique;
    } catch (error) {
      // It may be there: the next attempt has another name.
      this.#replaced.add(name);
      throw error;
    }
  }
}
