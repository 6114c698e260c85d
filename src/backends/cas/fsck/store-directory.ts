/** The files of a store, opened for reading and kept from being written meanwhile. */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { StartupError } from '../../../core/startup-error.ts';
import { lockFile } from '../../../lock-file.ts';

/** What the file `owner` says. */
interface Owner {
  readonly id?: string;
  readonly formerIds?: readonly string[];
  readonly isPartial?: boolean;
}

/** Where bytes of segments can be read. */
export interface SegmentSource {
  /** @returns fewer bytes than asked for where there are no more that can be read */
  readSegment(number: number, position: number, length: number): Promise<Buffer>;
  /** Is a part of a segment there and cannot be read? Not asked where that ends the examination. */
  isUnreadable?(number: number, position: number, length: number): Promise<boolean>;
}

export class StoreDirectory implements SegmentSource {
  readonly path: string;
  /** Holes may stand for frames that are in a blob store only. */
  readonly isPartial: boolean;
  /** A blob store has it, too. */
  readonly isReplica: boolean;
  /** The claims of the blob store that were made from this directory, the last first. */
  readonly claimIds: readonly string[];
  readonly #lock: FileHandle | undefined;
  #open: { readonly name: string; readonly handle: FileHandle } | undefined;

  private constructor(path: string, owner: Owner | undefined, lock: FileHandle | undefined) {
    this.path = path;
    this.isPartial = owner?.isPartial === true;
    this.isReplica = owner !== undefined;
    this.claimIds = [...(owner?.id === undefined ? [] : [owner.id]), ...(owner?.formerIds ?? [])];
    this.#lock = lock;
  }

  /** @throws {StartupError} it is no store, or in use */
  static async open(path: string): Promise<StoreDirectory> {
    const handle = await openIfThere(join(path, 'superblock'));
    if (handle === undefined) {
      throw new StartupError(
        `there is no store at ${path}`,
        'name the directory that targets have as blob_store.path',
      );
    }
    await handle.close();
    const lock = await openLock(join(path, 'lock'));
    if (lock !== undefined && !(await lockFile(lock))) {
      await lock.close();
      throw new StartupError(
        `the store ${path} is in use by another process`,
        'stop the server or command that has it open, or examine a copy',
      );
    }
    return new StoreDirectory(path, await readOwner(path), lock);
  }

  /** Numbers of the segment files, ascending. */
  async segmentNumbers(): Promise<number[]> {
    const names = await readdir(join(this.path, 'segments')).catch(() => []);
    return names
      .flatMap((name) => /^(\d{8,})\.seg$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** @returns fewer bytes than asked for at the end of the file, and where it cannot be read */
  async read(name: string, position: number, length: number): Promise<Buffer> {
    return (await this.#read(name, position, length)).bytes;
  }

  readSegment(number: number, position: number, length: number): Promise<Buffer> {
    return this.read(segmentPath(number), position, length);
  }

  /** Is a part of a segment one that the disk cannot read? */
  async isUnreadable(number: number, position: number, length: number): Promise<boolean> {
    return (await this.#read(segmentPath(number), position, length)).isUnreadable;
  }

  async close(): Promise<void> {
    await this.#open?.handle.close();
    await this.#lock?.close();
  }

  async #read(name: string, position: number, length: number) {
    const bytes = Buffer.alloc(length);
    let [done, isUnreadable] = [0, false];
    try {
      const handle = await this.#handleOf(name);
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, position + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // A disk that fails here and there is what this is for.
      isUnreadable = code === 'EIO';
      if (!isUnreadable && code !== 'ENOENT') throw error;
    }
    return { bytes: bytes.subarray(0, done), isUnreadable };
  }

  /** One file stays open: most reads are in the file of the read before. */
  async #handleOf(name: string): Promise<FileHandle> {
    if (this.#open?.name !== name) {
      await this.#open?.handle.close();
      this.#open = undefined;
      this.#open = { name, handle: await open(join(this.path, name), 'r') };
    }
    return this.#open.handle;
  }
}

function segmentPath(number: number): string {
  return join('segments', `${String(number).padStart(8, '0')}.seg`);
}

/** NFS gives an exclusive lock to writers only; who may not write reads. */
async function openLock(path: string): Promise<FileHandle | undefined> {
  return (await open(path, 'r+').catch(() => undefined)) ?? (await openIfThere(path));
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @returns undefined when the store is on this disk only */
async function readOwner(path: string): Promise<Owner | undefined> {
  const handle = await openIfThere(join(path, 'owner'));
  if (handle === undefined) return undefined;
  try {
    return JSON.parse(await handle.readFile('utf8')) as Owner;
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  } finally {
    await handle.close();
  }
}
