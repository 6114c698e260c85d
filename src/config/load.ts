import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import {
  type Config,
  type ConfigEnvironment,
  type TargetConfig,
  toServerConfig,
  toTargetConfig,
} from './config.ts';
import { explain, valueAt } from './explain.ts';
import { createLocator } from './locator.ts';
import { ConfigError, type ConfigProblem, type Finding, formatKey } from './problem.ts';
import {
  findSharedAddresses,
  findSharedStorage,
  findThreadedStores,
  findTornStores,
  findWarnings,
  type PlacedTarget,
} from './rules.ts';
import { configSchema, targetSchema } from './schema.ts';

/** Far above any real file, and bounds what checking it can cost. */
const TEXT_LENGTH_MAX = 2 ** 20;

/**
 * Reads and checks a configuration file.
 *
 * @throws {ConfigError} with everything that is wrong, not only the first
 */
export function loadConfig(path: string, environment: ConfigEnvironment = process.env): Config {
  return parseConfig(readConfig(path), path, environment);
}

/**
 * Checks the text of a configuration file.
 *
 * @param path names the file in messages; relative paths in the text are relative to its directory
 * @throws {ConfigError} with everything that is wrong, not only the first
 */
export function parseConfig(text: string, path: string, environment: ConfigEnvironment): Config {
  const document = parseToml(text, path);
  const directory = dirname(resolve(path));
  const locate = createLocator(text);
  const place = (finding: Finding): ConfigProblem => ({
    line: locate(finding.path),
    key: formatKey(finding.path),
    value: valueAt(document, finding.path),
    message: finding.message,
    remedy: finding.remedy,
  });

  const parsed = configSchema.safeParse(document);
  const tables = tablesOf(document);
  const targets = placeValidTargets(tables, directory);
  const errors = [
    ...(parsed.error?.issues ?? []).flatMap((issue) => explain(issue, document)),
    ...findSharedAddresses(tables),
    ...findSharedStorage(targets),
    ...findTornStores(targets),
    ...findThreadedStores(document, targets),
  ].map(place);
  if (!parsed.success || errors.length > 0) throw new ConfigError(path, sortByLine(errors));

  return {
    path: resolve(path),
    server: toServerConfig(parsed.data.server, directory, environment),
    targets: targets.map(({ target }): TargetConfig => target),
    warnings: sortByLine(findWarnings(parsed.data, targets).map(place)),
  };
}

/**
 * Where the server of a configuration file can be reached. Looks at nothing but the file: a server is
 * asked most when the storage of a target hangs.
 *
 * @throws {ConfigError} the file is wrong, whatever its targets have to do with each other
 */
export function loadControlPath(
  path: string,
  environment: ConfigEnvironment = process.env,
): string {
  const { data } = configSchema.safeParse(parseToml(readConfig(path), path));
  if (data === undefined) return loadConfig(path, environment).server.controlPath;
  return toServerConfig(data.server, dirname(resolve(path)), environment).controlPath;
}

/**
 * The targets of a configuration that are right in themselves. Looks at nothing but the text: to
 * check it whole is to look at their storage, which may hang.
 *
 * @throws {ConfigError} it is not TOML
 */
export function listTargets(text: string, path: string): TargetConfig[] {
  const tables = tablesOf(parseToml(text, path));
  return placeValidTargets(tables, dirname(resolve(path))).map(({ target }) => target);
}

function tablesOf(document: Record<string, unknown>): readonly unknown[] {
  return Array.isArray(document['target']) ? document['target'] : [];
}

/** Targets that are right in themselves are compared with each other even if others are wrong. */
function placeValidTargets(tables: readonly unknown[], directory: string): PlacedTarget[] {
  return tables.flatMap((table, index) => {
    const parsed = targetSchema.safeParse(table);
    return parsed.success ? { index, target: toTargetConfig(parsed.data, directory) } : [];
  });
}

function sortByLine(problems: readonly ConfigProblem[]): ConfigProblem[] {
  return problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

function parseToml(text: string, path: string): Record<string, unknown> {
  if (text.length > TEXT_LENGTH_MAX) {
    throw unusable(path, 'is longer than 1 MiB', 'Check that it is a configuration file.');
  }
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [summary = ''] = error.message.replace('Invalid TOML document: ', '').split('\n');
    const remedy = `See column ${error.column}. Text needs quotes: interface = "eth0"`;
    throw unusable(path, `is not TOML: ${summary}`, remedy, error.line);
  }
}

/** @throws {ConfigError} the file cannot be read */
export function readConfig(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { message } = error as NodeJS.ErrnoException;
    const remedy = 'Name a file that this user may read. config.example.toml is one to start from.';
    throw unusable(path, `cannot be read: ${message}`, remedy);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw unusable(path, 'is not UTF-8 text', 'Save it as UTF-8.');
  }
}

function unusable(path: string, message: string, remedy: string, line?: number): ConfigError {
  return new ConfigError(path, [{ line, key: '', value: undefined, message, remedy }]);
}
