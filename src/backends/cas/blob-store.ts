/**
 * Immutable, uniquely named blobs: what a store needs of an object store to be kept there as well.
 * A name is written once and never changed.
 */
import { StartupError } from '../../core/startup-error.ts';

export interface BlobInfo {
  readonly name: string;
  readonly sizeBytes: number;
}

export interface BlobStore {
  /**
   * Stores a blob durably, whole or not at all.
   *
   * @param isUnique nobody else ever uses this name: it need not be seen whether it is taken
   * @throws {BlobExistsError} the name is taken
   * @throws {BlobConditionError} the service cannot create what is not there only
   */
  put(name: string, bytes: Uint8Array, isUnique?: boolean): Promise<void>;
  /**
   * Reads `length` bytes from byte `offset` on.
   *
   * @returns the bytes, fewer only at the end of the blob
   * @throws {BlobMissingError}
   */
  getRange(name: string, offset: number, length: number): Promise<Uint8Array>;
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

/** The service says that it cannot refuse to create what is there already. Nothing was done. */
export class BlobConditionError extends Error {
  readonly code = 'AOE_BLOB_CONDITION';

  constructor(name: string) {
    super(`${name} cannot be created: the service knows no condition for that`);
    this.name = 'BlobConditionError';
  }
}

export class BlobMissingError extends Error {
  readonly code = 'AOE_BLOB_MISSING';

  constructor(name: string) {
    super(`there is no blob ${name}`);
    this.name = 'BlobMissingError';
  }
}

/** Because of the service, or of this disk, a blob cannot be had now; it may be later. */
export class BlobUnreachableError extends Error {
  readonly code = 'AOE_BLOB_UNREACHABLE';

  constructor(name: string, cause: Error) {
    super(`${name} cannot be read: ${cause.message}`, { cause });
    this.name = 'BlobUnreachableError';
  }
}

/** The blob store of a store that is kept on this disk alone was asked for. */
export function noBlobStore(path: string): StartupError {
  return new StartupError(
    `the store ${path} is in no blob store`,
    'leave out --remote: all of it is on this disk',
  );
}
