import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeDirectory } from '../../src/core/directories.ts';
import { watchSyncs } from '../support/tools.ts';

describe('makeDirectory', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'aoe-directories-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('makes what is missing, for this user alone, by an absolute path or another', async () => {
    for (const path of [join(root, 'a/b'), relative(process.cwd(), join(root, 'c/d/e'))]) {
      await makeDirectory(path);
      await makeDirectory(path);
      for (const made of [path, join(path, '..')]) {
        expect((await stat(made)).mode & 0o777).toBe(0o700);
      }
    }
  });

  it('makes the names durable of what it makes, and of nothing else', async () => {
    const synced: string[] = [];
    await watchSyncs(async (path) => void synced.push(relative(root, path)));
    for (const path of ['a/b/c', 'a/b/c', 'a/d']) await makeDirectory(join(root, path));
    vi.restoreAllMocks();
    expect(synced).toEqual(['', 'a', 'a/b', 'a']);
  });

  it('fails where there is a file, or where nothing can be made', async () => {
    const file = join(root, 'file');
    await writeFile(file, '');
    await expect(makeDirectory(file)).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeDirectory(join(file, 'a/b'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeDirectory('/proc/aoe/store')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
