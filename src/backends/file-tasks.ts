/** What the numbers mean that file tasks end with. */
import { getSystemErrorMap } from 'node:util';

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
