/**
 * Reads the journal of a store that is kept in a blob store as well: which blobs count. Of both
 * kinds: with entries that are numbered, and with such that follow each other by name.
 */
import { type BlobPart, fetchBlob, type ReadableBlobs } from './blob-parts.ts';
import type { Findings } from './findings.ts';
import { type JournalEntry, parseEntry, type ReadPart } from './journal-entry.ts';
import {
  type EntryName,
  JOURNAL_PREFIX,
  PART_PREFIX,
  parseEntryName,
  parsePartName,
  partName,
} from './journal-names.ts';

/** More than any entry has. */
const ENTRY_BYTES_MAX = 1 << 30;

/** What the journal says. */
export interface ReadJournal {
  readonly entryCount: number;
  /** The last entry; undefined when the journal cannot be read. */
  readonly last: JournalEntry | undefined;
  readonly parts: readonly BlobPart[];
}

export async function readJournal(blobs: ReadableBlobs, findings: Findings): Promise<ReadJournal> {
  const { entries, isWhole } = await readEntries(blobs, findings);
  const last = entries.at(-1);
  const entryCount = entries.length;
  if (isWhole && last !== undefined) return { entryCount, last, parts: partsOf(entries) };
  findings.notes.push('the journal does not tell which blobs count: all parts are examined');
  return { entryCount, last: undefined, parts: await listParts(blobs) };
}

interface Entries {
  /** Those that can be read, in their order. */
  readonly entries: readonly JournalEntry[];
  readonly isWhole: boolean;
}

async function readEntries(blobs: ReadableBlobs, findings: Findings): Promise<Entries> {
  const names: EntryName[] = [];
  for await (const { name } of blobs.list(JOURNAL_PREFIX)) {
    const parsed = parseEntryName(name);
    if (parsed !== undefined) names.push(parsed);
    else findings.add('journal', `${name} is no name of an entry`);
  }
  const numbered = names.filter(({ epoch }) => epoch === undefined);
  const named = names.filter(({ epoch, number }) => epoch !== undefined && number > 0);
  if (numbered.length > 0 && named.length > 0) {
    findings.add('journal', `${numbered[0]?.name} and ${named[0]?.name} are of two journals`);
    return { entries: [], isWhole: false };
  }
  if (numbered.length === 0 && named.length === 0) {
    findings.add('journal', 'there is none in the blob store');
    return { entries: [], isWhole: false };
  }
  const chain = new Chain(blobs, findings);
  await (named.length > 0 ? chain.followNames(named) : chain.followNumbers(numbered));
  return chain;
}

/** The entries from the base of the last one on. */
class Chain implements Entries {
  readonly entries: JournalEntry[] = [];
  isWhole = true;
  readonly #blobs: ReadableBlobs;
  readonly #findings: Findings;

  constructor(blobs: ReadableBlobs, findings: Findings) {
    this.#blobs = blobs;
    this.#findings = findings;
  }

  async followNumbers(names: readonly EntryName[]): Promise<void> {
    const inOrder = names.toSorted((one, other) => one.number - other.number);
    const last = inOrder.at(-1) as EntryName;
    const { base = last.number } = (await this.#read(last)) ?? {};
    let next = base;
    for (const name of inOrder) {
      if (name.number < base) continue;
      if (name.number > next) this.#complain(`entry ${next} is missing`);
      next = name.number + 1;
      if (name !== last) await this.#read(name);
    }
    this.entries.sort((one, other) => one.number - other.number);
    this.#compare();
  }

  async followNames(names: readonly EntryName[]): Promise<void> {
    const highest = Math.max(...names.map(({ epoch }) => epoch as number));
    const ours = names.filter(({ epoch }) => epoch === highest);
    ours.sort((one, other) => one.number - other.number);
    const accounted = new Set<string>();
    for (let at = ours.at(-1); at !== undefined; ) {
      accounted.add(at.name);
      const entry = await this.#read(at);
      if (entry === undefined) return;
      for (const name of entry.abandoned ?? []) accounted.add(name);
      if (entry.base === entry.number) break;
      const before = ours.find(({ name }) => name === entry.after);
      if (before === undefined || before.number >= at.number) {
        this.#complain(`${entry.after}, which ${at.name} follows, is missing`);
        return;
      }
      at = before;
    }
    this.entries.reverse();
    this.#compare();
    const base = this.entries[0]?.number ?? 0;
    const stray = ours.find(({ name, number }) => number >= base && !accounted.has(name));
    if (stray !== undefined) this.#complain(`${stray.name} is of a second server`);
  }

  /** Whether entries that can be read fit together. */
  #compare(): void {
    const [first] = this.entries;
    for (const [index, { number, base, epoch }] of this.entries.entries()) {
      if (this.isWhole && base !== first?.base) this.#complain(`entry ${number} has another base`);
      if (epoch < (this.entries[index - 1]?.epoch ?? 0)) {
        this.#complain(`entry ${number} is of an earlier epoch than the one before`);
      }
    }
  }

  async #read({ name, number }: EntryName): Promise<JournalEntry | undefined> {
    const bytes = await fetchBlob(this.#blobs, name, ENTRY_BYTES_MAX);
    const entry = bytes === undefined ? 'is missing' : parseEntry(bytes, number);
    if (typeof entry === 'string') this.#complain(`${name} ${entry}`);
    else this.entries.push(entry);
    return typeof entry === 'string' ? undefined : entry;
  }

  #complain(message: string): void {
    this.isWhole = false;
    this.#findings.add('journal', message);
  }
}

/** The parts that count after all entries. */
function partsOf(entries: readonly JournalEntry[]): BlobPart[] {
  const segments = new Map<number, readonly ReadPart[]>();
  for (const entry of entries) {
    for (const { number, parts } of entry.segments) segments.set(number, parts);
    for (const number of entry.removed) segments.delete(number);
  }
  return [...segments].flatMap(([segment, parts]) =>
    parts.map((part) => {
      const [from, to, , headBytes] = part;
      return { name: partName(segment, part), segment, from, to, headBytes };
    }),
  );
}

/** Every part that is there: what each one holds can be verified without the journal. */
async function listParts(blobs: ReadableBlobs): Promise<BlobPart[]> {
  const parts: BlobPart[] = [];
  for await (const { name, sizeBytes } of blobs.list(PART_PREFIX)) {
    const part = parsePartName(name, sizeBytes);
    if (part !== undefined) parts.push(part);
  }
  return parts;
}
