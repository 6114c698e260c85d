import { constants } from 'node:os';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { readConfig } from '../config/load.ts';
import { parseAnswering } from '../hanging-storage.ts';
import type { UnrestoredError } from '../live-targets.ts';
import { createLogger } from '../log.ts';
import { startServer } from '../server.ts';
import { endsWithin } from '../wait-while.ts';
import { notifyServiceManager, Watchdog } from './service-manager.ts';

/** How long a stop waits for a start, such as one that fetches a store. */
const START_MS_MAX = 5000;

/**
 * Serves until SIGTERM or SIGINT, then closes the targets and returns.
 *
 * @throws {ConfigError} the configuration is wrong; @throws {StartupError} storage hangs
 * @throws the server's error when it cannot start or cannot go on
 */
export async function serve(path: string): Promise<void> {
  // Without a handler it would end the server when its terminal closes.
  let isReloadDue = false;
  let reload = () => {
    isReloadDue = true;
  };
  process.on('SIGHUP', () => reload());
  const config = await load(path);
  const log = createLogger(config.server.logLevel);
  for (const { line, key, message, remedy } of config.warnings) {
    log.warn({ line, remedy }, `${key} ${message}`);
  }
  const stopped = stopSignal(log);
  const starting = startServer(config, log, () => load(path));
  await Promise.race([starting, stopped]);
  // Also when it is to stop: most starts are soon over.
  if (!(await endsWithin(START_MS_MAX, starting))) {
    // Nothing that was confirmed is in this process alone: stores are not served before all are open.
    log.warn('stopped while starting');
    return;
  }
  const server = await starting;
  reload = () => {
    server.reload().catch((error: Error) => {
      const { message, remedy, isUnrestored } = error as UnrestoredError;
      log.error({ remedy }, isUnrestored ? message : `nothing has changed: ${message}`);
    });
  };
  // The file may have been changed after it was read.
  if (isReloadDue) reload();
  notifyServiceManager('READY=1', log);
  using _watchdog = new Watchdog(() => server.answer(), log);
  const failure = await Promise.race([stopped, server.failed]);
  if (failure !== undefined) log.error(failure, 'the server cannot go on');
  notifyServiceManager('STOPPING=1', log);
  await server.close();
  if (failure !== undefined) throw failure;
}

function load(path: string): Promise<Config> {
  return parseAnswering(readConfig(path), path);
}

/** Resolves on the first stop signal; a second one ends the process at once. */
function stopSignal(log: Logger): Promise<undefined> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (signal: 'SIGINT' | 'SIGTERM') => {
      if (isStopping) process.exit(128 + constants.signals[signal]);
      isStopping = true;
      log.info({ signal }, 'stopping');
      resolve(undefined);
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
  });
}
