import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { FileLayer, StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { BlockOp, SECTOR_SIZE } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';
import { Requester } from '../../core/hand-device.ts';
import { SimFs } from './sim-fs.ts';
import { blocksOf, clientOf, openTiny, TINY } from './tiny-store.ts';

const SIZE = 200 * BLOCK_SIZE;
const TIMEOUT_MS = 5000;

/** A disk whose segments take nothing more, from when it is told to until it breaks. */
class StallingFs extends SimFs {
  isStalled = false;
  #break: () => void = () => {};
  readonly #broken = new Promise<void>((_, reject) => {
    this.#break = () => reject(new Error('the disk is gone'));
  });

  break(): void {
    this.#break();
  }

  override async open(...args: Parameters<FileLayer['open']>): Promise<StoreFile> {
    const file = await super.open(...args);
    const { write } = file;
    file.write = async (...written) => {
      if (this.isStalled && args[0].endsWith('.seg')) await this.#broken;
      return write(...written);
    };
    return file;
  }
}

describe('a store whose log cannot be written any more', () => {
  it('refuses a trim that nobody has kicked yet', async () => {
    const store = await openTiny(new SimFs());
    const device = await store.openVolume('disk', SIZE);
    const requester = new Requester(1);
    const trim = requester.make(BlockOp.trim, 0, BLOCK_SIZE / SECTOR_SIZE);
    device.submit(trim);
    store.writer.log.fail(new Error('the disk is gone'));
    expect(requester.statusOf(trim)).toBe(BlockStatus.ioError);
    await store.close();
  });

  it(
    'refuses a trim behind a record that has neither a buffer nor room in its segment',
    async () => {
      const files = new StallingFs();
      const store = await openTiny(files, {
        cacheBytes: 64 * BLOCK_SIZE,
        checkpointBytes: 1 << 20,
      });
      const client = clientOf(await store.openVolume('disk', SIZE));
      files.isStalled = true;
      const { sequence } = store.log;
      // Three records that do not compress, and one that does, fill a segment.
      const records = [2, 102, 201, 302, 402].map((seed) => blocksOf(seed, 4, 2));
      expect(TINY.batchBlocks).toBe(4);
      await client.write(0, Buffer.concat(records));
      const trimmed = client.trim(100 * BLOCK_SIZE, BLOCK_SIZE);
      while (store.log.sequence < sequence + 4) await nextTurn();
      for (let turn = 0; turn < 10; turn++) await nextTurn();
      files.break();
      await expect(trimmed).rejects.toThrow('ioError');
      await store.close();
    },
    TIMEOUT_MS,
  );
});
