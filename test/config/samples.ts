import { parseConfig } from '../../src/config/load.ts';
import { ConfigError, type ConfigProblem } from '../../src/config/problem.ts';

/** The least [server] table: two lines, to which keys can be added. */
export const SERVER = '[server]\ninterface = "eth0"\n';

/** The least [[target]]: five lines, ending in its storage table. */
export const TARGET =
  '[[target]]\nshelf = 1\nslot = 0\nbackend = "memory"\nmemory.size = "64KiB"\n';

/** What is wrong with a text; nothing if it is a configuration. */
export function problemsOf(text: string): readonly ConfigProblem[] {
  try {
    parseConfig(text, '/etc/aoe.toml', {});
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}
