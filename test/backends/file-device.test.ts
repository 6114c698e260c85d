import { spawn } from 'node:child_process';
import {
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openHostDevice } from '../../src/backends/device.ts';
import { openFileDevice } from '../../src/backends/file.ts';
import { FileDevice } from '../../src/backends/file-device.ts';
import { FileIo, FileMode } from '../../src/backends/file-io.ts';
import { BlockOp, BlockRequest } from '../../src/core/block-device.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { native } from '../../src/native.ts';
import { pattern } from '../conformance/block-device.ts';
import { createFile, ExportedFile, LoopDevice, STORAGE_TOOLS } from '../faults/storage.ts';
import { describeWith, disposeAll, run, waitUntil } from '../support/tools.ts';

const PAGE = 4096;

describe('FileDevice', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync('/var/tmp/aoe-file-device-');
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it.each([
    { uring: true, direct: false, covers: true },
    { uring: true, direct: true, covers: false },
    { uring: false, direct: false, covers: false },
  ])('lets a flush cover what runs before it ($uring, $direct)', async (options) => {
    const io = new FileIo(2, options.uring);
    const image = { sizeBytes: PAGE, offsetBytes: 0, lengthBytes: undefined };
    const path = join(folder, 'image');
    const device = openFileDevice(io, { ...image, path, direct: options.direct }, false);
    const memory = io.registerMemory(native.allocateSlab(2 * PAGE));
    const order: BlockRequest[] = [];
    const write = new BlockRequest(0, memory, 0);
    const flush = new BlockRequest(1, memory, PAGE);
    write.op = BlockOp.write;
    write.length = PAGE;
    flush.op = BlockOp.flush;
    const ended = new Promise<void>((resolve) => {
      for (const request of [write, flush]) {
        request.completer = { completed: (one) => order.push(one) === 2 && resolve() };
      }
    });
    device.submit(write);
    expect(device.flushCovers(write)).toBe(options.covers);
    device.submit(flush);
    device.kick();
    expect(device.flushCovers(write)).toBe(false);
    await ended;
    if (options.covers) expect(order).toEqual([write, flush]);
    await device.close();
    io.close();
  });

  it('refuses a FIFO, and does not wait for somebody who writes to it', async () => {
    const path = join(folder, 'fifo');
    await run('mkfifo', [path]);
    // A wait would end then, and be seen.
    const writer = spawn('sh', ['-c', 'sleep 20; : > "$0"', path], { detached: true });
    const io = new FileIo(1);
    const image = { path, sizeBytes: undefined, offsetBytes: 0, lengthBytes: undefined };
    const startMs = performance.now();
    expect(() => openFileDevice(io, { ...image, direct: false }, true)).toThrow(
      'not a regular file',
    );
    expect(performance.now() - startMs).toBeLessThan(10_000);
    process.kill(-(writer.pid as number));
    io.close();
  });
});

/** Descriptors of this process that `path` was opened by. */
function descriptorsOf(path: string): number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path ? Number(fd) : [];
    } catch {
      // It was that of the directory.
      return [];
    }
  });
}

function isGone(fd: number): boolean {
  try {
    fstatSync(fd);
    return false;
  } catch {
    return true;
  }
}

describeWith(STORAGE_TOOLS, 'a FileDevice whose storage is gone', () => {
  it('lets go of its file and its lock all the same', async () => {
    const folder = mkdtempSync('/var/tmp/aoe-file-device-');
    const [below, path] = [join(folder, 'below'), join(folder, 'image')];
    await createFile(below, PAGE);
    const node = { driver: 'file', 'node-name': 'top', filename: below };
    const storage = await ExportedFile.create(path, [node]);
    const io = new FileIo(1);
    const image = { path, sizeBytes: undefined, offsetBytes: 0, lengthBytes: undefined };
    const device = openFileDevice(io, { ...image, direct: false }, false);
    const descriptors = descriptorsOf(path);
    expect(descriptors).toHaveLength(2);
    await storage.die();
    await waitUntil('the file cannot be asked', () => descriptors.every(isGone));
    await expect(device.close()).rejects.toThrow('ENOTCONN');
    expect(descriptorsOf(path)).toEqual([]);
    io.close();
    await storage[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });
});

/** More than a loop device takes requests, and than one file has in flight. */
const MANY = 250;
const GAP = 16 * PAGE;
const HANG_SECONDS = 5;
const AT_ONCE_MS = 1000;
/** Each asks for less than is tried of one file; half of that is less than the disk takes. */
const OTHERS = 16;
const EACH = 14;
/** After this it must have been seen that nothing goes on. */
const STUCK_MS = 300;

/** How long `work` keeps the thread, in milliseconds. */
function timeOf(work: () => void): number {
  const startMs = performance.now();
  work();
  return performance.now() - startMs;
}

describeWith(STORAGE_TOOLS, 'a FileDevice whose storage hangs', () => {
  let folder: string;
  let storage: ExportedFile;
  let loop: LoopDevice | undefined;
  let io: FileIo;
  let device: FileDevice;
  const parts: FileDevice[] = [];
  const content = pattern(MANY * GAP, 1);

  beforeEach(async () => {
    folder = mkdtempSync('/var/tmp/aoe-file-device-');
    const below = join(folder, 'below');
    writeFileSync(below, content);
    const node = { driver: 'file', 'node-name': 'top', filename: below };
    storage = await ExportedFile.create(join(folder, 'disk'), [node]);
    io = new FileIo(MANY);
  });
  afterEach(async () => {
    storage.goOn();
    await device.close();
    io.close();
    await disposeAll(loop, storage);
    loop = undefined;
    rmSync(folder, { recursive: true });
  });

  /** One of several users of the whole disk. */
  function openPart(index: number): DeviceClient {
    device = new FileDevice(io, {
      fd: openSync((loop as LoopDevice).path, 'r'),
      mode: FileMode.buffered,
      offsetBytes: 0,
      capabilities: { readOnly: true, trim: false, trimZeroes: false },
      measure: () => content.length,
    });
    parts.push(device);
    const memory = io.registerMemory(native.allocateSlab(EACH * PAGE));
    return new DeviceClient(device, memory, PAGE, index * EACH);
  }

  async function openDisk(): Promise<DeviceClient> {
    loop = await LoopDevice.attach(storage.path);
    device = openHostDevice(io, { path: loop.path, direct: false }, false);
    const memory = io.registerMemory(native.allocateSlab(MANY * PAGE));
    return new DeviceClient(device, memory, PAGE, 0);
  }

  it('does not hold up the thread, however many reads wait for it', async () => {
    const client = await openDisk();
    storage.hangFor(HANG_SECONDS);
    const reads: Promise<Buffer>[] = [];
    const heldMs = timeOf(() => {
      for (let page = 0; page < MANY; page++) reads.push(client.read(page * GAP, PAGE));
    });
    expect(heldMs).toBeLessThan(AT_ONCE_MS);
    storage.goOn();
    (await Promise.all(reads)).forEach((read, page) => {
      expect(read.equals(content.subarray(page * GAP, page * GAP + PAGE))).toBe(true);
    });
  });

  it('does not hold up the thread when others on the same disk keep that busy', async () => {
    loop = await LoopDevice.attach(storage.path);
    const clients = Array.from({ length: OTHERS }, (_, index) => openPart(index));
    const read = (place: number) =>
      clients.map((client, index) => client.read((index * EACH + place) * GAP, PAGE));
    storage.hangFor(HANG_SECONDS);
    const reads = Array.from({ length: EACH / 2 }, (_, place) => read(place)).flat();
    await sleep(STUCK_MS);
    const heldMs = timeOf(() => {
      for (let place = EACH / 2; place < EACH; place++) reads.push(...read(place));
    });
    expect(heldMs).toBeLessThan(AT_ONCE_MS);
    storage.goOn();
    await Promise.all(reads);
    for (const part of parts.splice(0)) await part.close();
  });

  it('does not hold up the thread by being closed', async () => {
    const image = { path: storage.path, sizeBytes: undefined, offsetBytes: 0 };
    device = openFileDevice(io, { ...image, lengthBytes: undefined, direct: false }, true);
    storage.hangFor(HANG_SECONDS);
    let closed: Promise<void> | undefined;
    const heldMs = timeOf(() => {
      closed = device.close();
    });
    expect(heldMs).toBeLessThan(AT_ONCE_MS);
    storage.goOn();
    await closed;
  });
});
