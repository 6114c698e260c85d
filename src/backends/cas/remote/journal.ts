/**
 * The journal of a remote store: what of the store is in the blob store, and who may write there.
 *
 * Each entry is a blob of its own and says what changed since the one before, so that after every
 * entry the blob store holds what a crash at some moment would have left on the local disk: a
 * superblock, and segments up to some length. Every 64th entry says everything; older ones go.
 *
 * Invariants:
 * - Entries are in one order, whoever writes them, and a server that finds another's in its way is
 *   fenced: it must not write any more. How that is kept depends on whether the service can refuse
 *   to create what is there already: by ConditionalEntries, or by UniqueEntries. A journal stays what
 *   it was begun as.
 * - An entry names only blobs that are stored; a blob is removed only after an entry that does not
 *   name it is stored.
 */
import { StartupError } from '../../../core/startup-error.ts';
import { BlobConditionError, BlobMissingError, type BlobStore } from '../blob-store.ts';
import type { Superblock } from '../superblock.ts';
import { parsePartName, parseUniqueName, partName } from './blob-names.ts';
import { ConditionalEntries } from './conditional-entries.ts';
import { EntryBlobs } from './entry-blobs.ts';
import type { EntryCopies } from './entry-copies.ts';
import {
  type Entry,
  FencedError,
  newNonce,
  type Owner,
  type Part,
  UNKNOWN_OWNER,
  VERSION,
} from './journal-entry.ts';
import { UniqueEntries, WAIT_MS } from './unique-entries.ts';

/** What a crash would leave. */
export interface Image {
  readonly superblock: Superblock | undefined;
  readonly segmentBytes: number;
  readonly segments: ReadonlyMap<number, readonly Part[]>;
}

export interface Change {
  readonly superblock?: Superblock | undefined;
  readonly segmentBytes?: number;
  /** Segments whose parts are others now, with all of them. */
  readonly segments?: ReadonlyMap<number, readonly Part[]>;
  /** Segments that are gone. */
  readonly removed?: readonly number[];
}

const BASE_EVERY = 64;
const READS_MAX = 3;

export class Journal {
  readonly #blobs: EntryBlobs;
  readonly #waitMs: number;
  /** Keeps the entries in one order; which of them does depends on the service. */
  #order: ConditionalEntries | UniqueEntries;
  readonly #segments = new Map<number, readonly Part[]>();
  /** The entries that say this, from the last one on that says everything, by their names. */
  readonly #entries = new Map<string, Entry>();
  #last: Entry | undefined;
  /** Must the next entry say everything? */
  #mustSayAll = false;
  #superblock: Superblock | undefined;
  #segmentBytes = 0;
  #me: Owner | undefined;
  #epoch = 0;
  /** The entry of our claim, and the one that it followed. */
  #claimed: { readonly before: Entry | undefined; readonly entry: Entry } | undefined;

  private constructor(blobs: BlobStore, copies: EntryCopies | undefined, waitMs: number) {
    this.#blobs = new EntryBlobs(blobs, copies);
    this.#waitMs = waitMs;
    this.#order = new ConditionalEntries(this.#blobs);
  }

  /**
   * Reads a journal; it is empty if there is none.
   *
   * @param waitMs between looks at a claim that is under way
   * @param copies of its entries, for those that are damaged; kept from then on
   */
  static async read(
    blobs: BlobStore,
    { waitMs = WAIT_MS, copies }: { readonly waitMs?: number; readonly copies?: EntryCopies } = {},
  ): Promise<Journal> {
    for (let reads = 1; ; reads++) {
      try {
        const journal = new Journal(blobs, copies, waitMs);
        await journal.#read();
        return journal;
      } catch (error) {
        // Its owner may remove entries while they are read.
        if (!(error instanceof BlobMissingError) || reads === READS_MAX) throw error;
      }
    }
  }

  get image(): Image {
    return {
      superblock: this.#superblock,
      segmentBytes: this.#segmentBytes,
      segments: this.#segments,
    };
  }

  /** The last one who claimed it; undefined when nobody ever did. */
  get owner(): Owner | undefined {
    return this.#last?.owner;
  }

  /** May anybody claim it? */
  get isFree(): boolean {
    return this.#last === undefined || this.#last.closed;
  }

  /** How often the store has been claimed. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Must blobs have names that nobody else ever uses, as the service cannot tell what is there? */
  get needsUniqueNames(): boolean {
    return this.#order instanceof UniqueEntries;
  }

  /** The entries that count, by the names of their blobs, in their order. */
  get entries(): ReadonlyMap<string, Entry> {
    return this.#entries;
  }

  /** Does the last entry name this part? */
  names(part: string): boolean {
    const { segment } = parsePartName(part);
    const parts = this.#segments.get(segment) ?? [];
    return parts.some((one) => partName(segment, one) === part);
  }

  /** Is another entry due, though nothing has changed? */
  get isDue(): boolean {
    return this.#mustSayAll;
  }

  /** Lets the next entry say everything: of those so far one is damaged. */
  sayAll(): void {
    this.#mustSayAll = true;
  }

  /**
   * Takes the store over: from now on whoever had it is fenced.
   *
   * @throws {FencedError}
   * @throws {StartupError} the journal was begun with conditions, and the service knows none
   */
  async claim(me: Owner): Promise<void> {
    const before = this.#last;
    this.#me = me;
    this.#epoch = (before?.epoch ?? 0) + 1;
    const entries = this.#order;
    if (entries instanceof ConditionalEntries) await this.#claimOnCondition(entries);
    if (this.#order instanceof UniqueEntries) {
      this.#epoch = await this.#order.claim(me);
      await this.append({});
    }
    this.#claimed = { before, entry: this.#last as Entry };
  }

  /** Undoes a claim with which nothing came about. @throws {FencedError} */
  async release(): Promise<void> {
    if (this.#claimed === undefined) return;
    const { before, entry } = this.#claimed;
    if (this.#last === entry && before !== undefined) this.#me = before.owner;
    await this.append({}, before?.closed ?? true);
  }

  /** Does the blob store keep two servers apart? Everything rests on it. */
  async isExclusive(): Promise<boolean> {
    const entries = this.#order;
    return entries instanceof UniqueEntries || entries.isExclusive(this.#last as Entry);
  }

  /** Leaves the store to anybody. @throws {FencedError} */
  close(): Promise<void> {
    return this.append({}, true);
  }

  /**
   * Stores an entry; when this fails it may have been stored or not, and a repetition is in order.
   *
   * @throws {FencedError}
   */
  async append(change: Change, closed = false): Promise<void> {
    for (let isStored = false; !isStored; ) {
      const entry = this.#describe(change, closed);
      const stored = await this.#order.append(entry);
      // An attempt of ours whose answer was lost: what it said has happened.
      this.#apply(stored);
      isStored = stored === entry;
    }
    const { base, number } = this.#last as Entry;
    // What stays is removed with the next base.
    if (base === number) await this.#order.forget(number).catch(() => {});
    await this.#blobs.copies?.keep(this.#entries);
  }

  /** Finds out whether the service knows conditions, when nobody has before. */
  async #claimOnCondition(entries: ConditionalEntries): Promise<void> {
    const isFirst = this.#last === undefined;
    try {
      await this.append({});
    } catch (error) {
      if (!(error instanceof BlobConditionError)) throw error;
      if (!isFirst) {
        throw new StartupError(
          'the journal in the blob store was begun on a service that knows If-None-Match for PUT',
          'use a service that does: this one does not, and cannot go on with it',
        );
      }
      this.#order = new UniqueEntries(this.#blobs, this.#waitMs);
      return;
    }
    if (!isFirst) return;
    // Did somebody else get another answer? One who comes later sees our entry.
    for (const name of await this.#blobs.names()) {
      if (parseUniqueName(name) === undefined) continue;
      await this.#blobs.delete(entries.nameOf(this.#last as Entry));
      throw new FencedError(UNKNOWN_OWNER);
    }
  }

  async #read(): Promise<void> {
    const names = await this.#blobs.names();
    const unique = names.flatMap((name) => parseUniqueName(name) ?? []);
    const hasEntries = unique.some(({ number }) => number > 0);
    // Marks of claims that got nowhere make no journal where there is one with conditions.
    if (unique.length === names.length ? unique.length > 0 : hasEntries) {
      this.#order = new UniqueEntries(this.#blobs, this.#waitMs);
    }
    for (const entry of await this.#order.read(names)) this.#apply(entry);
    if ((this.#blobs.copies?.used.size ?? 0) > 0) this.sayAll();
  }

  #describe(change: Change, closed: boolean): Entry {
    const next = this.#order.next();
    const { number } = next;
    const before = this.#last?.base ?? number;
    const isNewEpoch = this.needsUniqueNames && this.#last?.epoch !== this.#epoch;
    const isFirst = number === 1 || isNewEpoch;
    const isBase = number - before >= BASE_EVERY || isFirst || this.#mustSayAll;
    const segments = new Map(isBase ? this.#segments : []);
    for (const [segment, parts] of change.segments ?? []) segments.set(segment, parts);
    if (isBase) for (const segment of change.removed ?? []) segments.delete(segment);
    const superblock = change.superblock ?? this.#superblock;
    return {
      version: VERSION,
      ...next,
      base: isBase ? number : before,
      epoch: this.#epoch,
      owner: this.#me as Owner,
      nonce: newNonce(),
      closed,
      segmentBytes: change.segmentBytes ?? this.#segmentBytes,
      superblock:
        superblock === undefined
          ? null
          : { ...superblock, store: Buffer.from(superblock.store).toString('hex') },
      segments: [...segments].map(([segment, parts]) => ({ number: segment, parts })),
      removed: change.removed ?? [],
    };
  }

  #apply(entry: Entry): void {
    this.#last = entry;
    this.#epoch = entry.epoch;
    this.#segmentBytes = entry.segmentBytes;
    const { superblock } = entry;
    if (superblock !== null) {
      const store = Uint8Array.from(Buffer.from(superblock.store, 'hex'));
      this.#superblock = { ...superblock, store };
    }
    if (entry.base === entry.number) {
      this.#segments.clear();
      this.#entries.clear();
      this.#mustSayAll = false;
    }
    this.#entries.set(this.#order.nameOf(entry), entry);
    for (const { number, parts } of entry.segments) this.#segments.set(number, parts);
    for (const segment of entry.removed) this.#segments.delete(segment);
  }
}
