/**
 * The journal of a remote store: what of the store is in the blob store, and who may write there.
 *
 * Each entry is a blob of its own and says what changed since the one before, so that after every
 * entry the blob store holds what a crash at some moment would have left on the local disk: a
 * superblock, and segments up to some length. Every 64th entry says everything; older ones go.
 *
 * Invariants:
 * - Entry n is created only if it is not there. Whoever creates n + 1 knows n: entries are in one
 *   order, whoever writes them. A server that finds an entry in its way that it has not tried to
 *   create itself is fenced: it must not write any more. A nonce tells, as a twin of this server,
 *   on a copy of its directory or of the whole machine, would write the same otherwise.
 * - The last entry is never removed, and others in their order. So who creates one where another's
 *   has been removed finds that there is a later one, and is fenced, too. A late copy of a request
 *   may bring an entry back that was removed; it is followed by others, and nobody reads it.
 * - An entry names only blobs that are stored; a blob is removed only after an entry that does not
 *   name it is stored.
 *
 * The first two are of services that can refuse to create what is there already. A journal begun on
 * one that cannot stays what it is: UniqueEntries keep its entries in order.
 */
import { StartupError } from '../../../core/startup-error.ts';
import {
  BlobConditionError,
  BlobExistsError,
  BlobMissingError,
  type BlobStore,
} from '../blob-store.ts';
import type { Superblock } from '../superblock.ts';
import {
  type Entry,
  encodeEntry,
  FencedError,
  JOURNAL_PREFIX,
  newNonce,
  type Owner,
  type Part,
  readEntry,
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

/** What the names of all parts begin with. */
export const PART_PREFIX = 'segment-';
const BASE_EVERY = 64;
const READS_MAX = 3;

export class Journal {
  readonly #blobs: BlobStore;
  readonly #waitMs: number;
  /** undefined when entries are created on the condition that they are not there. */
  #unique: UniqueEntries | undefined;
  readonly #segments = new Map<number, readonly Part[]>();
  /** The entries that say this, from the last one on that says everything, by their names. */
  readonly #entries = new Map<string, Entry>();
  #last: Entry | undefined;
  /** Must the next entry say everything? */
  #mustSayAll = false;
  #superblock: Superblock | undefined;
  #segmentBytes = 0;
  #me: Owner | undefined;
  /** Nonces under which the next entry may have been created. */
  readonly #attempts = new Set<string>();
  #epoch = 0;
  /** The entry of our claim, and the one that it followed. */
  #claimed: { readonly before: Entry | undefined; readonly entry: Entry } | undefined;

  private constructor(blobs: BlobStore, waitMs: number) {
    this.#blobs = blobs;
    this.#waitMs = waitMs;
  }

  /**
   * Reads a journal; it is empty if there is none.
   *
   * @param waitMs between looks at a claim that is under way
   */
  static async read(blobs: BlobStore, waitMs = WAIT_MS): Promise<Journal> {
    for (let reads = 1; ; reads++) {
      try {
        const journal = new Journal(blobs, waitMs);
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
    return this.#unique !== undefined;
  }

  /** The entries that count, by the names of their blobs, in their order. */
  get entries(): ReadonlyMap<string, Entry> {
    return this.#entries;
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
    if (this.#unique === undefined) await this.#claimOnCondition();
    if (this.#unique !== undefined) {
      this.#epoch = await this.#unique.claim(me);
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

  /**
   * Does the blob store refuse to create what is there already? Everything rests on it, and there
   * are services that overlook the condition.
   */
  async isExclusive(): Promise<boolean> {
    if (this.#unique !== undefined) return true;
    const entry = this.#last as Entry;
    try {
      await this.#blobs.put(nameOf(entry.number), encodeEntry(entry));
      return false;
    } catch (error) {
      if (error instanceof BlobExistsError) return true;
      throw error;
    }
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
    if (this.#unique === undefined) await this.#appendOnCondition(change, closed);
    else {
      const entry = this.#describe(change, closed);
      await this.#unique.append(entry);
      this.#apply(entry);
    }
    const { base, number } = this.#last as Entry;
    // What stays is removed with the next base.
    if (base === number) await this.#forget(number).catch(() => {});
  }

  /** Finds out whether the service knows conditions, when nobody has before. */
  async #claimOnCondition(): Promise<void> {
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
      this.#unique = new UniqueEntries(this.#blobs, this.#waitMs);
      return;
    }
    if (!isFirst) return;
    // Did somebody else get another answer? One who comes later sees our entry.
    for await (const { name } of this.#blobs.list(JOURNAL_PREFIX)) {
      if (!UniqueEntries.owns(name)) continue;
      await this.#blobs.delete(nameOf((this.#last as Entry).number));
      throw new FencedError(UNKNOWN_OWNER);
    }
  }

  async #appendOnCondition(change: Change, closed: boolean): Promise<void> {
    for (;;) {
      const entry = this.#describe(change, closed);
      this.#attempts.add(entry.nonce);
      try {
        await this.#blobs.put(nameOf(entry.number), encodeEntry(entry));
        await this.#requireNotOvertaken(entry);
        this.#apply(entry);
        return;
      } catch (error) {
        if (!(error instanceof BlobExistsError)) throw error;
      }
      const found = await this.#get(entry.number);
      if (!this.#attempts.has(found.nonce)) throw new FencedError(found.owner);
      await this.#requireNotOvertaken(found);
      // An attempt of ours whose answer was lost: what it said has happened.
      this.#apply(found);
    }
  }

  /**
   * Is this entry, which is stored, the last one, and the one before still there?
   *
   * @throws {FencedError} no: another server's, which was in its place, has been removed
   */
  async #requireNotOvertaken({ number }: Entry): Promise<void> {
    const numbers = (await this.#names()).filter((name) => !UniqueEntries.owns(name)).map(numberOf);
    const before = this.#last?.number ?? number;
    if (numbers.at(-1) === number && numbers.includes(before)) return;
    if (!numbers.some((other) => other >= number)) {
      throw new Error(`${nameOf(number)} was stored and is not listed`);
    }
    const { owner } = await Journal.read(this.#blobs);
    throw new FencedError(owner ?? UNKNOWN_OWNER);
  }

  async #read(): Promise<void> {
    const names = await this.#names();
    const unique = names.filter(UniqueEntries.owns);
    // Marks of claims that got nowhere make no journal where there is one with conditions.
    if (unique.length === names.length ? unique.length > 0 : unique.some(UniqueEntries.isEntry)) {
      this.#unique = new UniqueEntries(this.#blobs, this.#waitMs);
      for (const entry of await this.#unique.read()) this.#apply(entry);
      return;
    }
    const last = names
      .filter((name) => !UniqueEntries.owns(name))
      .map(numberOf)
      .at(-1);
    if (last === undefined) return;
    const { base } = await this.#get(last);
    for (let number = base; number <= last; number++) this.#apply(await this.#get(number));
  }

  #describe(change: Change, closed: boolean): Entry {
    const place = this.#unique?.next() ?? { number: (this.#last?.number ?? 0) + 1 };
    const { number } = place;
    const before = this.#last?.base ?? number;
    const isNewEpoch = this.#unique !== undefined && this.#last?.epoch !== this.#epoch;
    const isFirst = number === 1 || isNewEpoch;
    const isBase = number - before >= BASE_EVERY || isFirst || this.#mustSayAll;
    const segments = new Map(isBase ? this.#segments : []);
    for (const [segment, parts] of change.segments ?? []) segments.set(segment, parts);
    if (isBase) for (const segment of change.removed ?? []) segments.delete(segment);
    const superblock = change.superblock ?? this.#superblock;
    return {
      version: VERSION,
      ...place,
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
    this.#attempts.clear();
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
    this.#entries.set(this.#unique ? UniqueEntries.nameOf(entry) : nameOf(entry.number), entry);
    for (const { number, parts } of entry.segments) this.#segments.set(number, parts);
    for (const segment of entry.removed) this.#segments.delete(segment);
  }

  #get(number: number): Promise<Entry> {
    return readEntry(this.#blobs, nameOf(number), number);
  }

  async #names(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.#blobs.list(JOURNAL_PREFIX)) names.push(name);
    return names;
  }

  /** Removes the entries before a base. */
  async #forget(base: number): Promise<void> {
    if (this.#unique !== undefined) return this.#unique.forget(base);
    for await (const { name } of this.#blobs.list(JOURNAL_PREFIX)) {
      if (numberOf(name) < base) await this.#blobs.delete(name);
    }
  }
}

export function partName(segment: number, [from, to, epoch, , nonce]: Part): string {
  const name = `${PART_PREFIX}${[segment, epoch, from, to].map(padded).join('-')}`;
  return nonce === undefined ? name : `${name}-${nonce}`;
}

function nameOf(number: number): string {
  return `${JOURNAL_PREFIX}${String(number).padStart(16, '0')}`;
}

function numberOf(name: string): number {
  return Number(name.slice(JOURNAL_PREFIX.length));
}

function padded(number: number): string {
  return String(number).padStart(8, '0');
}
