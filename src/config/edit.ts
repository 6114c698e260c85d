/**
 * Changes targets in the text of a configuration file: what is not changed keeps its layout and
 * its comments.
 *
 * Every change is checked: the new text must say what the old one says, with the change. A text
 * that is written in a way that is not understood here is refused, never damaged.
 */
import { isDeepStrictEqual } from 'node:util';
import { parse, stringify, type TomlTable, type TomlValue } from 'smol-toml';
import { StartupError } from '../core/startup-error.ts';
import { valueAt } from './explain.ts';
import { formatKey } from './problem.ts';
import { type KeyPath, type Statement, scan } from './scanner.ts';
import { targetSchema } from './schema.ts';

/** A key of a target, from its table on, and the value that it gets. */
export interface Setting {
  readonly key: readonly string[];
  readonly value: TomlValue;
}

/** Appends a target with these keys. */
export function addTarget(text: string, settings: readonly Setting[]): string {
  const { target: targets = [], ...rest } = plain(text);
  const target: TomlTable = {};
  for (const setting of settings) assign(target, setting);
  const eol = lineEnd(text);
  const lines = [...writeTable(['target'], target, '[[target]]'), ''];
  const ended = text === '' || text.endsWith('\n') ? text : text + eol;
  return verified(`${ended}${lines.join(eol)}`, {
    ...rest,
    target: [...(targets as TomlValue[]), target],
  });
}

/** Takes out target `index`, 0-based, with the comments that stand right above and below it. */
export function removeTarget(text: string, index: number): string {
  const expected = plain(text);
  const targets = expected['target'] as TomlValue[];
  targets.splice(index, 1);
  if (targets.length === 0) delete expected['target'];
  const statements = [...scan(text)];
  const isInside = ({ path }: Statement) => startsWith(path, ['target', index]);
  let edited = text;
  // From the end, so that the offsets before stay right.
  for (let last = statements.length - 1; last >= 0; last--) {
    if (!isInside(statements[last] as Statement)) continue;
    let first = last;
    while (first > 0 && isInside(statements[first - 1] as Statement)) first--;
    const { start } = statements[first] as Statement;
    const { end } = statements[last] as Statement;
    edited = cutLines(edited, start, end);
    last = first;
  }
  return verified(edited, expected);
}

/** Sets keys of target `index`, 0-based. */
export function setKeys(text: string, index: number, settings: readonly Setting[]): string {
  const expected = plain(text);
  let edited = text;
  for (const { key, value } of settings) {
    edited = setKey(edited, ['target', index, ...key], value);
    assign((expected['target'] as TomlTable[])[index] as TomlTable, { key, value });
  }
  return verified(edited, expected);
}

/**
 * Takes keys out of target `index`, 0-based.
 *
 * @throws {StartupError} one is not there, or is a table
 */
export function unsetKeys(
  text: string,
  index: number,
  keys: readonly (readonly string[])[],
): string {
  const expected = plain(text);
  let edited = text;
  for (const key of keys) {
    const value = valueAt(plain(edited), ['target', index, ...key]) as TomlValue | undefined;
    if (value === undefined || isTable(value)) throw notUnset(key.join('.'), value);
    edited = unsetKey(edited, ['target', index, ...key]);
    const table = valueAt(expected, ['target', index, ...key.slice(0, -1)]) as TomlTable;
    delete table[key.at(-1) as string];
  }
  return verified(edited, expected);
}

/**
 * Chooses what `text` means as the value of a key: as TOML, as it is, or as a list with commas,
 * whichever the key can have.
 *
 * @param target all that is known of the target's keys
 */
export function readValue(target: object, key: readonly string[], text: string): TomlValue {
  const readings = [readToml(text), text, text.split(',')].filter((value) => value !== undefined);
  const isPossible = (value: TomlValue) => {
    const tried = structuredClone(target) as TomlTable;
    assign(tried, { key, value });
    const issues = targetSchema.safeParse(tried).error?.issues ?? [];
    return !issues.some(({ path }) => startsWith(path as KeyPath, key));
  };
  return readings.find(isPossible) ?? text;
}

function readToml(text: string): TomlValue | undefined {
  try {
    const { value, ...others } = parse(`value = ${text}`);
    return Object.keys(others).length === 0 ? value : undefined;
  } catch {
    return undefined;
  }
}

function setKey(text: string, path: KeyPath, value: TomlValue): string {
  const statements = [...scan(text)];
  const assignment = statements.find(({ kind, path: at }) => {
    return kind === 'key' && startsWith(path, at);
  });
  if (assignment !== undefined) {
    const { path: at, valueStart, end } = assignment;
    const inner = path.slice(at.length) as string[];
    const whole = inner.length === 0 ? value : { ...(valueAt(plain(text), at) as TomlTable) };
    if (inner.length > 0) assign(whole as TomlTable, { key: inner, value });
    return text.slice(0, valueStart) + writeValue(whole) + text.slice(end);
  }
  const parent = path.slice(0, -1);
  const header = statements.findIndex(({ kind, path: at }) => {
    return kind !== 'key' && isDeepStrictEqual(at, parent);
  });
  const sibling = statements.findLast(({ kind, path: at }) => {
    return kind === 'key' && startsWith(at, parent);
  });
  if (header >= 0) {
    let last = header;
    while (statements[last + 1]?.kind === 'key') last++;
    return insertLines(text, statements[last] as Statement, [writeKey(path.slice(-1), value)]);
  }
  if (sibling !== undefined) {
    const relative = path.slice(sibling.table.length);
    return insertLines(text, sibling, [writeKey(relative, value)]);
  }
  const last = statements.findLast(({ path: at }) => startsWith(at, path.slice(0, 2)));
  const lines = writeTable(parent, { [path.at(-1) as string]: value });
  return insertLines(text, last as Statement, lines);
}

function unsetKey(text: string, path: KeyPath): string {
  const assignment = [...scan(text)].find(({ kind, path: at }) => {
    return kind === 'key' && startsWith(path, at);
  });
  // Written where it is not understood: the text stays, and is found not to have changed.
  if (assignment === undefined) return text;
  const { path: at, start, valueStart, end } = assignment;
  const inner = path.slice(at.length) as string[];
  if (inner.length === 0)
    return text.slice(0, startOfLine(text, start)) + text.slice(endOfLine(text, end));
  const whole = valueAt(plain(text), at) as TomlTable;
  delete (valueAt(whole, inner.slice(0, -1)) as TomlTable)[inner.at(-1) as string];
  return text.slice(0, valueStart) + writeValue(whole) + text.slice(end);
}

function notUnset(key: string, value: TomlValue | undefined): StartupError {
  return value === undefined
    ? new StartupError(`${key} is not set`, 'see what the file says of the target')
    : new StartupError(
        `${key} is a table`,
        `name the keys in it, such as ${key}.${Object.keys(value)[0]}`,
      );
}

/** Writes lines behind the line on which `statement` ends, as far to the right as it is. */
function insertLines(text: string, statement: Statement, lines: readonly string[]): string {
  const eol = lineEnd(text);
  const [indent] = /^[ \t]*/.exec(text.slice(startOfLine(text, statement.start))) ?? [''];
  const at = endOfLine(text, statement.end);
  const before = text.slice(0, at);
  const inserted = lines.map((line) => (line === '' ? eol : indent + line + eol)).join('');
  return before + (before.endsWith('\n') ? '' : eol) + inserted + text.slice(at);
}

/** Comments below, when an empty line or the end follows, and the empty lines then. */
const TRAILER = /^(?:(?:[ \t]*#.*(?:\n|$))+(?=[ \t]*(?:\r?\n|$)))?(?:[ \t]*\r?\n)*/;
/** Comments above, when there is an empty line or nothing before them. */
const PREAMBLE = /(?<=^|\n[ \t]*\r?\n)(?:[ \t]*#.*\n)+$/;

/** Cuts the lines from `start` to `end`, with the comments and empty lines that are theirs. */
function cutLines(text: string, start: number, end: number): string {
  const before = text.slice(0, startOfLine(text, start)).replace(PREAMBLE, '');
  const rest = text.slice(endOfLine(text, end)).replace(TRAILER, '');
  return rest === '' ? before.replace(/(?:\r?\n[ \t]*)+$/, lineEnd(text)) : before + rest;
}

/** Lines of a table: an empty one, its header, its keys, and the tables in it. */
function writeTable(path: KeyPath, table: TomlTable, header?: string): string[] {
  const names = path.filter((part) => typeof part === 'string');
  const entries = Object.entries(table);
  const lines = entries.filter(([, value]) => !isTable(value));
  const tables = entries.filter(([, value]) => isTable(value));
  return [
    '',
    header ?? `[${formatKey(names)}]`,
    ...lines.map(([name, value]) => writeKey([name], value)),
    ...tables.flatMap(([name, value]) => writeTable([...path, name], value as TomlTable)),
  ];
}

function writeKey(path: KeyPath, value: TomlValue): string {
  return `${formatKey(path)} = ${writeValue(value)}`;
}

/** On one line. */
function writeValue(value: TomlValue): string {
  if (isTable(value)) {
    const entries = Object.entries(value).map(([name, inner]) => writeKey([name], inner));
    return `{ ${entries.join(', ')} }`;
  }
  return stringify({ value }).slice('value = '.length).trimEnd();
}

function isTable(value: TomlValue): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
}

function assign(table: TomlTable, { key, value }: Setting): void {
  const [name, ...rest] = key as [string, ...string[]];
  if (rest.length === 0) {
    table[name] = value;
    return;
  }
  const inner = table[name];
  table[name] = inner !== undefined && isTable(inner) ? { ...inner } : {};
  assign(table[name] as TomlTable, { key: rest, value });
}

/** The document of a text, comparable with another one. */
function plain(text: string): TomlTable {
  return structuredClone(parse(text));
}

/** @throws {StartupError} `text` does not say what it should */
function verified(text: string, expected: TomlTable): string {
  let isRight = false;
  try {
    isRight = isDeepStrictEqual(plain(text), structuredClone(expected));
  } catch {
    // It is not TOML any more.
  }
  if (isRight) return text;
  throw new StartupError(
    'the configuration file is written in a way that this program cannot edit',
    'edit it by hand, and let the server follow with: aoe-server reload',
  );
}

function startsWith(path: KeyPath, prefix: KeyPath): boolean {
  return prefix.every((part, index) => path[index] === part);
}

function lineEnd(text: string): string {
  return text.includes('\r\n') ? '\r\n' : '\n';
}

function startOfLine(text: string, offset: number): number {
  return text.lastIndexOf('\n', offset - 1) + 1;
}

function endOfLine(text: string, offset: number): number {
  const at = text.indexOf('\n', offset);
  return at < 0 ? text.length : at + 1;
}
