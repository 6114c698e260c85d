/**
 * Maps the keys of a TOML document to the lines they are written on.
 *
 * The TOML parser reports lines for syntax errors only, and what is wrong with a configuration is
 * mostly its values. This scanner reads just enough TOML to follow table headers and keys; it
 * takes any text, and on text that is not TOML its answers are merely useless.
 */

/** Keys and 0-based indices from the root of the document: `['target', 1, 'file', 'size']`. */
export type KeyPath = readonly (string | number)[];

/** Line of a key, 1-based; of the nearest table around it if the key itself is not found. */
export type Locator = (path: KeyPath) => number;

// Multi-line strings first. Every alternative accepts an unterminated string, and none can match
// the same text in two ways, so scanning is linear.
const TOKEN = new RegExp(
  [
    '"""(?:\\\\[^]|(?!""")[^\\\\])*(?:"{3,5})?',
    "'''(?:(?!''')[^])*(?:'{3,5})?",
    '"(?:\\\\.|[^"\\\\\\n])*"?',
    "'[^'\\n]*'?",
    '#.*',
    '[\\n[\\]{}=.,]',
    '[^\\s"\'#[\\]{}=.,]+',
  ].join('|'),
  'g',
);

export function createLocator(text: string): Locator {
  const lines = new Map<string, number>();
  const note = (path: KeyPath, line: number) => {
    for (let depth = path.length; depth > 0; depth -= 1) {
      const id = JSON.stringify(path.slice(0, depth));
      if (!lines.has(id)) lines.set(id, line);
    }
  };
  const tables = new TablePaths();
  for (const statement of statements(text)) {
    const path =
      statement.kind === 'key'
        ? [...tables.current, ...statement.keys]
        : tables.open(statement.keys, statement.kind === 'array');
    note(path, statement.line);
  }
  return (path) => {
    for (let depth = path.length; depth > 0; depth -= 1) {
      const line = lines.get(JSON.stringify(path.slice(0, depth)));
      if (line !== undefined) return line;
    }
    return 1;
  };
}

/** Follows the table headers of a document, counting the elements of arrays of tables. */
class TablePaths {
  current: KeyPath = [];
  readonly #elementCounts = new Map<string, number>();

  /** Enters `[keys]` or, for an array's next element, `[[keys]]`. */
  open(keys: readonly string[], isArray: boolean): KeyPath {
    const path: (string | number)[] = [];
    keys.forEach((key, index) => {
      path.push(key);
      const id = JSON.stringify(path);
      const isNew = isArray && index === keys.length - 1;
      const elementCount = (this.#elementCounts.get(id) ?? 0) + (isNew ? 1 : 0);
      if (elementCount === 0) return;
      this.#elementCounts.set(id, elementCount);
      path.push(elementCount - 1);
    });
    this.current = path;
    return path;
  }
}

interface Statement {
  readonly kind: 'table' | 'array' | 'key';
  readonly keys: readonly string[];
  readonly line: number;
}

/** Table headers and assignments in order; values and comments are skipped. */
function* statements(text: string): Generator<Statement> {
  let line = 1;
  let keys: string[] = [];
  let brackets = 0;
  let inValue = false;
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '\n') {
      if (!inValue || brackets <= 0) {
        keys = [];
        brackets = 0;
        inValue = false;
      }
    } else if (token === '[' || (inValue && token === '{')) {
      brackets += 1;
    } else if (inValue) {
      if (token === ']' || token === '}') brackets -= 1;
    } else if (token === '=') {
      yield { kind: 'key', keys, line };
      inValue = true;
    } else if (token === ']') {
      if (keys.length > 0) yield { kind: brackets > 1 ? 'array' : 'table', keys, line };
      keys = [];
    } else if (token !== '.' && !token.startsWith('#')) {
      keys.push(unquote(token));
    }
    line += countNewlines(token);
  }
}

function unquote(key: string): string {
  if (key.startsWith("'")) return key.slice(1, -1);
  if (!key.startsWith('"')) return key;
  try {
    return JSON.parse(key) as string;
  } catch {
    return key.slice(1, -1); // an escape that only TOML has
  }
}

function countNewlines(token: string): number {
  return token.split('\n').length - 1;
}
