/** Files that are whole, and durable, whenever the power goes. */
import { constants } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './directories.ts';

const TEMPORARY_SUFFIX = '.tmp';

export interface FileRights {
  /** Permission bits. */
  readonly mode: number;
  /** Undefined for the user that does it. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Replaces a file as a whole, durably: a crash leaves the old text or the new one under its name,
 * and beside it at most `<path>.tmp`. One replacement of a file may run at a time.
 *
 * @throws the file system's error: the old text is still there unless the very last step failed,
 * the sync of the directory
 */
export async function replaceFile(path: string, text: string, rights: FileRights): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const temporary = path + TEMPORARY_SUFFIX;
  const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    if (rights.owner !== undefined) await file.chown(rights.owner.uid, rights.owner.gid);
    await file.chmod(rights.mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}
