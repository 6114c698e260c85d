/** What a running server would have to do to follow a new configuration. */
import { isDeepStrictEqual } from 'node:util';
import type { Config, TargetConfig } from './config.ts';

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
