/** Maps the keys of a TOML document to the lines they are written on. */
import { type KeyPath, scan } from './scanner.ts';

/** Line of a key, 1-based; of the nearest table around it if the key itself is not found. */
export type Locator = (path: KeyPath) => number;

export function createLocator(text: string): Locator {
  const lines = new Map<string, number>();
  for (const { path, line } of scan(text)) {
    for (let depth = path.length; depth > 0; depth -= 1) {
      const id = JSON.stringify(path.slice(0, depth));
      if (!lines.has(id)) lines.set(id, line);
    }
  }
  return (path) => {
    for (let depth = path.length; depth > 0; depth -= 1) {
      const line = lines.get(JSON.stringify(path.slice(0, depth)));
      if (line !== undefined) return line;
    }
    return 1;
  };
}
