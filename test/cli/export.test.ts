import { type FileHandle, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCasStore } from '../../src/backends/cas/index.ts';
import { createProgram } from '../../src/cli/program.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { TempDirectory } from '../support/tools.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

function run(...args: string[]): Promise<void> {
  return createProgram()
    .parseAsync(args, { from: 'user' })
    .then(() => {});
}

describe('aoe-server export', () => {
  it('says what helps when there is no room for the image', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    await using handle = await open(directory.join('raw'));
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    // A store cuts files to nothing, and does without.
    vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'truncate').mockImplementation(
      async (size) => {
        if (size !== undefined) throw full;
      },
    );
    await expect(run('export', store, 'e1.0', image)).rejects.toMatchObject({
      message: `there is no room for ${image}: ${full.message}`,
      remedy: expect.stringContaining('free some'),
    });
    expect((await readdir(directory.path)).sort()).toEqual(['raw', 'store']);
  });

  it('does not replace a file that is made meanwhile', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    const { read } = DeviceClient.prototype;
    vi.spyOn(DeviceClient.prototype, 'read').mockImplementationOnce(async function (
      this: DeviceClient,
      ...args
    ) {
      await writeFile(image, 'of somebody else');
      return read.apply(this, args);
    });
    await expect(run('export', store, 'e1.0', image)).rejects.toThrow('exists already');
    expect(await readFile(image, 'utf8')).toBe('of somebody else');
    expect((await readdir(directory.path)).sort()).toEqual(['disk.img', 'raw', 'store']);
    await (await openCasStore(store)).close();
  });
});
