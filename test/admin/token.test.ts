import { readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Token } from '../../src/admin/token.ts';
import { TempDirectory } from '../support/tools.ts';

let directory: TempDirectory;
let path: string;

beforeEach(async () => {
  directory = await TempDirectory.create();
  path = directory.join('token');
});
afterEach(() => directory[Symbol.asyncDispose]());

describe('the token', () => {
  it('is made at random, for its owner only, and kept', async () => {
    const made = await Token.load(path);
    const text = await readFile(path, 'utf8');
    expect(text).toMatch(/^[\w-]{43}\n$/);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const kept = await Token.load(path);
    for (const token of [made, kept]) expect(token.isIn(`Bearer ${text.trim()}`)).toBe(true);
    expect(await readFile(path, 'utf8')).toBe(text);
    await Token.load(directory.join('other'));
    expect(await readFile(directory.join('other'), 'utf8')).not.toBe(text);
  });

  it('may be chosen by the operator', async () => {
    const text = 'chosen-by-the-operator-with-much-care';
    await writeFile(path, `  ${text}\n`);
    const token = await Token.load(path);
    expect(token.isIn(`bearer  ${text}`)).toBe(true);
    for (const wrong of [
      '',
      text,
      'Bearer',
      `Bearer ${text}x`,
      `Bearer ${text} x`,
      `Basic ${text}`,
    ])
      expect(token.isIn(wrong), wrong).toBe(false);
  });

  it('is refused when it could be guessed', async () => {
    for (const text of ['', 'secret\n', `${'x'.repeat(31)}\n`]) {
      await writeFile(path, text);
      await expect(Token.load(path)).rejects.toThrow(/shorter than 32 characters/);
    }
  });

  it('is refused when no header could carry it', async () => {
    for (const text of ['correct horse battery staple, and then some', 'ä'.repeat(40)]) {
      await writeFile(path, `${text}\n`);
      await expect(Token.load(path)).rejects.toThrow(/has a space in it, or a character that is/);
    }
  });

  it('is not read through a link, nor from what is no file', async () => {
    await writeFile(directory.join('elsewhere'), 'x'.repeat(40));
    await symlink(directory.join('elsewhere'), path);
    await expect(Token.load(path)).rejects.toThrow(/cannot use the token file .*ELOOP/);
    await expect(Token.load(directory.path)).rejects.toThrow(/cannot use the token file .*EISDIR/);
    await expect(Token.load(directory.join('no', 'token'))).rejects.toThrow(/ENOENT/);
  });
});
