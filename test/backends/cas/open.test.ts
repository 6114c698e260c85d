import { expect, it, vi } from 'vitest';
import { native } from '../../../src/native.ts';
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
