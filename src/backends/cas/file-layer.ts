/**
 * All file access of the store goes through here, so that tests can put a disk in its place that
 * loses power at any moment.
 *
 * What the store relies on: bytes are durable after a sync that started after they were written;
 * names are durable after a sync of their directory; a rename replaces at once or not at all.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { makeDirectory } from '../../core/directories.ts';
import { lockFile } from '../../lock-file.ts';
import { type FileTasks, native } from '../../native.ts';
import { resultOf } from '../file-tasks.ts';

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
  lock(path: string, note: string): Promise<(() => Promise<void>) | string>;
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

export async function readAll(file: StoreFile): Promise<Uint8Array> {
  const bytes = new Uint8Array(await file.size());
  await file.read(bytes, 0);
  return bytes;
}

/** For what need not be there. */
export function ifMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

const { O_RDWR, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;

/** Writes wait for one another, but not for what prepares and removes files beside them. */
const THREADS_MAX = 8;

/**
 * The files of the host, for one store: what hangs there hangs by itself. Never through a link,
 * which the store's user could have put there.
 */
export function hostFiles(): FileLayer {
  const tasks = new native.FileTasks(THREADS_MAX);
  return {
    makeDirectory,
    list: (path) => readdir(path),
    async open(path, create) {
      const flags = O_RDWR | O_NOFOLLOW | (create ? O_CREAT : 0);
      return new HostFile(tasks, await resultOf('open', tasks.open(path, flags, 0o600), path));
    },
    async rename(from, to) {
      await resultOf('rename', tasks.rename(from, to), to);
    },
    async unlink(path) {
      await resultOf('unlink', tasks.unlink(path), path);
    },
    async syncDirectory(path) {
      await resultOf('fsync', tasks.flushDirectory(path), path);
    },
    freeBytes: (path) => resultOf('statfs', tasks.freeBytes(path), path),
    lock,
  };
}

async function lock(path: string, note: string): Promise<(() => Promise<void>) | string> {
  const handle = await open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
  if (!(await lockFile(handle))) {
    return await handle.readFile('utf8').finally(() => handle.close());
  }
  // A full disk is no reason not to open the store.
  await handle.truncate().catch(() => {});
  await handle.appendFile(note).catch(() => {});
  return () => handle.close().catch(() => {});
}

class HostFile implements StoreFile {
  readonly #tasks: FileTasks;
  #fd: number;
  /** What closing waits for: its descriptor may be given to another file then. */
  readonly #inFlight = new Set<Promise<number>>();

  constructor(tasks: FileTasks, fd: number) {
    this.#tasks = tasks;
    this.#fd = fd;
  }

  get source(): number {
    return this.#fd;
  }

  read(bytes: Uint8Array, position: number): Promise<number> {
    return this.#run('read', this.#tasks.read(this.#fd, bytes, position));
  }

  async write(bytes: Uint8Array, length: number, position: number, sync: boolean): Promise<void> {
    await this.#run('write', this.#tasks.write(this.#fd, bytes, length, position, sync));
  }

  async sync(): Promise<void> {
    await this.#run('fdatasync', this.#tasks.flush(this.#fd));
  }

  size(): Promise<number> {
    return this.#run('fstat', this.#tasks.size(this.#fd));
  }

  async allocate(sizeBytes: number): Promise<void> {
    await this.#run('fallocate', this.#tasks.allocate(this.#fd, sizeBytes));
  }

  async punch(position: number, length: number): Promise<void> {
    await this.#run('fallocate', this.#tasks.punch(this.#fd, position, length));
  }

  dataBytes(position: number, length: number): Promise<number> {
    return this.#run('lseek', this.#tasks.dataBytes(this.#fd, position, length));
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    if (fd < 0) return;
    this.#fd = -1;
    await Promise.all(this.#inFlight);
    await resultOf('close', this.#tasks.close(fd));
  }

  #run(syscall: string, task: Promise<number>): Promise<number> {
    this.#inFlight.add(task);
    return resultOf(syscall, task).finally(() => this.#inFlight.delete(task));
  }
}
