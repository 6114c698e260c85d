import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { native } from '../../src/native.ts';
import { createFile, ExportedFile, Ext4, STORAGE_TOOLS } from '../faults/storage.ts';
import { describeWith, disposeAll, TempDirectory, waitUntil } from '../support/tools.ts';

const PROGRAM = join(import.meta.dirname, 'addon.mjs');
const MIB = 1 << 20;
const HANG_SECONDS = 10;
/** Until then a thread of the kernel has started the write. */
const STARTED_MS = 500;

/** Does this process get the lock? It is given back at once. */
function isFree(path: string): boolean {
  const fd = openSync(path, 'r+');
  const lock = native.lockImage(fd);
  if (lock !== undefined) native.unlockImage(lock);
  closeSync(fd);
  return lock !== undefined;
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
    await sleep(STARTED_MS);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(isFree(image)).toBe(false);
    storage.goOn();
    await waitUntil('the lock is free', () => isFree(image));
  });
});
