/**
 * Copies of the journal's entries on this disk, each in a file of the name that its blob has: a
 * server whose own disk is whole is not stopped by a blob that is damaged.
 *
 * Why a copy tells what the blob said: it is made when the entry counts, and no name is ever given
 * to two entries. A directory may come to another journal, though, that has the same names. So
 * what is left of the blob must show that it was this entry: by its owner, who has claimed one
 * journal only, or by its nonce.
 *
 * They are there for an accident: what the disk does not take, or a power cut takes away, is missed
 * only when a blob is damaged as well.
 */
import { join } from 'node:path';
import { type FileLayer, readAll, withFile } from '../file-layer.ts';
import { JOURNAL_PREFIX } from './blob-names.ts';
import { decodeEntry, type Entry, encodeEntry } from './journal-entry.ts';

export class EntryCopies {
  readonly #files: FileLayer;
  readonly #directory: string;
  /** Names of those that are here; undefined when that has to be found out. */
  #kept: Set<string> | undefined;
  readonly #used = new Set<string>();

  /** @param path of the store */
  constructor(files: FileLayer, path: string) {
    this.#files = files;
    this.#directory = join(path, 'journal');
  }

  /** Names of damaged blobs in whose place a copy was read. */
  get used(): ReadonlySet<string> {
    return this.#used;
  }

  /** @returns what a damaged blob has said; undefined when nothing here tells */
  async find(name: string, damaged: Uint8Array): Promise<Entry | undefined> {
    const entry = await this.#read(name).catch(() => undefined);
    if (entry === undefined) return undefined;
    const rest = Buffer.from(damaged);
    if (!rest.includes(entry.owner.id) && !rest.includes(entry.nonce)) return undefined;
    this.#used.add(name);
    return entry;
  }

  /** Keeps these and no others. */
  async keep(entries: ReadonlyMap<string, Entry>): Promise<void> {
    const before = this.#kept;
    this.#kept = undefined;
    try {
      const kept = before ?? (await this.#clear());
      for (const name of [...kept].filter((other) => !entries.has(other))) {
        await this.#files.unlink(this.#pathOf(name));
        kept.delete(name);
      }
      for (const [name, entry] of entries) {
        if (kept.has(name)) continue;
        await this.#write(name, entry);
        kept.add(name);
      }
      this.#kept = kept;
    } catch {
      // The next time, from the start.
    }
  }

  /** What is here may be of another journal, or cut off. */
  async #clear(): Promise<Set<string>> {
    await this.#files.makeDirectory(this.#directory);
    const names = await this.#files.list(this.#directory);
    for (const name of names.filter((other) => other.startsWith(JOURNAL_PREFIX))) {
      await this.#files.unlink(this.#pathOf(name));
    }
    return new Set();
  }

  #write(name: string, entry: Entry): Promise<void> {
    const bytes = encodeEntry(entry);
    return withFile(this.#files.open(this.#pathOf(name), true), (file) =>
      file.write(bytes, bytes.length, 0, false),
    );
  }

  /** @returns undefined when it is damaged */
  async #read(name: string): Promise<Entry | undefined> {
    const bytes = await withFile(this.#files.open(this.#pathOf(name), false), readAll);
    return decodeEntry(bytes);
  }

  #pathOf(name: string): string {
    return join(this.#directory, name);
  }
}
