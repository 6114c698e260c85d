/** What a running server would have to do to follow a new configuration. */
import { isDeepStrictEqual } from 'node:util';
import type { BackendConfig, Config, TargetConfig } from './config.ts';
import { findSharedStorage, findTornStores } from './rules.ts';
import { formatSize } from './size.ts';

/** What a new configuration does to targets. */
export interface TargetChange {
  readonly added: readonly TargetConfig[];
  /** Those with other keys than before, as they shall be. */
  readonly changed: readonly TargetConfig[];
  readonly removed: readonly TargetConfig[];
}

interface ConfigChange extends TargetChange {
  /** What only a restart can change: `[server]`, and names of disks in memory. */
  readonly fixed: readonly string[];
}

/** Compares configurations by targets. The log level is not looked at. */
export function compareConfigs(now: Config, next: Config): ConfigChange {
  const before = new Map(now.targets.map((target) => [target.name, target]));
  const after = new Map(next.targets.map((target) => [target.name, target]));
  const different = next.targets.filter((target) => {
    const old = before.get(target.name);
    return old !== undefined && !isDeepStrictEqual(old, target);
  });
  // Opened anew, they would be empty.
  const inMemory = different.filter(({ name, backend }) => {
    return backend.type === 'memory' || before.get(name)?.backend.type === 'memory';
  });
  const { logLevel } = now.server;
  const isSameServer = isDeepStrictEqual(now.server, { ...next.server, logLevel });
  return {
    added: next.targets.filter(({ name }) => !before.has(name)),
    changed: different.filter((target) => !inMemory.includes(target)),
    removed: now.targets.filter(({ name }) => !after.has(name)),
    fixed: [...(isSameServer ? [] : ['[server]']), ...inMemory.map(({ name }) => name)],
  };
}

/** Tells which of the `changed` targets would be smaller than `now`, as far as their keys say. */
export function findShrunk(
  now: readonly TargetConfig[],
  changed: readonly TargetConfig[],
): string | undefined {
  for (const { name, backend } of changed) {
    const before = sizeOf(now.find((target) => target.name === name)?.backend);
    const after = sizeOf(backend);
    if (before === undefined || after === undefined || after >= before) continue;
    return `${name} would shrink from ${formatSize(before)} to ${formatSize(after)}`;
  }
  return undefined;
}

/** What a disk's keys say of its size, in bytes; undefined when they do not. */
export function sizeOf(backend: BackendConfig | undefined): number | undefined {
  if (backend === undefined || backend.type === 'device') return undefined;
  if (backend.type !== 'file') return backend.sizeBytes;
  const { sizeBytes, offsetBytes, lengthBytes } = backend;
  return lengthBytes ?? (sizeBytes === undefined ? undefined : sizeBytes - offsetBytes);
}

/**
 * Tells what is wrong with storage that goes from one target to another: added targets are opened
 * before others are closed.
 *
 * @param open targets that keep their storage open meanwhile, also those that shall be removed
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
