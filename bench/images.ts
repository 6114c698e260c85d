import { randomFillSync } from 'node:crypto';
import { writeSync } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './process.ts';
import type { Workload } from './workloads.ts';

const MIB = 1 << 20;
/**
 * Pages of the cache are as large as the writes that made them. In those of megabytes, as in no image
 * that has been in use for a while, newer kernels look for the changed bits at length.
 */
const CACHED_CHUNK_SIZE = 4096;
const COLD_CHUNK_SIZE = 4 * MIB;

/** Together, whatever the number of targets: far beyond the processor's caches. */
const TMPFS_SIZE = 512 * MIB;
const DISK_SIZE = 1024 * MIB;
/** Larger, so that a run does not come round to what it has read before. */
const COLD_SIZE = 4096 * MIB;

/**
 * Image files, filled with random bytes so that none has holes. Those of one shape exist at a time:
 * a set for each server, because a server locks what it serves.
 */
export class Images {
  readonly #directories: Readonly<Record<Workload['storage'], string>>;
  #shape = '';
  readonly #sets = new Map<string, readonly string[]>();

  /** @param directories on the storage to measure; removing them is up to their owner */
  constructor(directories: Readonly<Record<Workload['storage'], string>>) {
    this.#directories = directories;
  }

  /**
   * The images of a workload, one for each target; they stay until another shape is asked for.
   *
   * @param owner names the server
   */
  async prepare(
    workload: Workload,
    owner: string,
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    const { storage, targets, cold } = workload;
    const totalSize = storage === 'tmpfs' ? TMPFS_SIZE : cold ? COLD_SIZE : DISK_SIZE;
    const shape = `${storage} ${targets} ${totalSize}`;
    if (shape !== this.#shape) await this.#clear();
    this.#shape = shape;
    const known = this.#sets.get(owner);
    if (known !== undefined) return known;

    const paths = Array.from({ length: targets }, (_, index) =>
      join(this.#directories[storage], `${owner}-${index}.img`),
    );
    for (const path of paths) await fill(path, totalSize / targets, cold, signal);
    this.#sets.set(owner, paths);
    return paths;
  }

  async #clear(): Promise<void> {
    for (const path of [...this.#sets.values()].flat()) await rm(path, { force: true });
    this.#sets.clear();
  }
}

/** Empties the page cache of the machine. */
export async function dropCaches(): Promise<void> {
  await run('sync', []);
  await writeFile('/proc/sys/vm/drop_caches', '3');
}

async function fill(path: string, size: number, cold: boolean, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'w');
  const content = randomFillSync(Buffer.allocUnsafe(COLD_CHUNK_SIZE));
  const chunkSize = cold ? COLD_CHUNK_SIZE : CACHED_CHUNK_SIZE;
  for (let offset = 0; offset < size; offset += chunkSize) {
    signal.throwIfAborted();
    writeSync(file.fd, content, offset % COLD_CHUNK_SIZE, chunkSize, offset);
  }
  await file.datasync();
}
