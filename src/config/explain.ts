/** Turns what the schema found into findings: in words of the key, with a remedy. */
import type { z } from 'zod';
import { type Finding, nearest } from './problem.ts';
import { CONFIG_KEYS, type ConfigKey, patternOf } from './reference.ts';
import type { KeyPath } from './scanner.ts';

/** Explains one issue of the schema; `document` is what the schema was applied to. */
export function explain(issue: z.core.$ZodIssue, document: unknown): Finding[] {
  const path = issue.path as KeyPath;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => explainUnknownKey(path, name));
  }
  if (issue.code === 'custom' && issue.params !== undefined) {
    return [{ path, message: issue.message, remedy: issue.params['remedy'] }];
  }
  const choices = issue.code === 'invalid_value' ? issue.values.map(String) : [];
  return [explainValue(path, valueAt(document, path), choices)];
}

/** The value at a path; undefined where there is none. */
export function valueAt(document: unknown, path: KeyPath): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part))
      return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function explainUnknownKey(parentPath: KeyPath, name: string): Finding {
  const parent = patternOf(parentPath);
  const keys = [...CONFIG_KEYS.values()];
  const siblings = keys.filter((key) => key.parent === parent).map((key) => key.name);
  const homes = keys.filter((key) => key.name === name && key.kind !== 'element').map(tableOf);
  return {
    path: [...parentPath, name],
    message: 'is not a known key',
    remedy: remedyForUnknownKey(name, siblings, homes),
  };
}

function remedyForUnknownKey(name: string, siblings: string[], homes: string[]): string {
  if (homes.length > 0) return `It belongs in ${homes.join(' or ')}.`;
  const near = nearest(name, siblings);
  if (near !== undefined) return `Did you mean ${near}?`;
  return `Remove it. Known here: ${siblings.join(', ')}.`;
}

/** The header under which a key is written. */
function tableOf(key: ConfigKey): string {
  if (key.parent === '') return 'the root of the file';
  return CONFIG_KEYS.get(key.parent.replace(/\[\]$/, ''))?.example as string;
}

function explainValue(path: KeyPath, value: unknown, choices: string[]): Finding {
  const { form, example } = CONFIG_KEYS.get(patternOf(path)) as ConfigKey;
  if (value === undefined) {
    return { path, message: 'is missing', remedy: `Add it, for example: ${example}` };
  }
  const near = typeof value === 'string' ? nearest(value, choices) : undefined;
  const remedy = near === undefined ? `Write, for example: ${example}` : `Did you mean "${near}"?`;
  return { path, message: `must be ${form}`, remedy };
}
