import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFileDevice } from '../../src/backends/file.ts';
import type { FileDevice } from '../../src/backends/file-device.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import { BlockOp, BlockRequest } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import type { DeviceClient } from '../../src/core/device-client.ts';
import type { Memory } from '../../src/core/memory.ts';
import { native } from '../../src/native.ts';
import { clientOf, pattern, REQUEST_COUNT } from '../conformance/block-device.ts';
import { run } from '../support/tools.ts';

const MIB = 1 << 20;
const PAGE = 4096;

/** On a disk: in memory no operation waits, and none of these engines is used. */
const FOLDER = '/var/tmp/aoe-file-ring-';

/** The turn that each thread of this process asks for, as far as the kernel tells. */
function slicesNs(): number[] {
  return readdirSync('/proc/self/task').flatMap((thread) => {
    const text = readFileSync(`/proc/self/task/${thread}/sched`, 'utf8');
    return [...text.matchAll(/^se\.slice +: +(\d+)$/gm)].map(([, slice]) => Number(slice));
  });
}

for (const [uring, direct] of [
  [true, false],
  [true, true],
  [false, false],
  [false, true],
] as const) {
  const engine = uring ? 'io_uring' : 'threads';

  describe(`file I/O on ${engine}${direct ? ', past the page cache' : ''}`, () => {
    let folder: string;
    let path: string;
    let io: FileIo;
    let device: FileDevice;
    let client: DeviceClient;

    beforeEach(() => {
      folder = mkdtempSync(FOLDER);
      path = join(folder, 'disk.img');
      io = new FileIo(2 * REQUEST_COUNT, uring);
      const image = { path, sizeBytes: 4 * MIB, offsetBytes: 0, lengthBytes: undefined, direct };
      device = openFileDevice(io, image, false);
      client = clientOf(device, io);
    });
    afterEach(async () => {
      io.close();
      await device.close();
      rmSync(folder, { recursive: true });
    });

    it('uses the engine that it was asked for', () => {
      expect(io.engine).toBe(engine);
    });

    it.skipIf(slicesNs().length === 0)(
      'has its operations done by threads whose turns are short',
      async () => {
        await client.write(0, pattern(4096, 1));
        await client.flush();
        expect(slicesNs()).toContain(100_000);
      },
    );

    it('fails a read beyond the end of a file that was cut, and reads what is left', async () => {
      await client.write(0, pattern(8192, 1));
      truncateSync(path, 4096);
      await expect(client.read(4096, 4096)).rejects.toMatchObject({ code: 'ioError' });
      await expect(client.read(0, 8192)).rejects.toMatchObject({ code: 'ioError' });
      expect(await client.read(0, 4096)).toEqual(pattern(8192, 1).subarray(0, 4096));
    });

    it('goes on after many reads that failed', async () => {
      truncateSync(path, 0);
      const reads = Array.from({ length: 200 }, (_, index) => client.read(4096 * index, 4096));
      const outcomes = await Promise.allSettled(reads);
      expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
      truncateSync(path, 4 * MIB);
      expect(await client.read(0, 4096)).toEqual(Buffer.alloc(4096));
    });

    it('reads what has been cached for long, and is cached no more', async () => {
      const data = pattern(4 * MIB, 1);
      for (let at = 0; at < data.length; at += MIB) {
        await client.write(at, data.subarray(at, at + MIB));
      }
      await client.flush();
      const readAll = async () => {
        for (let at = 0; at < data.length; at += 4096) {
          const expected = data.subarray(at, at + 4096);
          if (!expected.equals(await client.read(at, 4096))) throw new Error(`at ${at}`);
        }
      };
      await readAll();
      await run('dd', [`if=${path}`, 'iflag=nocache', 'count=0']);
      await readAll();
      await readAll();
    });

    it('writes what there was at the kick, whatever becomes of that memory then', async () => {
      const [stash, ring] = [PAGE, PAGE].map((bytes) => {
        return io.registerMemory(native.allocateSlab(bytes));
      }) as [Memory, Memory];
      ring.bytes.set(pattern(PAGE, 1));
      const write = new BlockRequest(2 * REQUEST_COUNT - 1, stash, 0);
      Object.assign(write, { op: BlockOp.write, length: PAGE, data: ring });
      const ended = new Promise<BlockStatus>((resolve) => {
        write.completer = { completed: ({ status }) => resolve(status) };
      });
      device.submit(write);
      device.kick();
      ring.bytes.fill(0xee);
      expect(await ended).toBe(BlockStatus.ok);
      expect(await client.read(0, PAGE)).toEqual(pattern(PAGE, 1));
    });

    it('gives the number of memory that it has forgotten to other memory', () => {
      const one = io.registerMemory(new ArrayBuffer(PAGE));
      io.unregisterMemory(one);
      expect(io.registerMemory(new ArrayBuffer(PAGE)).region).toBe(one.region);
    });

    it('carries reads, writes and flushes side by side', async () => {
      const work = Array.from({ length: 300 }, async (_, index) => {
        const data = pattern(4096, index);
        await client.write(4096 * index, data);
        if (index % 10 === 0) await client.flush();
        expect((await client.read(4096 * index, 4096)).equals(data)).toBe(true);
      });
      await Promise.all(work);
    });
  });
}
