import { type FileHandle, stat } from 'node:fs/promises';

/**
 * Does a name still lead to a file that was opened by it? Until the file was locked, whoever had the
 * lock before may have removed or renamed it.
 */
export async function leadsTo(path: string, file: FileHandle): Promise<boolean> {
  const [own, there] = await Promise.all([file.stat(), stat(path).catch(() => undefined)]);
  return own.dev === there?.dev && own.ino === there.ino;
}
