/**
 * Finds the table headers and assignments of a TOML document in its text.
 *
 * The TOML parser reports places for syntax errors only, and keeps neither comments nor layout.
 * This scanner reads just enough TOML to follow headers and keys; it takes any text, and on text
 * that is not TOML its answers are merely useless.
 */

/** Keys and 0-based indices from the root of the document: `['target', 1, 'file', 'size']`. */
export type KeyPath = readonly (string | number)[];

/** A header or an assignment. Offsets are in UTF-16 units from the start of the text. */
export interface Statement {
  readonly kind: 'table' | 'array' | 'key';
  /** What it opens, or assigns to. */
  readonly path: KeyPath;
  /** The table around it; a header's own. */
  readonly table: KeyPath;
  /** 1-based. */
  readonly line: number;
  readonly start: number;
  /** Where the value starts; for headers as `end`. */
  readonly valueStart: number;
  /** Behind its last token; comments are not part of it. */
  readonly end: number;
}

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

/** Table headers and assignments in order. */
export function* scan(text: string): Generator<Statement> {
  const tables = new TablePaths();
  for (const { keys, ...statement } of statements(text)) {
    const { kind } = statement;
    const path =
      kind === 'key' ? [...tables.current, ...keys] : tables.open(keys, kind === 'array');
    yield { ...statement, path, table: tables.current };
  }
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

type Draft = { -readonly [K in Exclude<keyof Statement, 'path' | 'table'>]: Statement[K] } & {
  readonly keys: readonly string[];
};

function* statements(text: string): Generator<Draft> {
  let line = 1;
  let keys: string[] = [];
  let start = 0;
  let brackets = 0;
  /** The assignment whose value is being read. */
  let assignment: Draft | undefined;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const end = index + token.length;
    if (keys.length === 0 && brackets <= 0) start = index;
    if (token === '\n') {
      if (assignment === undefined || brackets <= 0) {
        if (assignment !== undefined) yield assignment;
        keys = [];
        brackets = 0;
        assignment = undefined;
      }
    } else if (token.startsWith('#')) {
      // Not a part of anything.
    } else if (assignment !== undefined) {
      if (token === '[' || token === '{') brackets += 1;
      if (token === ']' || token === '}') brackets -= 1;
      if (assignment.valueStart === assignment.end) assignment.valueStart = index;
      assignment.end = end;
    } else if (token === '[') {
      brackets += 1;
    } else if (token === '=') {
      assignment = { kind: 'key', keys, line, start, valueStart: end, end };
    } else if (token === ']') {
      const kind = brackets > 1 ? 'array' : 'table';
      if (keys.length > 0) yield { kind, keys, line, start, valueStart: end, end };
      keys = [];
    } else if (token !== '.') {
      keys.push(unquote(token));
    }
    line += countNewlines(token);
  }
  if (assignment !== undefined) yield assignment;
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
