/**
 * Immutable, uniquely named blobs: what a store needs of an object store to keep sealed segments
 * and catalogs in it. A name is written once and never changed.
 */
import { join } from 'node:path';
import type { FileLayer } from './file-layer.ts';

export interface BlobInfo {
  readonly name: string;
  readonly sizeBytes: number;
}

export interface BlobStore {
  /**
   * Stores a blob durably, whole or not at all.
   *
   * @throws {BlobExistsError} the name is taken
   */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** @returns the bytes, fewer only at the end of the blob. @throws {BlobMissingError} */
  getRange(name: string, offset: number, length: number): Promise<Uint8Array>;
  /** @returns undefined when there is none */
  head(name: string): Promise<BlobInfo | undefined>;
  /** Blobs whose names start with `prefix`, in the order of their names. */
  list(prefix: string): AsyncIterable<BlobInfo>;
  /** Removes a blob; one that is not there is no error. */
  delete(name: string): Promise<void>;
}

export class BlobExistsError extends Error {
  readonly code = 'AOE_BLOB_EXISTS';

  constructor(name: string) {
    super(`there is a blob ${name} already`);
    this.name = 'BlobExistsError';
  }
}

export class BlobMissingError extends Error {
  readonly code = 'AOE_BLOB_MISSING';

  constructor(name: string) {
    super(`there is no blob ${name}`);
    this.name = 'BlobMissingError';
  }
}

/** The blob store could not be asked; it may answer later. */
export class BlobUnreachableError extends Error {
  readonly code = 'AOE_BLOB_UNREACHABLE';

  constructor(name: string, cause: Error) {
    super(`${name} cannot be read: ${cause.message}`, { cause });
    this.name = 'BlobUnreachableError';
  }
}

/** Blobs as files of one directory, for a single writer. Names must be plain file names. */
export class FileBlobStore implements BlobStore {
  readonly #files: FileLayer;
  readonly #directory: string;

  constructor(files: FileLayer, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#files.makeDirectory(this.#directory);
    if ((await this.#names()).includes(name)) throw new BlobExistsError(name);
    const partial = join(this.#directory, `${name}${PARTIAL}`);
    const file = await this.#files.open(partial, true);
    try {
      await file.write(bytes, bytes.length, 0, true);
    } finally {
      await file.close();
    }
    await this.#files.rename(partial, join(this.#directory, name));
    await this.#files.syncDirectory(this.#directory);
  }

  async getRange(name: string, offset: number, length: number): Promise<Uint8Array> {
    const file = await this.#open(name);
    try {
      const sizeBytes = await file.size();
      const bytes = new Uint8Array(Math.max(0, Math.min(length, sizeBytes - offset)));
      return bytes.subarray(0, await file.read(bytes, offset));
    } finally {
      await file.close();
    }
  }

  async head(name: string): Promise<BlobInfo | undefined> {
    try {
      const file = await this.#open(name);
      const sizeBytes = await file.size();
      await file.close();
      return { name, sizeBytes };
    } catch (error) {
      if (error instanceof BlobMissingError) return undefined;
      throw error;
    }
  }

  async *list(prefix: string): AsyncIterable<BlobInfo> {
    for (const name of (await this.#names()).sort()) {
      if (!name.startsWith(prefix)) continue;
      const info = await this.head(name);
      if (info !== undefined) yield info;
    }
  }

  async delete(name: string): Promise<void> {
    try {
      await this.#files.unlink(join(this.#directory, name));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    await this.#files.syncDirectory(this.#directory);
  }

  async #names(): Promise<string[]> {
    const names = await this.#files.list(this.#directory);
    return names.filter((name) => !name.endsWith(PARTIAL));
  }

  async #open(name: string) {
    try {
      return await this.#files.open(join(this.#directory, name), false);
    } catch (error) {
      if (isMissing(error)) throw new BlobMissingError(name);
      throw error;
    }
  }
}

const PARTIAL = '.partial';

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
