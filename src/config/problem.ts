import { closest, distance } from 'fastest-levenshtein';
import type { KeyPath } from './scanner.ts';

/** What a check found: the key, what is wrong with it, and what to do. */
export interface Finding {
  readonly path: KeyPath;
  /** Continues the sentence "<key> = <value> ...": `must be a whole number from 0 to 254`. */
  readonly message: string;
  /** A sentence that tells the operator what to write. */
  readonly remedy: string;
}

/** A finding with its place in the file. */
export interface ConfigProblem {
  /** 1-based; undefined when the file could not be read at all. */
  readonly line: number | undefined;
  /** Where in the document: `target[1].file.size`, or '' for the whole of it. */
  readonly key: string;
  /** What is written there; undefined for a missing key. */
  readonly value: unknown;
  readonly message: string;
  readonly remedy: string;
}

/** A configuration that cannot be used; carries everything that is wrong with it. */
export class ConfigError extends Error {
  readonly code = 'AOE_CONFIG' as const;
  readonly path: string;
  readonly problems: readonly ConfigProblem[];

  constructor(path: string, problems: readonly ConfigProblem[], options?: ErrorOptions) {
    super(problems.map((problem) => formatProblem(path, problem)).join('\n'), options);
    this.name = 'ConfigError';
    this.path = path;
    this.problems = problems;
  }
}

/** One problem on two lines: place, key, value and message; then the remedy, indented. */
export function formatProblem(path: string, problem: ConfigProblem): string {
  const place = problem.line === undefined ? path : `${path}:${problem.line}`;
  const subject = [problem.key, formatValue(problem.value)].filter(Boolean).join(' = ');
  return `${place}: ${[subject, problem.message].filter(Boolean).join(' ')}\n    ${problem.remedy}`;
}

/** `target[1].file.size` */
export function formatKey(path: KeyPath): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${formatKeyPart(part)}`))
    .join('')
    .replace(/^\./, '');
}

/** The candidate that `word` is probably a slip of; undefined when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined;
  const found = closest(word, candidates);
  return distance(word, found) <= Math.max(2, Math.floor(word.length / 3)) ? found : undefined;
}

function formatKeyPart(part: string): string {
  return /^[\w-]+$/.test(part) ? part : JSON.stringify(part);
}

const VALUE_LENGTH_MAX = 60;

/** Scalars as TOML writes them; tables and arrays are left out, their line says where they are. */
function formatValue(value: unknown): string {
  if (value === undefined || (typeof value === 'object' && !(value instanceof Date))) return '';
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length <= VALUE_LENGTH_MAX ? text : `${text.slice(0, VALUE_LENGTH_MAX)}...`;
}
