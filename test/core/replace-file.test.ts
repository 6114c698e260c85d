import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { replaceFile } from '../../src/core/replace-file.ts';
import { watchSyncs } from '../support/tools.ts';

describe('replaceFile', () => {
  let root: string;
  let path: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'aoe-replace-'));
    path = join(root, 'a');
  });
  afterEach(() => rm(root, { recursive: true }));

  it('puts a new file in the place of the old one, with the rights it is given', async () => {
    await writeFile(path, 'a long old text', { mode: 0o600 });
    await writeFile(`${path}.aoe-server.tmp`, 'what a crash has left, even longer', {
      mode: 0o666,
    });
    const { ino } = await stat(path);
    await replaceFile(path, 'new', { mode: 0o640 });
    expect(await readFile(path, 'utf8')).toBe('new');
    const replaced = await stat(path);
    expect(replaced.ino).not.toBe(ino);
    expect(replaced.mode & 0o7777).toBe(0o640);
    expect(await readdir(root)).toEqual(['a']);
  });

  it('makes the content durable before it has the name, and then the name', async () => {
    const synced: [string, string, string][] = [];
    await writeFile(path, 'old');
    await watchSyncs(async (one) => {
      const content = one === root ? '' : await readFile(one, 'utf8');
      synced.push([one, content, await readFile(path, 'utf8')]);
    });
    await replaceFile(path, 'new', { mode: 0o600 });
    vi.restoreAllMocks();
    expect(synced).toEqual([
      [`${path}.aoe-server.tmp`, 'new', 'old'],
      [root, '', 'new'],
    ]);
  });

  it.skipIf(process.getuid?.() !== 0)('gives it to its owner (as root)', async () => {
    await replaceFile(path, 'new', { mode: 0o600, owner: { uid: 12_345, gid: 54_321 } });
    expect(await stat(path)).toMatchObject({ uid: 12_345, gid: 54_321 });
  });

  it('leaves the old one when the new one cannot be written', async () => {
    await writeFile(path, 'old');
    await symlink('elsewhere', `${path}.aoe-server.tmp`);
    await expect(replaceFile(path, 'new', { mode: 0o600 })).rejects.toThrow('ELOOP');
    expect(await readFile(path, 'utf8')).toBe('old');
    expect((await readdir(root)).sort()).toEqual(['a', 'a.aoe-server.tmp']);
  });

  it('leaves nothing beside what it cannot replace, nor touches the files of others', async () => {
    await mkdir(path);
    await writeFile(`${path}.tmp`, 'notes');
    await expect(replaceFile(path, 'new', { mode: 0o600 })).rejects.toThrow('EISDIR');
    expect((await readdir(root)).sort()).toEqual(['a', 'a.tmp']);
    expect(await readFile(`${path}.tmp`, 'utf8')).toBe('notes');
  });
});
