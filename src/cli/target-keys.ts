/** What a command line says of a target, as keys of the configuration file. */
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { CAS_BLOCK_SIZE } from '../config/backend-schema.ts';
import type { TargetConfig } from '../config/config.ts';
import { readValue, type Setting } from '../config/edit.ts';
import { valueAt } from '../config/explain.ts';
import type { BACKEND_TYPES } from '../config/schema.ts';
import { formatSize } from '../config/size.ts';
import { StartupError } from '../core/startup-error.ts';
import type { Address } from './address.ts';

type Backend = (typeof BACKEND_TYPES)[number];

/** `key=value` of a command line. */
export interface Pair {
  readonly key: readonly string[];
  readonly text: string;
}

/** What is said of a target that is added. */
export interface NewTarget {
  readonly backend: Backend;
  readonly path?: string;
  readonly size?: string;
  readonly set?: readonly Pair[];
}

/** The key that says one thing, by backend; undefined where none does. */
type BackendKeys = Readonly<Record<Backend, readonly string[] | undefined>>;

/** Where its storage is. */
const PATH_KEYS: BackendKeys = {
  file: ['file', 'path'],
  device: ['device', 'path'],
  memory: undefined,
  cas: ['cas', 'blob_store', 'path'],
};
const SIZE_KEYS: BackendKeys = {
  file: ['file', 'size'],
  device: undefined,
  memory: ['memory', 'size'],
  cas: ['cas', 'size'],
};

const ADDRESS_KEYS: readonly string[] = ['shelf', 'slot'];

/** The keys of a new target. */
export function newTargetKeys({ shelf, slot }: Address, options: NewTarget): Setting[] {
  const { backend, path, size, set = [] } = options;
  const settings: Setting[] = [
    { key: ['shelf'], value: shelf },
    { key: ['slot'], value: slot },
    { key: ['backend'], value: backend },
  ];
  const place = keyOf(PATH_KEYS, backend, '--path', path);
  if (place !== undefined && path !== undefined) {
    // What the shell completed is relative to where it is; what is in the file, to the file.
    if (backend === 'cas') settings.push({ key: ['cas', 'blob_store', 'type'], value: 'file' });
    settings.push({ key: place, value: resolve(path) });
  }
  const extent = keyOf(SIZE_KEYS, backend, '--size', size);
  if (extent !== undefined && size !== undefined) settings.push({ key: extent, value: size });
  const isPlaced = set.some(({ key }) => key.join('.') === place?.join('.'));
  if (place !== undefined && path === undefined && !isPlaced) {
    throw new StartupError(`a target with backend ${backend} needs --path`, 'add --path PATH');
  }
  return [...settings, ...readPairs({ shelf, slot, backend }, set)];
}

/**
 * The keys that give a target its size.
 *
 * @param table its keys, as they stand in the file
 */
export function resizeKeys(
  { name, backend }: TargetConfig,
  table: object,
  sizeBytes: number,
): Setting[] {
  const value = formatSize(sizeBytes);
  switch (backend.type) {
    case 'file': {
      const { offsetBytes, lengthBytes, sizeBytes: wholeBytes = 0 } = backend;
      const whole = { key: ['file', 'size'], value: formatSize(offsetBytes + sizeBytes) };
      if (lengthBytes === undefined) return [whole];
      const length = { key: ['file', 'length'], value };
      return offsetBytes + sizeBytes > wholeBytes ? [whole, length] : [length];
    }
    case 'memory':
      return [{ key: ['memory', 'size'], value }];
    case 'cas': {
      if (valueAt(table, ['cas', 'total_sectors']) === undefined) {
        return [{ key: ['cas', 'size'], value }];
      }
      return [{ key: ['cas', 'total_sectors'], value: sizeBytes / CAS_BLOCK_SIZE }];
    }
    case 'device':
      throw new StartupError(
        `${name} has the size of its device`,
        `make ${backend.path} larger, then: aoe-server readd ${name}`,
      );
  }
}

/** Reads one more `key=value`. @throws {InvalidArgumentError} it is none, or must not be set */
export function addPair(text: string, before: readonly Pair[] = []): Pair[] {
  const at = text.indexOf('=');
  if (at <= 0) throw new InvalidArgumentError('must be a key and a value, such as read_only=true');
  const name = text.slice(0, at).trim();
  // It would be another target, on a disk that is empty, or that this one still has.
  if (ADDRESS_KEYS.includes(name)) {
    throw new InvalidArgumentError(
      'A target keeps its address: remove it, and add it under another one. A volume is called ' +
        'like its target: see aoe-server cas clone.',
    );
  }
  return [...before, { key: name.split('.'), text: text.slice(at + 1) }];
}

/** @param table all that is known of the target's keys */
export function readPairs(table: object, pairs: readonly Pair[]): Setting[] {
  return pairs.map(({ key, text }) => ({ key, value: readValue(table, key, text) }));
}

export function formatPair({ key, text }: Pair): string {
  return `${key.join('.')} = ${text}`;
}

function keyOf(
  keys: BackendKeys,
  backend: Backend,
  option: string,
  given: string | undefined,
): readonly string[] | undefined {
  const key = keys[backend];
  if (key !== undefined || given === undefined) return key;
  throw new StartupError(
    `a target with backend ${backend} has no ${option}`,
    `leave ${option} out`,
  );
}
