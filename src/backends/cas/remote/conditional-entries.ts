/**
 * The entries of a journal in a blob store that can refuse to create what is there already.
 *
 *     journal-NNNNNNNNNNNNNNNN   number, from 1 on
 *
 * Invariants:
 * - Entry n is created only if it is not there. Whoever creates n + 1 knows n: entries are in one
 *   order, whoever writes them. A server that finds an entry in its way that it has not tried to
 *   create itself is fenced: it must not write any more. A nonce tells, as a twin of this server,
 *   on a copy of its directory or of the whole machine, would write the same otherwise.
 * - The last entry is never removed, and others in their order. So who creates one where another's
 *   has been removed finds that there is a later one, and is fenced, too. A late copy of a request
 *   may bring an entry back that was removed; it is followed by others, and nobody reads it.
 */
import { BlobExistsError } from '../blob-store.ts';
import { type EntryName, numberedName, numberOf, parseUniqueName } from './blob-names.ts';
import { type EntryBlobs, UnreadableEntryError } from './entry-blobs.ts';
import { type Entry, FencedError } from './journal-entry.ts';

export class ConditionalEntries {
  readonly #blobs: EntryBlobs;
  /** The number of the last entry; 0 when there is none. */
  #last = 0;
  /** Nonces under which the next entry may have been created. */
  readonly #attempts = new Set<string>();

  constructor(blobs: EntryBlobs) {
    this.#blobs = blobs;
  }

  /**
   * The entries from the last one that says everything.
   *
   * @param names of all that is listed of the journal
   */
  async read(names: readonly string[]): Promise<Entry[]> {
    const last = numbersOf(names).at(-1);
    if (last === undefined) return [];
    const entries: Entry[] = [];
    const { base } = await this.#get(last);
    for (let number = base; number <= last; number++) entries.push(await this.#get(number));
    this.#last = last;
    return entries;
  }

  nameOf({ number }: Entry): string {
    return numberedName(number);
  }

  /** Where the next entry belongs. */
  next(): { readonly number: number } {
    return { number: this.#last + 1 };
  }

  /**
   * Creates an entry.
   *
   * @returns what is in its place: an earlier attempt, if its answer was lost
   * @throws {FencedError}
   * @throws {BlobConditionError} the service cannot refuse to create what is there
   */
  async append(entry: Entry): Promise<Entry> {
    this.#attempts.add(entry.nonce);
    const created = await this.#create(entry);
    await this.#requireNotOvertaken(created);
    this.#last = created.number;
    this.#attempts.clear();
    return created;
  }

  /** Removes the entries before a base. */
  async forget(base: number): Promise<void> {
    for (const name of await this.#blobs.names()) {
      if (numberOf(name) < base) await this.#blobs.delete(name);
    }
  }

  /** Is an entry that is there refused? There are services that overlook the condition. */
  async isExclusive(entry: Entry): Promise<boolean> {
    return !(await this.#put(entry));
  }

  async #create(entry: Entry): Promise<Entry> {
    if (await this.#put(entry)) return entry;
    const found = await this.#readNext(entry.number);
    if (!this.#attempts.has(found.nonce)) throw new FencedError(found.owner);
    return found;
  }

  /** @returns false when an entry of this number is there already */
  async #put(entry: Entry): Promise<boolean> {
    try {
      await this.#blobs.put(numberedName(entry.number), entry);
      return true;
    } catch (error) {
      if (error instanceof BlobExistsError) return false;
      throw error;
    }
  }

  /** @throws {FencedError} it cannot be read, and another one follows it: neither is ours */
  async #readNext(number: number): Promise<Entry> {
    try {
      return await this.#get(number);
    } catch (error) {
      if (!(error instanceof UnreadableEntryError)) throw error;
      const last = numbersOf(await this.#blobs.names()).at(-1) ?? number;
      if (last <= number) throw error;
      throw new FencedError(await this.#blobs.ownerOf(named(last)));
    }
  }

  /**
   * Is this entry, which is stored, the last one, and the one before still there?
   *
   * @throws {FencedError} no: another server's, which was in its place, has been removed
   */
  async #requireNotOvertaken({ number }: Entry): Promise<void> {
    const numbers = numbersOf(await this.#blobs.names());
    const before = this.#last || number;
    const last = numbers.at(-1);
    if (last === number && numbers.includes(before)) return;
    if (last === undefined || last < number) {
      throw new Error(`${numberedName(number)} was stored and is not listed`);
    }
    throw new FencedError(await this.#blobs.ownerOf(named(last)));
  }

  #get(number: number): Promise<Entry> {
    return this.#blobs.read(named(number));
  }
}

function named(number: number): EntryName {
  return { name: numberedName(number), number };
}

/** In their order, as names are listed. */
function numbersOf(names: readonly string[]): number[] {
  return names.filter((name) => parseUniqueName(name) === undefined).map(numberOf);
}
