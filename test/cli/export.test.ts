import { readlinkSync, renameSync } from 'node:fs';
import {
  type FileHandle,
  open,
  readdir,
  readFile,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCasStore } from '../../src/backends/cas/index.ts';
import { seldomTasks } from '../../src/backends/file-tasks.ts';
import { createProgram } from '../../src/cli/program.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { native } from '../../src/native.ts';
import { TempDirectory } from '../support/tools.ts';

const [EIO, EINVAL] = [5, 22];

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

  it('says what helps where files cannot be locked, and leaves nothing that it made', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    const { lockFile } = native;
    vi.spyOn(native, 'lockFile').mockImplementation((fd) => {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith(store)) return lockFile(fd);
      throw new Error('flock: No locks available');
    });
    for (const left of [undefined, 'of a killed one, or of one that goes on']) {
      if (left !== undefined) await writeFile(`${image}.partial`, left);
      await expect(run('export', store, 'e1.0', image)).rejects.toMatchObject({
        message: `cannot lock ${image}.partial: flock: No locks available`,
        remedy: expect.stringContaining('that can lock files'),
      });
      const partial = await readFile(`${image}.partial`, 'utf8').catch(() => undefined);
      expect(partial).toBe(left);
    }
  });

  it('leaves an image that is whole when its folder cannot be synced, and says so', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    const synced = vi.spyOn(seldomTasks, 'flushDirectory').mockImplementation(async () => {
      // By now another export may make an image of this name.
      await writeFile(`${image}.partial`, 'of another export');
      return -EIO;
    });
    await expect(run('export', store, 'e1.0', image)).rejects.toMatchObject({
      message: expect.stringMatching(/disk.img is whole, but after a power cut .*EIO/),
      remedy: expect.stringContaining('keep what it was made from'),
    });
    expect(await readFile(image)).toEqual(Buffer.alloc(4096, 'x'));
    expect(await readFile(`${image}.partial`, 'utf8')).toBe('of another export');
    // A file system that has nothing of the kind.
    synced.mockResolvedValue(-EINVAL);
    await run('export', store, 'e1.0', directory.join('other.img'));
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

  it('does not replace a link that leads nowhere', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    await symlink('on a disk that is not mounted', image);
    await expect(run('export', store, 'e1.0', image)).rejects.toThrow('exists already');
    expect(await readlink(image)).toBe('on a disk that is not mounted');
  });
});

describe('an image that is exported', () => {
  it('is made by one at a time', async () => {
    await using directory = await TempDirectory.create();
    const [one, other, image] = ['one', 'other', 'disk.img'].map((name) => directory.join(name));
    for (const [store, content] of [
      [one, 'x'],
      [other, 'y'],
    ] as const) {
      await writeFile(directory.join('raw'), Buffer.alloc(3 << 20, content));
      await run('import', directory.join('raw'), store as string, 'e1.0');
    }
    const { read } = DeviceClient.prototype;
    let second: unknown;
    vi.spyOn(DeviceClient.prototype, 'read').mockImplementationOnce(async function (
      this: DeviceClient,
      ...args
    ) {
      second = await run('export', other as string, 'e1.0', image as string).catch(
        (error: unknown) => error,
      );
      return read.apply(this, args);
    });
    await run('export', one as string, 'e1.0', image as string);
    expect(second).toMatchObject({ message: `another export makes ${image}.partial` });
    expect((await readFile(image as string)).equals(Buffer.alloc(3 << 20, 'x'))).toBe(true);
    expect((await readdir(directory.path)).sort()).toEqual(['disk.img', 'one', 'other', 'raw']);
  });

  it('is left alone by who opened it just before it got its name', async () => {
    await using directory = await TempDirectory.create();
    const [store, image] = [directory.join('store'), directory.join('disk.img')];
    await writeFile(directory.join('raw'), Buffer.alloc(4096, 'x'));
    await run('import', directory.join('raw'), store, 'e1.0');
    await writeFile(`${image}.partial`, 'an image');
    const { lockFile } = native;
    vi.spyOn(native, 'lockFile')
      .mockImplementationOnce(lockFile)
      .mockImplementationOnce((fd) => {
        renameSync(`${image}.partial`, directory.join('made.img'));
        return lockFile(fd);
      });
    await expect(run('export', store, 'e1.0', image)).rejects.toThrow('another export makes');
    expect(await readFile(directory.join('made.img'), 'utf8')).toBe('an image');
  });
});
