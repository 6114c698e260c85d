/** The schema as a list of keys: for error messages and for generated documentation. */
import { z } from 'zod';
import type { KeyPath } from './scanner.ts';
import { configSchema } from './schema.ts';
import { ABOUT } from './values.ts';

/** One key, as far as it can be described without a configuration. */
export interface ConfigKey {
  /** From the root, with `[]` for any element: `target[].file.size`. */
  readonly pattern: string;
  /** The pattern of the table or list around it; '' for the root. */
  readonly parent: string;
  /** The last part of the pattern; '' for an element of a list. */
  readonly name: string;
  readonly kind: 'table' | 'tables' | 'value' | 'element';
  /** Continues "must be ...". */
  readonly form: string;
  /** What to write, whole: `size = "1GiB"`, `[target.file]`. */
  readonly example: string;
  readonly description: string;
  readonly required: boolean;
  /** The value without the key as TOML text, or words for it; undefined for none. */
  readonly default: string | undefined;
}

/** Every key by its pattern, in the order of the schema. */
export const CONFIG_KEYS: ReadonlyMap<string, ConfigKey> = new Map(
  [...walkInside(configSchema, '')].map((key) => [key.pattern, key]),
);

/** The pattern that a key's path belongs to. */
export function patternOf(path: KeyPath): string {
  return path.reduce<string>(
    (parent, part) => (typeof part === 'number' ? `${parent}[]` : join(parent, part)),
    '',
  );
}

function* walk(schema: z.core.$ZodType, parent: string, name: string): Generator<ConfigKey> {
  const { inner, isOptional, defaultValue } = unwrap(schema);
  const about = ABOUT.get(inner);
  if (about === undefined) throw new Error(`the key ${join(parent, name)} is not described`);
  const kind = kindOf(inner, name);
  const pattern = kind === 'element' ? `${parent}[]` : join(parent, name);
  yield {
    pattern,
    parent,
    name,
    kind,
    form: about.form,
    example: exampleOf(kind, pattern, name, about.example),
    description: about.description,
    required: !isOptional,
    default: defaultValue === undefined ? about.unset : JSON.stringify(defaultValue),
  };
  yield* walkInside(inner, pattern);
}

function* walkInside(schema: z.core.$ZodType, pattern: string): Generator<ConfigKey> {
  if (schema instanceof z.ZodObject) {
    for (const [name, value] of Object.entries(schema.shape)) yield* walk(value, pattern, name);
  } else if (schema instanceof z.ZodArray) {
    const { element } = schema;
    // The elements of an array of tables are described by the array.
    if (element instanceof z.ZodObject) yield* walkInside(element, `${pattern}[]`);
    else yield* walk(element, pattern, '');
  }
}

function unwrap(schema: z.core.$ZodType) {
  if (schema instanceof z.ZodOptional) {
    return { inner: schema.unwrap(), isOptional: true, defaultValue: undefined };
  }
  if (schema instanceof z.ZodDefault) {
    return { inner: schema.unwrap(), isOptional: true, defaultValue: schema.def.defaultValue };
  }
  return { inner: schema, isOptional: false, defaultValue: undefined };
}

function kindOf(schema: z.core.$ZodType, name: string): ConfigKey['kind'] {
  if (schema instanceof z.ZodObject) return 'table';
  if (schema instanceof z.ZodArray && schema.element instanceof z.ZodObject) return 'tables';
  return name === '' ? 'element' : 'value';
}

function exampleOf(kind: ConfigKey['kind'], pattern: string, name: string, value: string): string {
  const header = pattern.replaceAll('[]', '');
  if (kind === 'table') return `[${header}]`;
  if (kind === 'tables') return `[[${header}]]`;
  return kind === 'value' ? `${name} = ${value}` : value;
}

function join(parent: string, name: string): string {
  return parent === '' ? name : `${parent}.${name}`;
}
