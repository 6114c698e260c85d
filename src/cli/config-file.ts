/**
 * Changes the configuration file of a running server, and lets the server follow: both, or none.
 *
 * Invariants:
 * - Under its name there is always a whole file that the server could be started with.
 * - One change at a time: a lock is held from the first look at the file until the server has
 *   followed. It is on a file beside it that nobody else may open, as others could hold a lock on
 *   what they may read. One that is killed leaves this file, and no lock.
 */
import { constants } from 'node:fs';
import { open, readFile, realpath, rm, stat } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import { loadControlPath } from '../config/load.ts';
import { formatProblem } from '../config/problem.ts';
import { type FileRights, replaceFile } from '../core/replace-file.ts';
import type { Reloaded, ServerStatus } from '../status.ts';
import { askSocket, ControlError, RefusedError } from './control-client.ts';
import { leadsTo } from './leads-to.ts';

const LOCK_SUFFIX = '.aoe-server.lock';
const LOCK_MS_MAX = 10_000;
const LOCK_POLL_MS = 100;

/** A running server. */
export interface FoundServer {
  readonly socketPath: string;
  readonly status: ServerStatus;
}

/** What the file says before a change. */
export interface ConfigText {
  readonly text: string;
  readonly config: Config;
}

/**
 * Finds the server that was started with the configuration file `config`.
 *
 * @throws {ControlError} it is not running; @throws {ConfigError}
 */
export async function findServer(config: string): Promise<FoundServer> {
  const socketPath = loadControlPath(config);
  try {
    const status = (await askSocket(socketPath, 'GET', '/v1/status')) as ServerStatus;
    return { socketPath, status };
  } catch (error) {
    if (!(error instanceof ControlError) || error instanceof RefusedError) throw error;
    const remedy =
      `${error.remedy}; while none is running, edit the file and check it with: ` +
      `aoe-server check ${config}`;
    throw new ControlError(error.message, remedy, { cause: error });
  }
}

/**
 * Changes the file of `server`.
 *
 * @param edit from the file as it is to its new text
 * @throws {ConfigError} the file is wrong, or would be; @throws {RefusedError} the server does not
 * follow: the file is as it was
 */
export async function changeConfig(
  { socketPath, status }: FoundServer,
  edit: (before: ConfigText) => string,
): Promise<Reloaded> {
  const { configPath } = status;
  // Loaded on demand: the other commands work where the native addon does not.
  const { parseAnswering } = await import('../hanging-storage.ts');
  const path = await realpath(configPath);
  await using _lock = await lock(path + LOCK_SUFFIX);
  const text = await readFile(path, 'utf8');
  const config = await parseAnswering(text, configPath);
  const next = edit({ text, config });
  const { warnings } = await parseAnswering(next, configPath);
  for (const warning of warnings) {
    console.error(`warning: ${formatProblem(configPath, warning)}`);
  }
  const { mode, uid, gid } = await stat(path);
  const rights = { mode: mode & 0o7777, owner: { uid, gid } };
  await replaceText(path, text, next, rights);
  try {
    return (await askSocket(socketPath, 'POST', '/v1/reload')) as Reloaded;
  } catch (error) {
    if (error instanceof RefusedError) {
      const { message, remedy } = error;
      await replaceText(path, next, text, rights).catch((cause: ControlError) => {
        const problem = `${message}; and the file still says what was refused: ${cause.message}`;
        throw new ControlError(problem, `${remedy}; and undo what was to change`, { cause });
      });
      throw new RefusedError(message, `${remedy}; ${configPath} is as it was`);
    }
    const { message } = error as Error;
    throw new ControlError(
      `${configPath} is changed, but the server may not have followed: ${message}`,
      'see what it does with: aoe-server status; and let it follow with: aoe-server reload',
      { cause: error },
    );
  }
}

/** @throws {ControlError} it cannot, or somebody else has changed the file since it was read */
async function replaceText(path: string, from: string, to: string, rights: FileRights) {
  if ((await readFile(path, 'utf8')) === from) {
    return replaceFile(path, to, rights).catch((cause) => cannotChange(path, cause));
  }
  throw new ControlError(
    `${path} was changed by somebody else meanwhile, and is left as it is`,
    'look at it, check it with aoe-server check, and try again',
  );
}

async function lock(path: string): Promise<AsyncDisposable> {
  // Loaded on demand: the other commands work where the native addon does not.
  const { lockFile } = await import('../lock-file.ts');
  // NFS locks for writers only what is open for writing.
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  const end = performance.now() + LOCK_MS_MAX;
  for (;;) {
    const file = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600).catch((cause) =>
      cannotChange(path, cause),
    );
    const isLocked = await lockFile(file).catch((cause) => cannotLock(path, cause));
    if (isLocked && (await leadsTo(path, file))) {
      return {
        async [Symbol.asyncDispose]() {
          await rm(path, { force: true });
          await file.close();
        },
      };
    }
    await file.close();
    if (performance.now() > end) {
      throw new ControlError('another change of the file goes on', 'wait for its end');
    }
    await sleep(LOCK_POLL_MS);
  }
}

function cannotLock(path: string, cause: Error): never {
  throw new ControlError(
    `cannot lock ${path}: ${cause.message}`,
    'keep the file on a file system that can lock files, as local ones do',
    { cause },
  );
}

function cannotChange(path: string, cause: Error): never {
  throw new ControlError(
    `cannot write ${path}: ${cause.message}`,
    'see that there is room, and let this user write the file and its directory, or be root',
    { cause },
  );
}
