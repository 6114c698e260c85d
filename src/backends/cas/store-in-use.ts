/**
 * Who has a store open. A server leaves a note in the lock file that tells how to reach it; it
 * counts only while the lock is taken.
 */
import { StartupError } from '../../core/startup-error.ts';

/** The server that has a store open. */
export interface StoreHolder {
  readonly controlPath: string;
  /** What the server calls the store. */
  readonly storePath: string;
}

/** Another process has the store. */
export class StoreInUseError extends StartupError {
  /** Undefined when it is a command. */
  readonly holder: StoreHolder | undefined;

  constructor(path: string, holder: StoreHolder | undefined) {
    if (holder === undefined) {
      super(
        `the store ${path} is in use by another process`,
        'stop the server or command that has it open, or take another store',
      );
    } else {
      super(
        `a server has the store ${path} open`,
        'stop the server for import, export and fsck; ' +
          'the other commands for stores work while it runs',
      );
    }
    this.holder = holder;
  }
}

/** @param controlPath empty for a process without a control socket */
export function holderNote(storePath: string, controlPath: string): string {
  return controlPath === '' ? '' : JSON.stringify({ controlPath, storePath });
}

/** @returns undefined for what is no note of a server, such as one that is not written yet */
export function readHolder(note: string): StoreHolder | undefined {
  try {
    return JSON.parse(note) as StoreHolder;
  } catch {
    return undefined;
  }
}
