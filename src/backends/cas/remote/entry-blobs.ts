/** The blobs of a journal, and the copies on this disk of those that are damaged. */
import { StartupError } from '../../../core/startup-error.ts';
import { BlobMissingError, type BlobStore } from '../blob-store.ts';
import { type EntryName, JOURNAL_PREFIX } from './blob-names.ts';
import type { EntryCopies } from './entry-copies.ts';
import {
  decodeEntry,
  type Entry,
  encodeEntry,
  type Owner,
  UNKNOWN_OWNER,
  VERSION,
} from './journal-entry.ts';

/** More than any entry has. */
const ENTRY_BYTES_MAX = 1 << 30;

/** What is there is no entry, or none that can be understood. */
export class UnreadableEntryError extends StartupError {
  override readonly name = 'UnreadableEntryError';
}

export class EntryBlobs {
  readonly copies: EntryCopies | undefined;
  readonly #blobs: BlobStore;

  constructor(blobs: BlobStore, copies: EntryCopies | undefined) {
    this.#blobs = blobs;
    this.copies = copies;
  }

  /** Of all that is there, in their order. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.#blobs.list(JOURNAL_PREFIX)) names.push(name);
    return names;
  }

  /**
   * @throws {BlobMissingError}
   * @throws {UnreadableEntryError} it is damaged, or of another version
   */
  async read({ name, number }: EntryName): Promise<Entry> {
    const bytes = await this.#blobs.getRange(name, 0, ENTRY_BYTES_MAX);
    const entry = decodeEntry(bytes) ?? (await this.copies?.find(name, bytes));
    if (entry === undefined) {
      throw new UnreadableEntryError(
        `${name} in the blob store is damaged`,
        'bring back what the service has kept of it; aoe-server cas fsck --remote tells what is lost',
      );
    }
    if (entry.version === VERSION && entry.number === number) return entry;
    throw new UnreadableEntryError(
      `${name} is no journal entry of version ${VERSION}`,
      'use the version of aoe-server that has written it, or a later one',
    );
  }

  /** @returns undefined when it is gone, or cannot be read */
  async find(entry: EntryName): Promise<Entry | undefined> {
    try {
      return await this.read(entry);
    } catch (error) {
      if (error instanceof BlobMissingError) return undefined;
      if (error instanceof UnreadableEntryError) return undefined;
      throw error;
    }
  }

  async ownerOf(entry: EntryName): Promise<Owner> {
    return (await this.find(entry))?.owner ?? UNKNOWN_OWNER;
  }

  /** @throws what {@link BlobStore.put} does */
  put(name: string, entry: object, isUnique = false): Promise<void> {
    return this.#blobs.put(name, encodeEntry(entry), isUnique);
  }

  delete(name: string): Promise<void> {
    return this.#blobs.delete(name);
  }
}
