/**
 * Keeps what targets must remember, durably: one JSON file a target in the state directory.
 *
 * Invariants:
 * - A file under its final name is whole: it is written under another name, synced, and renamed;
 *   the directory is synced before a save counts.
 * - The directory is locked: two servers never share one.
 * - No file is opened through a link: the directory may belong to a user that the server is to
 *   become.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { makeDirectory } from '../core/directories.ts';
import { replaceFile } from '../core/replace-file.ts';
import { StartupError } from '../core/startup-error.ts';
import { formatMacAddress, parseMacAddress } from '../net/ethernet.ts';
import { CONFIG_STRING_BYTES_MAX, LIST_LENGTH_MAX, type TargetState } from './target-state.ts';

/** What is kept of a target. */
export interface SavedTarget extends Omit<TargetState, 'configString'> {
  /** What an initiator has set; undefined while that of the configuration counts. */
  readonly configString?: Uint8Array | undefined;
  /** The largest size that initiators have seen. */
  readonly sizeBytes: number;
}

const { O_RDONLY, O_WRONLY, O_CREAT, O_NOFOLLOW } = constants;
const LOCK_FILE = 'lock';
/** What an interrupted save leaves; anything else in the directory is not ours to remove. */
const LEFTOVER = /^e\d+\.\d+\.json\.aoe-server\.tmp$/;

const macSchema = z.string().transform((text, context) => {
  const mac = parseMacAddress(text);
  if (mac !== undefined) return mac;
  context.addIssue({ code: 'custom', message: `${text} is not a MAC address` });
  return z.NEVER;
});

const fileSchema = z.strictObject({
  version: z.literal(1),
  sizeBytes: z.number().int().nonnegative(),
  /** Base64: a config string may hold any bytes. */
  configString: z
    .base64()
    .transform((text) => new Uint8Array(Buffer.from(text, 'base64')))
    .refine((bytes) => bytes.length <= CONFIG_STRING_BYTES_MAX, 'longer than 1024 bytes')
    .optional(),
  maskList: z.array(macSchema).max(LIST_LENGTH_MAX),
  reserveList: z.array(macSchema).max(LIST_LENGTH_MAX),
});

export class StateStore {
  readonly #path: string;
  readonly #lock: FileHandle | undefined;

  private constructor(path: string, lock?: FileHandle) {
    this.#path = path;
    this.#lock = lock;
  }

  /**
   * Opens the directory, which is made when it is missing, and locks it.
   *
   * @param lockFile takes an exclusive lock on an open file; false when another process holds it
   * @throws {StartupError} it cannot be made or written, or another server uses it
   */
  static async open(path: string, lockFile: (fd: number) => boolean): Promise<StateStore> {
    const directory = resolve(path);
    let lock: FileHandle | undefined;
    let isLocked: boolean;
    try {
      await makeDirectory(directory);
      lock = await open(join(directory, LOCK_FILE), O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
      isLocked = lockFile(lock.fd);
      if (isLocked) await removeLeftovers(directory);
    } catch (cause) {
      await lock?.close();
      throw new StartupError(
        `cannot use the state directory ${path}: ${(cause as Error).message}`,
        'set state_dir to a directory that this user can write',
        { cause },
      );
    }
    if (isLocked) return new StateStore(directory, lock);
    await lock.close();
    throw new StartupError(
      `the state directory ${path} is in use by another server`,
      'stop that server, or give this one a state_dir of its own',
    );
  }

  /** Uses a directory that another thread of this process has opened and keeps open. */
  static attach(path: string): StateStore {
    return new StateStore(resolve(path));
  }

  /**
   * What is kept of the target `name`; undefined when nothing is.
   *
   * @throws {StartupError} its file cannot be read, is damaged, or is of a later version; it is
   * left as it is
   */
  async load(name: string): Promise<SavedTarget | undefined> {
    const path = this.#fileOf(name);
    try {
      const text = await readFile(path, { encoding: 'utf8', flag: O_RDONLY | O_NOFOLLOW });
      const { version: _, ...saved } = fileSchema.parse(JSON.parse(text));
      return saved;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      const problem = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
      throw new StartupError(
        `cannot use the state file ${path}: ${problem}`,
        'restore it from a backup; or move it away to start with the configured config string ' +
          'and without mask and reserve lists',
        { cause },
      );
    }
  }

  /**
   * Makes `target` durable. One save of a target may run at a time.
   *
   * @throws {StartupError} what is kept is whole, and is still the old state unless the very last
   * step failed, the sync of the directory
   */
  async save(name: string, target: SavedTarget): Promise<void> {
    const path = this.#fileOf(name);
    const { configString } = target;
    const text = JSON.stringify(
      {
        version: 1,
        sizeBytes: target.sizeBytes,
        configString: configString && Buffer.from(configString).toString('base64'),
        maskList: target.maskList.map(formatMacAddress),
        reserveList: target.reserveList.map(formatMacAddress),
      },
      undefined,
      2,
    );
    try {
      await replaceFile(path, `${text}\n`, { mode: 0o600 });
    } catch (cause) {
      throw new StartupError(
        `cannot save the state of ${name} in ${path}: ${(cause as Error).message}`,
        'see that its file system has room, and that the user that runs aoe-server may write there',
        { cause },
      );
    }
  }

  /** Gives the lock back. Idempotent. */
  async close(): Promise<void> {
    await this.#lock?.close();
  }

  #fileOf(name: string): string {
    return join(this.#path, `${name}.json`);
  }
}

async function removeLeftovers(path: string): Promise<void> {
  const leftovers = (await readdir(path)).filter((name) => LEFTOVER.test(name));
  await Promise.all(leftovers.map((name) => rm(join(path, name))));
}
