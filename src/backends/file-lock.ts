/**
 * Keeps two servers off one image. A lock belongs to the file, not to a descriptor, so that one
 * server can export several parts of one image.
 */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { StartupError } from '../core/startup-error.ts';
import { native } from '../native.ts';

interface HeldLock {
  readonly fd: number;
  holders: number;
}

const held = new Map<string, HeldLock>();

/**
 * Locks the file behind `fd` for this process.
 *
 * @param path for messages
 * @returns a function that gives the lock back; call it once
 * @throws {StartupError} another process holds it
 */
export function lockImage(fd: number, path: string): () => void {
  const { dev, ino } = fstatSync(fd);
  const key = `${dev}:${ino}`;
  const lock = held.get(key) ?? takeLock(fd, path);
  held.set(key, lock);
  lock.holders++;
  return () => {
    if (--lock.holders > 0) return;
    held.delete(key);
    closeSync(lock.fd);
  };
}

function takeLock(fd: number, path: string): HeldLock {
  // A descriptor of its own: the lock must outlive the target that was opened first.
  const lockFd = openSync(`/proc/self/fd/${fd}`, 'r');
  if (!native.lockFile(lockFd)) {
    closeSync(lockFd);
    throw new StartupError(
      `${path} is in use by another process`,
      'stop the other server, or give this target an image of its own',
    );
  }
  return { fd: lockFd, holders: 0 };
}
