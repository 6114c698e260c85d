/**
 * All file access of the store goes through here, so that tests can put a disk in its place that
 * loses power at any moment.
 *
 * What the store relies on: bytes are durable after a sync that started after they were written;
 * names are durable after a sync of their directory; a rename replaces at once or not at all.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rename, statfs, unlink } from 'node:fs/promises';
import { getSystemErrorName } from 'node:util';
import { makeDirectory, syncDirectory } from '../../core/directories.ts';
import { native } from '../../native.ts';

/** An open file. */
export interface StoreFile {
  /** What {@link CasEngine.attach} takes: a descriptor, or memory that is the file. */
  readonly source: number | Uint8Array;
  /** @returns bytes read, fewer than asked for only at the end of the file */
  read(bytes: Uint8Array, position: number): Promise<number>;
  /** Writes the first `length` bytes; with `sync` they are durable afterwards. */
  write(bytes: Uint8Array, length: number, position: number, sync: boolean): Promise<void>;
  sync(): Promise<void>;
  /** @returns the length of the file in bytes */
  size(): Promise<number>;
  /** Reserves room, so that writing there cannot run out of space; the file has this size then. */
  allocate(sizeBytes: number): Promise<void>;
  /** Gives the room of a range back to the disk: it reads as zeroes then. */
  punch(position: number, length: number): Promise<void>;
  /** @returns how many bytes of a range take room on the disk; those only reserved may not count */
  dataBytes(position: number, length: number): Promise<number>;
  close(): Promise<void>;
}

export interface FileLayer {
  /** Creates a directory with its parents; none of it need be new. */
  makeDirectory(path: string): Promise<void>;
  /** Names in a directory, in no particular order. */
  list(path: string): Promise<string[]>;
  /** @throws ENOENT when the file is missing and not to be created */
  open(path: string, create: boolean): Promise<StoreFile>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Makes creations, renames and removals in a directory durable. */
  syncDirectory(path: string): Promise<void>;
  /** @returns room for more files in a directory, in bytes */
  freeBytes(path: string): Promise<number>;
  /**
   * Keeps other processes out.
   *
   * @param note what they are told meanwhile
   * @returns a function that gives the lock back, or the note of the process that has it
   */
  lock(path: string, note: string): Promise<(() => void) | string>;
}

/** Opens a file, works on it and closes it, whatever comes of the work. */
export async function withFile<T>(
  opening: Promise<StoreFile>,
  work: (file: StoreFile) => Promise<T>,
): Promise<T> {
  const file = await opening;
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;

/** The files of the host. Never through a link, which the store's user could have put there. */
export const hostFiles: FileLayer = {
  makeDirectory,
  list: (path) => readdir(path),
  async open(path, create) {
    const flags = O_RDWR | O_NOFOLLOW | (create ? O_CREAT : 0);
    return new HostFile(await open(path, flags, 0o600));
  },
  rename,
  unlink,
  syncDirectory,
  async freeBytes(path) {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
  async lock(path, note) {
    const handle = await open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
    if (!native.lockFile(handle.fd)) {
      return await handle.readFile('utf8').finally(() => handle.close());
    }
    // A full disk is no reason not to open the store.
    await handle.truncate().catch(() => {});
    await handle.appendFile(note).catch(() => {});
    return () => {
      handle.close().catch(() => {});
    };
  },
};

class HostFile implements StoreFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  get source(): number {
    return this.#handle.fd;
  }

  async read(bytes: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesRead } = await this.#handle.read(
        bytes,
        done,
        bytes.length - done,
        position + done,
      );
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(bytes: Uint8Array, length: number, position: number, sync: boolean): Promise<void> {
    requireSuccess(await native.casWrite(this.#handle.fd, bytes, length, position, sync), 'write');
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size;
  }

  async allocate(sizeBytes: number): Promise<void> {
    requireSuccess(await native.casAllocate(this.#handle.fd, sizeBytes), 'fallocate');
  }

  async punch(position: number, length: number): Promise<void> {
    requireSuccess(await native.casPunch(this.#handle.fd, position, length), 'fallocate');
  }

  dataBytes(position: number, length: number): Promise<number> {
    return native.casDataBytes(this.#handle.fd, position, length);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

function requireSuccess(errno: number, syscall: string): void {
  if (errno === 0) return;
  const code = getSystemErrorName(-errno);
  throw Object.assign(new Error(`${syscall}: ${code}`), { code, errno, syscall });
}
