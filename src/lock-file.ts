import type { FileHandle } from 'node:fs/promises';
import { native } from './native.ts';

/**
 * Takes an exclusive lock on an open file, which is closed when that fails.
 *
 * @returns false when another process holds it
 * @throws the system's error, as on a file system that cannot lock
 */
export async function lockFile(file: FileHandle): Promise<boolean> {
  try {
    return native.lockFile(file.fd);
  } catch (error) {
    await file.close();
    throw error;
  }
}
