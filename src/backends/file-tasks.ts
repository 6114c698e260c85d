/** Work on files that may block, by threads that can wait. */
import { getSystemErrorMap } from 'node:util';
import { native } from '../native.ts';

/** One for each target that a server can have. */
const THREADS_MAX = 4096;

/** For what is seldom done, such as opening and closing: each that hangs keeps a thread of its own. */
export const seldomTasks = new native.FileTasks(THREADS_MAX);

/**
 * @param path what the error tells it is about
 * @returns the result of a file task
 * @throws the system's error, worded as by Node.js
 */
export async function resultOf(
  syscall: string,
  task: Promise<number>,
  path?: string,
): Promise<number> {
  const result = await task;
  if (result >= 0) return result;
  const [code, text] = getSystemErrorMap().get(result) ?? [`${result}`, 'unknown error'];
  const place = path === undefined ? '' : ` '${path}'`;
  const error = new Error(`${code}: ${text}, ${syscall}${place}`);
  throw Object.assign(error, { code, errno: result, syscall, path });
}

/**
 * Closes a file, with `flush` after it is durable, by a thread that can wait for it.
 *
 * @throws the system's error of the flush; the file is closed all the same
 */
export async function closeFile(fd: number, flush: boolean): Promise<void> {
  try {
    if (flush) await resultOf('fdatasync', seldomTasks.flush(fd));
  } finally {
    await resultOf('close', seldomTasks.close(fd));
  }
}
