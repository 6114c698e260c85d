import { randomFillSync } from 'node:crypto';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './process.ts';
import type { Workload } from './workloads.ts';

const MIB = 1 << 20;
const CHUNK_SIZE = 4 * MIB;

/** Together, whatever the number of targets: far beyond the processor's caches. */
const TMPFS_SIZE = 512 * MIB;
const DISK_SIZE = 1024 * MIB;
/** Larger, so that a run does not come round to what it has read before. */
const COLD_SIZE = 4096 * MIB;

/** Image files, filled with random bytes so that none has holes. One set exists at a time. */
export class Images {
  readonly #directories: Readonly<Record<Workload['storage'], string>>;
  #key = '';
  #paths: string[] = [];

  /** @param directories on the storage to measure; removing them is up to their owner */
  constructor(directories: Readonly<Record<Workload['storage'], string>>) {
    this.#directories = directories;
  }

  /** The images of a workload, one for each target; they stay until the next call. */
  async prepare(workload: Workload, signal: AbortSignal): Promise<readonly string[]> {
    const { storage, targets, cold } = workload;
    const totalSize = storage === 'tmpfs' ? TMPFS_SIZE : cold ? COLD_SIZE : DISK_SIZE;
    const key = `${storage} ${targets} ${totalSize}`;
    if (key === this.#key) return this.#paths;

    this.#key = '';
    for (const path of this.#paths) await rm(path, { force: true });
    this.#paths = Array.from({ length: targets }, (_, index) =>
      join(this.#directories[storage], `target-${index}.img`),
    );
    for (const path of this.#paths) await fill(path, totalSize / targets, signal);
    // Filling leaves pages of megabytes in the cache, in which newer kernels look for the changed
    // bits at length. No image that has been in use for a while is cached like that.
    if (storage === 'disk') await dropCaches();
    this.#key = key;
    return this.#paths;
  }
}

/** Empties the page cache of the machine. */
export async function dropCaches(): Promise<void> {
  await run('sync', []);
  await writeFile('/proc/sys/vm/drop_caches', '3');
}

async function fill(path: string, size: number, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'w');
  const chunk = randomFillSync(Buffer.allocUnsafe(CHUNK_SIZE));
  for (let offset = 0; offset < size; offset += CHUNK_SIZE) {
    signal.throwIfAborted();
    await file.write(chunk, 0, Math.min(CHUNK_SIZE, size - offset), offset);
  }
  await file.datasync();
}
