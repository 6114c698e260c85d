import { expect, it, vi } from 'vitest';
import { hostFiles } from '../../../src/backends/cas/file-layer.ts';
import { native } from '../../../src/native.ts';
import { descriptorsOf, disposeAll, TempDirectory } from '../../support/tools.ts';
import { SimFs } from './sim-fs.ts';
import { openTiny } from './tiny-store.ts';

class LockedFs extends SimFs {
  isLocked = false;

  override async lock(): Promise<() => Promise<void>> {
    this.isLocked = true;
    return async () => {
      this.isLocked = false;
    };
  }
}

it('does not keep the lock of a store for which the system has no descriptor left', async () => {
  const files = new LockedFs();
  class Refused {
    constructor() {
      throw Object.assign(new Error('eventfd: too many open files'), { code: 'EMFILE' });
    }
  }
  const engine = vi.spyOn(native, 'CasEngine').mockImplementation(Refused as never);
  await expect(openTiny(files)).rejects.toMatchObject({ code: 'EMFILE' });
  engine.mockRestore();
  expect(files.isLocked).toBe(false);
  const store = await openTiny(files);
  expect(files.isLocked).toBe(true);
  await store.close();
  expect(files.isLocked).toBe(false);
});

it('closes the lock of a store where the file system has no locks', async () => {
  const directory = await TempDirectory.create();
  const files = hostFiles();
  const path = directory.join('lock');
  const lockFile = vi.spyOn(native, 'lockFile').mockImplementation(() => {
    throw Object.assign(new Error('flock: no locks available'), { code: 'ENOLCK' });
  });
  const locking = files.lock(path, '');
  await expect(locking).rejects.toMatchObject({ code: 'ENOLCK' });
  lockFile.mockRestore();
  expect(descriptorsOf(path)).toEqual([]);
  await disposeAll(directory);
});
