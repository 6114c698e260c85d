/** Files that are whole, and durable, whenever the power goes. */
import { constants } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './directories.ts';

/**
 * Gives a file new content, for this user alone. One replacement of a file may run at a time; one
 * that is interrupted leaves a file beside it whose name ends in `.tmp`.
 *
 * @throws the file system's error: the file is whole, and is still the old one unless the very
 * last step failed, the sync of the directory
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}
