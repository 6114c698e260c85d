import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFileDevice } from '../../src/backends/file.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import { BlockOp, BlockRequest } from '../../src/core/block-device.ts';
import { native } from '../../src/native.ts';

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
});
