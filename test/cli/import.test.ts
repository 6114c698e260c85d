import { existsSync } from 'node:fs';
import { appendFile, truncate, utimes, writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCasStore } from '../../src/backends/cas/index.ts';
import { seldomTasks } from '../../src/backends/file-tasks.ts';
import { createProgram } from '../../src/cli/program.ts';
import { BlockError } from '../../src/core/block-error.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { TempDirectory } from '../support/tools.ts';

const MIB = 1 << 20;
const CONTENT = Buffer.alloc(4 * MIB, 'x');
const { dataBytes } = seldomTasks;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('aoe-server import', () => {
  it('says what helps when the store is full', async () => {
    await using directory = await TempDirectory.create();
    const [image, store] = [directory.join('disk.img'), directory.join('store')];
    await writeFile(image, CONTENT);
    const full = new BlockError('noSpace', 'request at byte 0 ended with noSpace');
    vi.spyOn(DeviceClient.prototype, 'write').mockRejectedValue(full);
    const args = ['import', image, store, 'e1.0'];
    await expect(createProgram().parseAsync(args, { from: 'user' })).rejects.toMatchObject({
      message: `the store ${store} has no room for ${image}`,
      remedy: expect.stringContaining(`aoe-server cas collect ${store}`),
    });
  });

  it('takes no directory for an image, and makes no store then', async () => {
    await using directory = await TempDirectory.create();
    const args = ['import', directory.path, directory.join('store'), 'e1.0'];
    const imported = createProgram().parseAsync(args, { from: 'user' });
    await expect(imported).rejects.toThrow(`${directory.path} is no image`);
    expect(existsSync(directory.join('store'))).toBe(false);
  });
});

describe('an image that changes while it is imported', () => {
  const changes: [how: string, change: (path: string) => Promise<void>][] = [
    ['becomes shorter', (path) => truncate(path, MIB)],
    ['grows', (path) => appendFile(path, CONTENT)],
    ['is written', (path) => writeFile(path, 'y', { flag: 'r+' })],
  ];
  for (const [how, change] of changes) {
    it(`is refused when it ${how}`, async () => {
      await using directory = await TempDirectory.create();
      const image = directory.join('disk.img');
      await writeFile(image, CONTENT);
      await utimes(image, 1, 1);
      let changed: Promise<void> | undefined;
      vi.spyOn(seldomTasks, 'dataBytes').mockImplementation(async (...args) => {
        changed ??= change(image);
        await changed;
        return dataBytes.apply(seldomTasks, args);
      });
      const args = ['import', image, directory.join('store'), 'e1.0'];
      const imported = createProgram().parseAsync(args, { from: 'user' });
      await expect(imported.then(() => 'imported')).rejects.toThrow(
        'was changed while it was read',
      );
      const store = await openCasStore(directory.join('store'));
      expect([...store.volumes]).toEqual([]);
      await store.close();
    });
  }
});
