import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { problemsOf, SERVER } from './samples.ts';

describe('storage shared by two targets', () => {
  const directory = mkdtempSync(join(tmpdir(), 'aoe-rules-'));
  const at = (name: string) => join(directory, name);

  beforeAll(() => {
    mkdirSync(at('real'));
    symlinkSync('real', at('link'));
    writeFileSync(at('real/disk.img'), '');
    linkSync(at('real/disk.img'), at('hard.img'));
    symlinkSync('real/disk.img', at('soft.img'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const collisions = (first: string, second: string) =>
    problemsOf(
      `${SERVER}${targetOn(0, first)}${targetOn(1, second)}`.replaceAll('@', `${directory}/`),
    ).map(({ line, key, message }) => `${line} ${key} ${message}`);

  it.each([
    ['the same path', 'file.path = "@a"', 'file.path = "@a"'],
    ['a path written differently', 'file.path = "@a"', 'file.path = "@real/../a"'],
    ['a symbolic link', 'file.path = "@real/disk.img"', 'file.path = "@soft.img"'],
    ['a hard link', 'file.path = "@real/disk.img"', 'file.path = "@hard.img"'],
    [
      'a linked directory, before the image exists',
      'file.path = "@real/b"',
      'file.path = "@link/b"',
    ],
    ['a missing directory', 'file.path = "@no/b"', 'file.path = "@no/b"'],
    ['one writer', 'read_only = true\nfile.path = "@a"', 'file.path = "@a"'],
    ['overlapping ranges', 'file={path="@a",length=1024}', 'file={path="@a",offset=512}'],
  ])('is refused for %s', (_, first, second) => {
    const line = 11 + first.split('\n').length;
    expect(collisions(first, second)).toEqual([
      `${line} target[1].file.path holds data of target e1.0 too`,
    ]);
  });

  it('is found within a page of which one target writes past the page cache', () => {
    const [first, second] = [
      'file={path="@a",length=4608}',
      'file={path="@a",offset=4608,direct=true}',
    ];
    expect(collisions(first, second)).toEqual([
      '12 target[1].file.path shares 4096 bytes with target e1.0, of which one is direct',
    ]);
    expect(collisions(first, `read_only = true\n${second}`)).toEqual([]);
    expect(collisions(first.replace('4608', '4096'), second)).toEqual([]);
    expect(collisions(first, second.replace('true', 'false'))).toEqual([]);
  });

  it('is found between two readers of a device, which is opened for one only', () => {
    const reader = 'read_only = true\ndevice.path = "/dev/null"';
    const [problem] = collisions(reader, reader);
    expect(problem).toBe('14 target[1].device.path holds data of target e1.0 too');
  });

  it('is found between a file and a device target', () => {
    const [problem] = collisions('file.path = "/dev/null"', 'device.path = "/dev/null"');
    expect(problem).toBe('12 target[1].device.path holds data of target e1.0 too');
  });

  it.each([
    ['different files', 'file.path = "@a"', 'file.path = "@b"'],
    [
      'ranges side by side',
      'file={path="@a",length=4096}',
      'file={path="@a",offset=4096,length=4096}',
    ],
    ['readers only', 'read_only = true\nfile.path = "@a"', 'read_only = true\nfile.path = "@a"'],
    ['memory', 'memory.size = 4096', 'memory.size = 4096'],
  ])('is no problem for %s', (_, first, second) => {
    expect(collisions(first, second)).toEqual([]);
  });

  it('is found between valid targets even if another one is wrong', () => {
    const storage = ['file.path = "a"', 'file.size = 1', 'file.path = "a"'];
    const text = SERVER + storage.map((line, slot) => targetOn(slot, line)).join('');
    expect(problemsOf(text).map(({ key }) => key)).toEqual([
      'target[1].file.path',
      'target[1].file.size',
      'target[2].file.path',
    ]);
  });
});

describe('a store that several threads would have open', () => {
  const store = 'cas={size=4096,blob_store={type="file",path="s"}}';
  const problems = (workers: number, ...storage: string[]) =>
    problemsOf(
      `${SERVER}workers = ${workers}\n${storage.map((line, slot) => targetOn(slot, line)).join('')}`,
    ).map(({ line, key, message }) => `${line} ${key} ${message}`);

  it('is refused', () => {
    const found = '3 server.workers cannot be, because e1.1 is in a content-addressed store';
    expect(problems(2, 'memory.size = 4096', store)).toEqual([found]);
    expect(problems(2, 'memory.size = 1', store, store)).toContain(found);
  });

  it('is no problem with one thread, nor are threads without it', () => {
    expect(problems(1, store)).toEqual([]);
    expect(problems(2, 'memory.size = 4096')).toEqual([]);
  });
});

describe('a warning', () => {
  const warnings = (server: string, target: string) => {
    const text = `${SERVER}${server}\n${target}`;
    return parseConfig(text, '/etc/aoe.toml', {}).warnings.map(
      ({ line, key, message, remedy }) => `${line} ${key} ${message}: ${remedy}`,
    );
  };

  it('is given for the shelf that Linux initiators refuse', () => {
    const target = targetOn(0, 'memory.size = 4096').replace('shelf = 1', 'shelf = 4095');
    expect(warnings('', target)).toEqual([
      '5 target[0].shelf is refused by Linux initiators: ' +
        'Choose another shelf, unless only other initiators use this target.',
    ]);
  });

  it.each([
    ['memory.size = 4608', 'memory.size', 'size = "8KiB"'],
    ['file = { path = "a", size = "1536" }', 'file.size', 'size = "4KiB"'],
    ['file = { path = "a", offset = 512 }', 'file.offset', 'offset = "4KiB"'],
    ['file = { path = "a", length = 512 }', 'file.length', 'length = "4KiB"'],
  ])('is given for %s, which is not a multiple of 4096', (line, key, remedy) => {
    expect(warnings('', targetOn(0, line))).toEqual([
      `8 target[0].${key} is not a multiple of 4096 bytes: ` +
        `Linux initiators then move single sectors, slowly. Better: ${remedy}`,
    ]);
  });

  it('is given for an initiator that only the target allows', () => {
    const target = targetOn(
      0,
      'allow = ["02:00:00:00:00:01", "02:00:00:00:00:02"]\nmemory.size = 4096',
    );
    expect(warnings('allow = ["02:00:00:00:00:01"]', target)).toEqual([
      '8 target[0].allow[1] is not answered, because server.allow leaves it out: ' +
        'Add "02:00:00:00:00:02" to server.allow, or remove it here.',
    ]);
    expect(warnings('', target)).toEqual([]);
  });
});

/** Four lines and those of `storage`, whose kind is the backend's name. */
function targetOn(slot: number, storage: string): string {
  const type = /(file|device|memory|cas)[.= ]/.exec(storage)?.[1];
  return `[[target]]\nshelf = 1\nslot = ${slot}\nbackend = "${type}"\n${storage}\n`;
}

describe('targets of one content-addressed store', () => {
  const volume = (slot: number, keys: string) =>
    `[[target]]\nshelf = 1\nslot = ${slot}\nbackend = "cas"\ncas.size = 4096\n` +
    `cas.blob_store = { type = "s3", path = "/b", bucket = "c"${keys} }\n`;

  it('may say the same about it', () => {
    expect(problemsOf(SERVER + volume(0, '') + volume(1, ''))).toEqual([]);
  });

  it('must not say different things about it', () => {
    const [problem] = problemsOf(SERVER + volume(0, '') + volume(1, ', durability = "remote"'));
    expect(problem?.key).toBe('target[1].cas.blob_store');
    expect(problem?.message).toContain('is not the same as that of target e1.0');
  });
});
