/** Files that are whole, and durable, whenever the power goes. */
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './directories.ts';

/** What has it is ours to overwrite: nobody else calls a file so. */
const TEMPORARY_SUFFIX = '.aoe-server.tmp';

export interface FileRights {
  /** Permission bits. */
  readonly mode: number;
  /** Undefined for the user that does it. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Replaces a file as a whole, durably: a crash leaves the old text or the new one under its name,
 * and beside it at most `<path>.aoe-server.tmp`. One replacement of a file may run at a time.
 *
 * @throws the file system's error: the old text is still there unless the very last step failed,
 * the sync of the directory
 */
export async function replaceFile(path: string, text: string, rights: FileRights): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const temporary = path + TEMPORARY_SUFFIX;
  const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    await fill(file, text, rights);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Closes `file` in any case. */
async function fill(file: FileHandle, text: string, { owner, mode }: FileRights): Promise<void> {
  try {
    if (owner !== undefined) await file.chown(owner.uid, owner.gid);
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
