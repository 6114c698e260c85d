/** What a reload does, and what only a restart can. */
import { compareConfigs, findShrunk, type TargetChange } from './config/compare.ts';
import type { Config } from './config/config.ts';
import { StartupError } from './core/startup-error.ts';

/**
 * Plans how a server that runs by `now` follows `next`.
 *
 * @throws {StartupError} it cannot
 */
export function planReload(now: Config, next: Config): TargetChange {
  const { fixed, ...change } = compareConfigs(now, next);
  if (fixed.length > 0) {
    throw new StartupError(
      `only a restart can change ${fixed.join(', ')}`,
      'undo these changes, or restart the server; a disk in memory is empty then',
    );
  }
  const shrunk = findShrunk(now.targets, change.changed);
  if (shrunk !== undefined) {
    throw new StartupError(
      shrunk,
      'disks never shrink, because initiators write wherever they have seen room: undo this ' +
        'change, or copy what is on it to a new, smaller target',
    );
  }
  return change;
}
