/** Terminals that are gone: a window was closed, a connection lost. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_FDS = [0, 1, 2];

/**
 * Lets go of standard streams to a terminal that is gone. As it ends, Node.js gives terminals the
 * settings back that they had, and crashes where that fails.
 */
export function leaveLostTerminals(): void {
  for (const fd of STANDARD_FDS) {
    try {
      // A terminal that is gone is a terminal no more.
      if (isatty(fd) || !fstatSync(fd).isCharacterDevice()) continue;
      closeSync(fd);
      // It gets the number that has just become free.
      openSync('/dev/null', 'r+');
    } catch {
      // It is closed, which does no harm, or there is no /dev/null.
    }
  }
}
