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
 * - Entries are removed in their order. So who creates one where another's has been removed finds
 *   that the one before is gone as well, and is fenced, too.
 * - An entry names only blobs that are stored; a blob is removed only after an entry that does not
 *   name it is stored.
 */
import { randomBytes } from 'node:crypto';
import { StartupError } from '../../../core/startup-error.ts';
import { BlobExistsError, BlobMissingError, type BlobStore } from '../blob-store.ts';
import type { Superblock } from '../superblock.ts';

/** A stretch of a segment that is a blob: records from byte `from` up to byte `to`. */
export type Part = readonly [from: number, to: number, epoch: number, headBytes: number];

/** Who may write to the store. */
export interface Owner {
  /** Of its claim: random, and kept in the local directory. */
  readonly id: string;
  /** For people. */
  readonly host: string;
}

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

/** An entry as it is stored: JSON in UTF-8. */
interface Entry {
  readonly version: 1;
  readonly number: number;
  /** The entry from which on all must be read; this one if it says everything. */
  readonly base: number;
  /** How often the store had been claimed. */
  readonly epoch: number;
  readonly owner: Owner;
  /** Random: which attempt to create an entry this is. */
  readonly nonce: string;
  /** The owner has left it in order: anybody may claim it. */
  readonly closed: boolean;
  readonly segmentBytes: number;
  readonly superblock: (Omit<Superblock, 'store'> & { readonly store: string }) | null;
  readonly segments: readonly { readonly number: number; readonly parts: readonly Part[] }[];
  readonly removed: readonly number[];
}

const VERSION = 1;
const PREFIX = 'journal-';
/** What the names of all parts begin with. */
export const PART_PREFIX = 'segment-';
const BASE_EVERY = 64;
const READS_MAX = 3;
/** More than any entry has. */
const ENTRY_BYTES_MAX = 1 << 30;

/** Another server writes to the blob store. */
export class FencedError extends StartupError {
  constructor({ host }: Owner) {
    super(
      `the server on ${host} has taken over the blob store: this one must not write any more`,
      'let one server have it, and none use a copy of its directory or machine beside it',
    );
    this.name = 'FencedError';
  }
}

export class Journal {
  readonly #blobs: BlobStore;
  readonly #segments = new Map<number, readonly Part[]>();
  #last: Entry | undefined;
  #superblock: Superblock | undefined;
  #segmentBytes = 0;
  #me: Owner | undefined;
  /** Nonces under which the next entry may have been created. */
  readonly #attempts = new Set<string>();
  #epoch = 0;
  /** The entry of our claim, and the one that it followed. */
  #claimed: { readonly before: Entry | undefined; readonly entry: Entry } | undefined;

  private constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  /** Reads a journal; it is empty if there is none. */
  static async read(blobs: BlobStore): Promise<Journal> {
    for (let reads = 1; ; reads++) {
      try {
        const journal = new Journal(blobs);
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

  /** Takes the store over: from now on whoever had it is fenced. @throws {FencedError} */
  async claim(me: Owner): Promise<void> {
    const before = this.#last;
    this.#me = me;
    this.#epoch = (before?.epoch ?? 0) + 1;
    await this.append({});
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
    const entry = this.#last as Entry;
    try {
      await this.#blobs.put(nameOf(entry.number), encode(entry));
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
    for (;;) {
      const entry = this.#describe(change, closed);
      this.#attempts.add(entry.nonce);
      try {
        await this.#blobs.put(nameOf(entry.number), encode(entry));
        await this.#requireNotOvertaken();
        this.#apply(entry);
        // What stays is removed with the next base.
        if (entry.base === entry.number) await this.#forget(entry.number).catch(() => {});
        return;
      } catch (error) {
        if (!(error instanceof BlobExistsError)) throw error;
      }
      const found = await this.#get(entry.number);
      if (!this.#attempts.has(found.nonce)) throw new FencedError(found.owner);
      await this.#requireNotOvertaken();
      // An attempt of ours whose answer was lost: what it said has happened.
      this.#apply(found);
    }
  }

  /** @throws {FencedError} the last entry that we know was removed by who has the store now */
  async #requireNotOvertaken(): Promise<void> {
    if (this.#last === undefined) return;
    try {
      await this.#blobs.getRange(nameOf(this.#last.number), 0, 1);
    } catch (error) {
      if (!(error instanceof BlobMissingError)) throw error;
      const { owner } = await Journal.read(this.#blobs);
      throw new FencedError(owner as Owner);
    }
  }

  async #read(): Promise<void> {
    const numbers: number[] = [];
    for await (const { name } of this.#blobs.list(PREFIX)) numbers.push(numberOf(name));
    const last = numbers.at(-1);
    if (last === undefined) return;
    const { base } = await this.#get(last);
    for (let number = base; number <= last; number++) this.#apply(await this.#get(number));
  }

  #describe(change: Change, closed: boolean): Entry {
    const number = (this.#last?.number ?? 0) + 1;
    const before = this.#last?.base ?? number;
    const isBase = number - before >= BASE_EVERY || number === 1;
    const segments = new Map(isBase ? this.#segments : []);
    for (const [segment, parts] of change.segments ?? []) segments.set(segment, parts);
    if (isBase) for (const segment of change.removed ?? []) segments.delete(segment);
    const superblock = change.superblock ?? this.#superblock;
    return {
      version: VERSION,
      number,
      base: isBase ? number : before,
      epoch: this.#epoch,
      owner: this.#me as Owner,
      nonce: randomBytes(16).toString('hex'),
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
    if (entry.base === entry.number) this.#segments.clear();
    for (const { number, parts } of entry.segments) this.#segments.set(number, parts);
    for (const segment of entry.removed) this.#segments.delete(segment);
  }

  async #get(number: number): Promise<Entry> {
    const bytes = await this.#blobs.getRange(nameOf(number), 0, ENTRY_BYTES_MAX);
    const entry = JSON.parse(new TextDecoder().decode(bytes)) as Entry;
    if (entry.version === VERSION && entry.number === number) return entry;
    throw new Error(`${nameOf(number)} is no journal entry of version ${VERSION}`);
  }

  /** Removes the entries before a base. */
  async #forget(base: number): Promise<void> {
    for await (const { name } of this.#blobs.list(PREFIX)) {
      if (numberOf(name) < base) await this.#blobs.delete(name);
    }
  }
}

export function partName(segment: number, [from, to, epoch]: Part): string {
  return `${PART_PREFIX}${[segment, epoch, from, to].map(padded).join('-')}`;
}

function nameOf(number: number): string {
  return `${PREFIX}${String(number).padStart(16, '0')}`;
}

function numberOf(name: string): number {
  return Number(name.slice(PREFIX.length));
}

function padded(number: number): string {
  return String(number).padStart(8, '0');
}

function encode(entry: Entry): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(entry));
}
