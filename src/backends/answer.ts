/** Asks storage whether it is there, on threads that can wait for it. */
import { constants } from 'node:fs';
import { seldomTasks } from './file-tasks.ts';

const { O_RDONLY, O_NONBLOCK } = constants;
/** Questions without an answer yet, by path: storage that hangs is asked once. */
const asked = new Map<string, Promise<void>>();

/**
 * Settles when what is at `path` can be opened, or when that fails: never while its storage hangs.
 *
 * @param flags for the opening, besides reading
 */
export function whenOpens(path: string, flags = 0): Promise<void> {
  const question = asked.get(path) ?? ask(path, flags).finally(() => asked.delete(path));
  asked.set(path, question);
  return question;
}

async function ask(path: string, flags: number): Promise<void> {
  const fd = await seldomTasks.open(path, O_RDONLY | O_NONBLOCK | flags, 0);
  if (fd >= 0) await seldomTasks.close(fd);
}
