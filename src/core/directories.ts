/** Directories whose entries survive a power cut. */
import { mkdir, open, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/**
 * Creates a directory with its parents, for this user alone; none of it need be new. All entries
 * that were made are durable afterwards.
 */
export async function makeDirectory(path: string): Promise<void> {
  const whole = resolve(path);
  const parent = dirname(whole);
  try {
    if (!(await makeOne(whole))) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await makeDirectory(parent);
    // Once only, unlike a recursive mkdir: /proc says so of whatever one would make there.
    await makeOne(whole);
  }
  await syncDirectory(parent);
}

/** @returns whether it is new */
async function makeOne(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 });
    return true;
  } catch (error) {
    const isThere = await stat(path)
      .then((found) => found.isDirectory())
      .catch(() => false);
    if (isThere) return false;
    throw error;
  }
}

/** Makes creations, renames and removals in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
