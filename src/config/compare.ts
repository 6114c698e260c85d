/** What a running server would have to do to follow a new configuration. */
import { isDeepStrictEqual } from 'node:util';
import type { Config, TargetConfig } from './config.ts';
import { findSharedStorage, findTornStores } from './rules.ts';

export interface ConfigChange {
  readonly added: readonly TargetConfig[];
  readonly removed: readonly TargetConfig[];
  /** What only a restart can change: names of targets, and `[server]`. */
  readonly fixed: readonly string[];
}

/** Compares configurations by targets. The log level is not looked at. */
export function compareConfigs(now: Config, next: Config): ConfigChange {
  const before = new Map(now.targets.map((target) => [target.name, target]));
  const after = new Map(next.targets.map((target) => [target.name, target]));
  const changed = next.targets.filter(({ name }) => {
    const old = before.get(name);
    return old !== undefined && !isDeepStrictEqual(old, after.get(name));
  });
  const { logLevel } = now.server;
  const isSameServer = isDeepStrictEqual(now.server, { ...next.server, logLevel });
  return {
    added: next.targets.filter(({ name }) => !before.has(name)),
    removed: now.targets.filter(({ name }) => !after.has(name)),
    fixed: [...(isSameServer ? [] : ['[server]']), ...changed.map(({ name }) => name)],
  };
}

/**
 * Tells what is wrong with storage that goes from one target to another: added targets are opened
 * before others are closed.
 *
 * @param open targets that have their storage open, also those that shall be removed
 * @returns undefined when nothing is
 */
export function findMovedStorage(
  open: readonly TargetConfig[],
  added: readonly TargetConfig[],
): string | undefined {
  const placed = [...open, ...added].map((target, index) => ({ index, target }));
  const [finding] = [...findSharedStorage(placed), ...findTornStores(placed)];
  if (finding === undefined) return undefined;
  const target = placed[Number(finding.path[1])]?.target.name;
  return `the storage of ${target} ${finding.message}`;
}
