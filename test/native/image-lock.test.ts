import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, linkSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../src/native.ts';
import { createFile, ExportedFile, Ext4, STORAGE_TOOLS } from '../faults/storage.ts';
import { describeWith, disposeAll, run, TempDirectory, waitUntil } from '../support/tools.ts';

const PROGRAM = join(import.meta.dirname, 'addon.mjs');
const MIB = 1 << 20;
const HANG_SECONDS = 10;

function unlock(lock: number): void {
  const last = lock > 0 ? native.unlockImage(lock) : -1;
  if (last >= 0) closeSync(last);
}

/** Does this process get the lock? It is given back at once. */
function isFree(path: string): boolean {
  const fd = openSync(path, 'r+');
  const lock = native.lockImage(fd, 0, 4096, true);
  unlock(lock);
  closeSync(fd);
  return lock > 0;
}

/** Has the kernel begun to write to a disk for this process? */
function hasWritten({ pid }: ChildProcess): boolean {
  const bytes = readFileSync(`/proc/${pid}/io`, 'utf8').match(/^write_bytes: (\d+)$/m)?.[1];
  return Number(bytes) > 0;
}

describeWith(STORAGE_TOOLS, 'the lock of an image', () => {
  let directory: TempDirectory;
  let storage: ExportedFile;
  let ext4: Ext4;
  let image: string;
  let holder: ChildProcessWithoutNullStreams | undefined;

  beforeEach(async () => {
    directory = await TempDirectory.create();
    await createFile(directory.join('below'), 32 * MIB);
    storage = await ExportedFile.of(directory.join('below'), directory.join('disk'));
    ext4 = await Ext4.create(storage.path, directory.join('mnt'));
    image = directory.join('mnt', 'disk.img');
    writeFileSync(image, Buffer.alloc(MIB, 1), { flush: true });
  });
  afterEach(async () => {
    storage.goOn();
    holder?.kill('SIGKILL');
    await disposeAll(ext4, storage, directory);
  });

  it('outlives its holder for as long as a write of it is on the way', async () => {
    storage.hangFor(HANG_SECONDS);
    holder = spawn(process.execPath, [PROGRAM, 'hold', image]);
    const [ended] = await once(holder.stdout, 'data');
    expect(`${ended}`).toBe('0\n');
    await waitUntil('the write is on the way', () => hasWritten(holder as ChildProcess));
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(isFree(image)).toBe(false);
    storage.goOn();
    await waitUntil('the lock is free', () => isFree(image));
  });
});

describe('the lock of a part of an image', () => {
  it.each([
    { what: 'a part that overlaps it', start: 0, end: 4097, writes: false, isFree: false },
    {
      what: 'all that is behind its start',
      start: 4096,
      end: Infinity,
      writes: true,
      isFree: false,
    },
    { what: 'what is before it', start: 0, end: 4096, writes: true, isFree: true },
    { what: 'what is behind it', start: 8192, end: Infinity, writes: true, isFree: true },
  ])('lets others here have $what: $isFree', async ({ start, end, writes, isFree }) => {
    await using directory = await TempDirectory.create();
    writeFileSync(directory.join('disk.img'), '');
    linkSync(directory.join('disk.img'), directory.join('other.img'));
    const fd = openSync(directory.join('disk.img'), 'r+');
    const other = openSync(directory.join('other.img'), 'r+');
    const held = native.lockImage(fd, 4096, 8192, true);
    expect(held).toBeGreaterThan(0);
    const lock = native.lockImage(other, start, end, writes);
    expect(lock > 0).toBe(isFree);
    expect(native.lockImage(other, 4096, 8192, true)).toBe(-1);
    unlock(lock);
    unlock(held);
    closeSync(fd);
    const again = native.lockImage(other, start, end, writes);
    expect(again).toBeGreaterThan(0);
    unlock(again);
    closeSync(other);
  });

  it('is given back by who closes the last descriptor, and can wait for that', async () => {
    await using directory = await TempDirectory.create();
    const image = directory.join('disk.img');
    writeFileSync(image, '');
    const fd = openSync(image, 'r+');
    const locks = [0, 512].map((start) => native.lockImage(fd, start, start + 512, true));
    closeSync(fd);
    const [first, last] = locks.map((lock) => native.unlockImage(lock)) as [number, number];
    expect(first).toBe(-1);
    expect(isFree(image)).toBe(false);
    closeSync(last);
    expect(isFree(image)).toBe(true);
  });

  it('lets several have it who only read', async () => {
    await using directory = await TempDirectory.create();
    writeFileSync(directory.join('disk.img'), '');
    const fd = openSync(directory.join('disk.img'), 'r');
    const locks = [1, 2].map(() => native.lockImage(fd, 0, Infinity, false));
    expect(Math.min(...locks)).toBeGreaterThan(0);
    expect(native.lockImage(fd, 0, 512, true)).toBe(-1);
    for (const lock of locks) unlock(lock);
    closeSync(fd);
  });
});

describe('the lock of an image on NFS', () => {
  let directory: TempDirectory;
  let image: string;
  let library: string;
  let programs: ChildProcessWithoutNullStreams[];

  beforeEach(async () => {
    directory = await TempDirectory.create();
    [image, library] = [directory.join('disk.img'), directory.join('nfs-lock.so')];
    programs = [];
    writeFileSync(image, '');
    const source = join(import.meta.dirname, 'nfs-lock.c');
    await run('cc', ['-Wall', '-shared', '-fPIC', '-o', library, source, '-ldl']);
  });
  afterEach(async () => {
    await Promise.all(programs.map(end));
    await directory[Symbol.asyncDispose]();
  });

  function start(): ChildProcessWithoutNullStreams {
    // Behind what is preloaded already, as a sanitizer is.
    const preloaded = [process.env['LD_PRELOAD'], library].filter(Boolean).join(':');
    const env = { ...process.env, LD_PRELOAD: preloaded };
    const program = spawn(process.execPath, [PROGRAM, 'lockSectors', image], { env });
    programs.push(program);
    return program;
  }

  /** Does it get the lock of its next sector? */
  async function locks(program: ChildProcessWithoutNullStreams, mode: 'r' | 'w') {
    program.stdin.write(mode);
    const [lock] = await once(program.stdout, 'data');
    return Number(lock) > 0;
  }

  async function end(program: ChildProcessWithoutNullStreams): Promise<void> {
    if (program.exitCode !== null) return;
    program.stdin.end();
    await once(program, 'exit');
  }

  it('keeps writers off who only reads', async () => {
    const writer = openSync(image, 'r+');
    const lock = native.lockImage(writer, 0, 4096, true);
    const reader = start();
    expect(await locks(reader, 'r')).toBe(false);
    unlock(lock);
    closeSync(writer);
    expect(await locks(reader, 'r')).toBe(true);
    expect(isFree(image)).toBe(false);
  });

  it('lets one process write, though it was locked to read first', async () => {
    const [first, second] = [start(), start()];
    for (const program of [first, second, first]) expect(await locks(program, 'r')).toBe(true);
    for (const program of [first, second]) expect(await locks(program, 'w')).toBe(false);
    await end(second);
    expect(isFree(image)).toBe(false);
    for (const mode of ['w', 'r', 'w'] as const) expect(await locks(first, mode)).toBe(true);
    const third = start();
    for (const mode of ['r', 'w'] as const) expect(await locks(third, mode)).toBe(false);
    await end(first);
    for (const mode of ['r', 'w'] as const) expect(await locks(third, mode)).toBe(true);
  });
});
