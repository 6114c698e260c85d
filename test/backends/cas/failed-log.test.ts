import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { FileLayer, StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { BlockOp, SECTOR_SIZE } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';
import { Requester } from '../../core/hand-device.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, blocksOf, clientOf, openTiny, TINY } from './tiny-store.ts';

const SIZE = 200 * BLOCK_SIZE;
const TIMEOUT_MS = 5000;

/** A disk on which writes of segments, or syncs of directories, wait from when it is told to. */
class StallingFs extends SimFs {
  stalls: 'write' | 'syncDirectory' | undefined;
  waitingCount = 0;
  #resume: () => void = () => {};
  #break: () => void = () => {};
  readonly #end = new Promise<void>((resolve, reject) => {
    this.#resume = resolve;
    this.#break = () => reject(new Error('the disk is gone'));
  });

  /** Lets what waits go on. */
  resume(): void {
    this.#resume();
  }

  /** Fails what waits. */
  break(): void {
    this.#break();
  }

  override async open(...args: Parameters<FileLayer['open']>): Promise<StoreFile> {
    const file = await super.open(...args);
    const { write } = file;
    file.write = async (...written) => {
      if (args[0].endsWith('.seg')) await this.#wait('write');
      return write(...written);
    };
    return file;
  }

  override async syncDirectory(path: string): Promise<void> {
    await this.#wait('syncDirectory');
    return super.syncDirectory(path);
  }

  async #wait(op: 'write' | 'syncDirectory'): Promise<void> {
    if (this.stalls !== op) return;
    this.waitingCount++;
    await this.#end;
  }
}

/** Closes a store, which waits for what the disk holds up. */
async function expectOpenUntilResumed(files: StallingFs, store: CasStore): Promise<void> {
  let isClosed = false;
  const closing = store.close().then(() => {
    isClosed = true;
  });
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  expect(isClosed).toBe(false);
  files.resume();
  await closing;
}

/** What does not compress fills a segment with three records; there are five. */
const MORE_THAN_A_SEGMENT = blocksOf(2, 20, 2);

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

  it('leaves a trim whose maps are being changed to end when they are', async () => {
    const store = await openTiny(new SimFs());
    const device = await store.openVolume('disk', SIZE);
    const { tree } = store.findVolume('disk') as Volume;
    let clear = (): void => {};
    const cleared = new Promise<void>((resolve) => {
      clear = resolve;
    });
    vi.spyOn(tree, 'clear').mockReturnValue(cleared);
    const requester = new Requester(1);
    const trim = requester.make(BlockOp.trim, 0, BLOCK_SIZE / SECTOR_SIZE);
    device.submit(trim);
    await expect.poll(() => tree.clear).toHaveBeenCalled();
    store.writer.log.fail(new Error('the disk is gone'));
    expect(requester.statusOf(trim)).toBeUndefined();
    clear();
    await store.close();
    expect(requester.statusOf(trim)).toBe(BlockStatus.ok);
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
      files.stalls = 'write';
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

  it.each([
    { stalls: 'write', written: blockOf(2) },
    { stalls: 'syncDirectory', written: MORE_THAN_A_SEGMENT },
  ] as const)(
    'is not closed before a $stalls under way has ended',
    async ({ stalls, written }) => {
      const files = new StallingFs();
      const store = await openTiny(files, { checkpointBytes: 1 << 20 });
      const client = clientOf(await store.openVolume('disk', SIZE));
      files.stalls = stalls;
      await client.write(0, written);
      const flushed = client.flush();
      while (files.waitingCount === 0) await nextTurn();
      store.writer.log.fail(new Error('another server has the store'));
      await expect(flushed).rejects.toThrow('ioError');
      await expectOpenUntilResumed(files, store);
      // Nor is a segment left open that was taken up meanwhile.
      expect(store.segments.table.size).toBe(0);
    },
    TIMEOUT_MS,
  );

  it(
    'is not closed before a checkpoint under way has ended',
    async () => {
      const files = new StallingFs();
      const store = await openTiny(files);
      files.stalls = 'write';
      const checkpoint = store.checkpoint();
      while (files.waitingCount === 0) await nextTurn();
      store.writer.log.fail(new Error('another server has the store'));
      await expectOpenUntilResumed(files, store);
      await checkpoint;
    },
    TIMEOUT_MS,
  );
});
