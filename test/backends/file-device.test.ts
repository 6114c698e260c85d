import { spawn } from 'node:child_process';
import {
  fstatSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { whenOpens } from '../../src/backends/answer.ts';
import { openHostDevice } from '../../src/backends/device.ts';
import { openFileDevice } from '../../src/backends/file.ts';
import { FileDevice } from '../../src/backends/file-device.ts';
import { FileIo, FileMode } from '../../src/backends/file-io.ts';
import { seldomTasks } from '../../src/backends/file-tasks.ts';
import { openMemoryDevice } from '../../src/backends/memory.ts';
import { BlockOp, BlockRequest } from '../../src/core/block-device.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { native } from '../../src/native.ts';
import { pattern } from '../conformance/block-device.ts';
import { createFile, ExportedFile, LoopDevice, STORAGE_TOOLS } from '../faults/storage.ts';
import {
  describeWith,
  descriptorsOf,
  disposeAll,
  run,
  TempDirectory,
  waitUntil,
} from '../support/tools.ts';

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
    { uring: false, direct: false, covers: true },
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

  it('leaves the access time alone: a read would wait for the disk to change it', async () => {
    const io = new FileIo(1);
    const path = join(folder, 'image');
    const image = { path, sizeBytes: PAGE, offsetBytes: 0, lengthBytes: undefined };
    const device = openFileDevice(io, { ...image, direct: false }, false);
    const memory = io.registerMemory(native.allocateSlab(PAGE));
    const client = new DeviceClient(device, memory, PAGE, 0);
    await client.write(0, pattern(PAGE, 1));
    utimesSync(path, 1, 2);
    expect(await client.read(0, PAGE)).toEqual(pattern(PAGE, 1));
    expect(statSync(path).atimeMs).toBe(1000);
    await device.close();
    io.close();
  });

  it('grows with its file when it is looked at, and never shrinks', async () => {
    const io = new FileIo(1);
    const path = join(folder, 'image');
    const image = { path, sizeBytes: PAGE, offsetBytes: 0, lengthBytes: undefined };
    const device = openFileDevice(io, { ...image, direct: false }, false);
    for (const [fileBytes, isNews] of [
      [2 * PAGE, true],
      [2 * PAGE + 100, false],
      [PAGE, false],
    ] as const) {
      truncateSync(path, fileBytes);
      expect(device.refresh()).toBe(isNews);
      expect(device.sizeBytes).toBe(2 * PAGE);
    }
    await device.close();
    io.close();
  });

  it('has no more of its file than the part that it was given', async () => {
    const io = new FileIo(1);
    const path = join(folder, 'image');
    const part = { path, sizeBytes: 3 * PAGE, offsetBytes: PAGE, lengthBytes: PAGE, direct: false };
    const device = openFileDevice(io, part, false);
    truncateSync(path, 4 * PAGE);
    expect(device.refresh()).toBe(false);
    expect(device.sizeBytes).toBe(PAGE);
    const beyond = { ...part, offsetBytes: 3 * PAGE, lengthBytes: 2 * PAGE };
    expect(() => openFileDevice(io, beyond, false)).toThrow('ends before the target does');
    await device.close();
    io.close();
  });

  it('keeps its image from others until its file is closed', async () => {
    const io = new FileIo(1);
    const path = join(folder, 'image');
    const image = { path, sizeBytes: PAGE, offsetBytes: 0, lengthBytes: undefined, direct: false };
    const device = openFileDevice(io, image, false);
    let end = (_result: number) => {};
    const flushed = vi.spyOn(seldomTasks, 'flush').mockReturnValueOnce(
      new Promise((resolve) => {
        end = resolve;
      }),
    );
    const closed = device.close();
    await sleep(0);
    expect(() => openFileDevice(io, image, false)).toThrow('holds data of another target');
    end(0);
    await closed;
    await openFileDevice(io, image, false).close();
    flushed.mockRestore();
    io.close();
  });

  it.each([{ kicks: false }, { kicks: true }])(
    'runs what those submit who are told of an end (and kick it: $kicks)',
    async ({ kicks }) => {
      const io = new FileIo(5);
      const device = openMemoryDevice(io, PAGE, false);
      const memory = io.registerMemory(native.allocateSlab(PAGE));
      const ended: number[] = [];
      const requests = Array.from({ length: 5 }, (_, index) => {
        const request = new BlockRequest(index, memory, 0);
        request.length = PAGE;
        request.completer = { completed: () => ended.push(index) };
        return request;
      }) as [BlockRequest, ...BlockRequest[]];
      requests[0].completer = {
        completed: () => {
          ended.push(0);
          for (const request of requests.slice(3)) device.submit(request);
          if (kicks) device.kick();
        },
      };
      for (const request of requests.slice(0, 3)) device.submit(request);
      device.kick();
      expect(ended).toEqual([0, 1, 2, 3, 4]);
      await device.close();
      io.close();
    },
  );

  it('lets go of a file that it cannot use, and of its lock', async () => {
    const io = new FileIo(1);
    const path = join(folder, 'image');
    writeFileSync(path, Buffer.alloc(PAGE));
    const image = { path, sizeBytes: undefined, offsetBytes: PAGE, lengthBytes: undefined };
    expect(() => openFileDevice(io, { ...image, direct: false }, false)).toThrow('ends before');
    expect(descriptorsOf(path)).toEqual([]);
    const whole = openFileDevice(io, { ...image, offsetBytes: 0, direct: false }, false);
    await whole.close();
    expect(() => openHostDevice(io, { path, direct: false }, false)).toThrow('not a block device');
    await whenOpens(path);
    expect(descriptorsOf(path)).toEqual([]);
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

function isGone(fd: number): boolean {
  try {
    fstatSync(fd);
    return false;
  } catch {
    return true;
  }
}

const HANG_SECONDS = 5;
const AT_ONCE_MS = 1000;

describeWith(['losetup'], 'a device', () => {
  it.each([
    { blockBytes: 512, trims: true },
    { blockBytes: 4096, trims: false },
  ])('trims if it can trim a single sector (blocks of $blockBytes bytes)', async (options) => {
    const { blockBytes, trims } = options;
    await using directory = await TempDirectory.create();
    await createFile(directory.join('below'), 2 ** 20);
    const blocks = ['--sector-size', `${blockBytes}`];
    await using loop = await LoopDevice.attach(directory.join('below'), ...blocks);
    const io = new FileIo(1);
    const device = openHostDevice(io, { path: loop.path, direct: false }, false);
    expect(device.capabilities.trim).toBe(trims);
    await device.close();
    io.close();
  });
});

describeWith(STORAGE_TOOLS, 'a FileDevice on a file system that a program serves', () => {
  let folder: string;
  let path: string;
  let storage: ExportedFile;
  let io: FileIo;

  beforeEach(async () => {
    folder = mkdtempSync('/var/tmp/aoe-file-device-');
    path = join(folder, 'image');
    await createFile(join(folder, 'below'), PAGE);
    storage = await ExportedFile.of(join(folder, 'below'), path);
    io = new FileIo(1);
  });
  afterEach(async () => {
    io.close();
    await storage[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  function openImage(readOnly: boolean): FileDevice {
    const image = { path, sizeBytes: undefined, offsetBytes: 0, lengthBytes: undefined };
    return openFileDevice(io, { ...image, direct: false }, readOnly);
  }

  it('lets go of its file and its lock all the same when that one is gone', async () => {
    const device = openImage(false);
    const descriptors = descriptorsOf(path);
    expect(descriptors).toHaveLength(2);
    await storage.die();
    await waitUntil('the file cannot be asked', () => descriptors.every(isGone));
    await expect(device.close()).rejects.toThrow('ENOTCONN');
    expect(descriptorsOf(path)).toEqual([]);
  });

  it('does not hold up the thread by being closed while that one hangs', async () => {
    const device = openImage(true);
    storage.hangFor(HANG_SECONDS);
    const startMs = performance.now();
    const closed = device.close();
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
    storage.goOn();
    await closed;
  });

  it('does not hold up the thread by giving its lock back while that one hangs', async () => {
    const device = openImage(true);
    const close = seldomTasks.close.bind(seldomTasks);
    // There are two descriptors: that of the lock is the last one.
    vi.spyOn(seldomTasks, 'close').mockImplementationOnce(async (fd) => {
      const result = await close(fd);
      storage.hangFor(HANG_SECONDS);
      return result;
    });
    const startMs = performance.now();
    const closed = device.close();
    await sleep(STUCK_MS);
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
    storage.goOn();
    await closed;
    expect(descriptorsOf(path)).toEqual([]);
  });
});

/** More cold reads than a loop device takes. */
const READS = 250;
/** Each in a place of its own: none is read along with another. */
const GAP = 16 * PAGE;
/** After this the disk has been asked for whatever it takes. */
const STUCK_MS = 300;

describeWith(STORAGE_TOOLS, 'FileDevices on a disk that hangs', () => {
  let folder: string;
  let storage: ExportedFile;
  let loop: LoopDevice;
  let io: FileIo;
  let devices: FileDevice[];
  const content = pattern(READS * GAP, 1);

  beforeEach(async () => {
    folder = mkdtempSync('/var/tmp/aoe-file-device-');
    const below = join(folder, 'below');
    writeFileSync(below, content);
    storage = await ExportedFile.of(below, join(folder, 'disk'));
    loop = await LoopDevice.attach(storage.path);
    io = new FileIo(READS + 1);
  });
  afterEach(async () => {
    storage.goOn();
    for (const device of devices) await device.close();
    io.close();
    await disposeAll(loop, storage);
    rmSync(folder, { recursive: true });
  });

  /** Opens the disk for each of `counts`, who may then have so many requests in flight. */
  function open(...counts: number[]): DeviceClient[] {
    devices = counts.map(
      () =>
        new FileDevice(io, {
          fd: openSync(loop.path, 'r'),
          mode: FileMode.buffered,
          offsetBytes: 0,
          capabilities: { readOnly: true, trim: false, trimZeroes: false },
          measure: () => content.length,
        }),
    );
    let requestIndex = 0;
    return devices.map((device, user) => {
      const count = counts[user] as number;
      const memory = io.registerMemory(native.allocateSlab(count * PAGE));
      requestIndex += count;
      return new DeviceClient(device, memory, PAGE, requestIndex - count);
    });
  }

  it.each([1, 25])('do not hold up the thread with cold reads, being %i', async (userCount) => {
    const [cached, ...users] = open(1, ...Array(userCount).fill(READS / userCount)) as [
      DeviceClient,
      ...DeviceClient[],
    ];
    const readPage = async (client: DeviceClient, place: number) => {
      const data = await client.read(place * GAP, PAGE);
      expect(data.equals(content.subarray(place * GAP, place * GAP + PAGE))).toBe(true);
    };
    await readPage(cached, 0);
    storage.hangFor(HANG_SECONDS);
    const startMs = performance.now();
    const reads: Promise<void>[] = [];
    for (let place = 1; place < READS; place++) {
      reads.push(readPage(users[place % userCount] as DeviceClient, place));
    }
    await sleep(STUCK_MS);
    await readPage(cached, 0);
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS + STUCK_MS);
    storage.goOn();
    await Promise.all(reads);
  });
});
