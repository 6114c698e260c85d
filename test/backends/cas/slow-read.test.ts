import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { DeviceClient } from '../../../src/core/device-client.ts';
import type { CasEngine } from '../../../src/native.ts';
import { SimFs } from './sim-fs.ts';
import { blockOf, blocksOf, openTiny, orderedClient, TINY } from './tiny-store.ts';

const BLOCKS = 200;
const SECTOR = 512;
const CACHE_BLOCKS = (TINY.cacheBytes as number) / BLOCK_SIZE;
const CLIENTS = 4;
const SLOT = 8192;
/** Of the engine: what is asked for is not in the memory of the host. */
const WOULD_BLOCK = 1;

/** For one object only: what the addon's classes have cannot be replaced. */
function replace<Key extends keyof CasEngine>(
  engine: CasEngine,
  key: Key,
  value: CasEngine[Key],
): void {
  Object.defineProperty(engine, key, { value, configurable: true });
}

function restore(engine: CasEngine, key: keyof CasEngine): void {
  Reflect.deleteProperty(engine, key);
}

describe('a read that the disk answers late', () => {
  let store: CasStore;
  afterEach(async () => {
    vi.restoreAllMocks();
    await store.close();
  });

  /** A volume whose blocks hold the seeds from 2 on, none of them in memory. */
  async function openWritten(): Promise<DeviceClient> {
    store = await openTiny(new SimFs());
    const volume = await store.openVolume('disk', BLOCKS * BLOCK_SIZE);
    const client = orderedClient(volume, false, CLIENTS, SLOT);
    await client.write(0, blocksOf(2, 4, 2));
    await evictFirst(client);
    return client;
  }

  /** Uses so many other blocks that nothing of the first one stays in memory. */
  async function evictFirst(client: DeviceClient): Promise<void> {
    const volume = store.findVolume('disk') as Volume;
    for (let lba = 4; store.cache.find(volume, 0) !== -1; lba++) {
      if (lba > 4 + 4 * CACHE_BLOCKS) throw new Error('it stays in memory');
      await client.write(lba * BLOCK_SIZE, blockOf(1000 + 2 * lba));
    }
  }

  /** Holds the next read of the disk back when it has its data. */
  function delayNextRead(): { isRead(): boolean; letGo(): void } {
    const { reader } = store;
    const { read } = reader;
    // Nothing is in the memory of the host.
    reader.readNow = () => false;
    let isRead = false;
    let letGo = () => {};
    const gone = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    reader.read = async (...args) => {
      reader.read = read;
      await read.apply(reader, args);
      isRead = true;
      await gone;
    };
    return { isRead: () => isRead, letGo: () => letGo() };
  }

  async function waitFor(isSo: () => boolean): Promise<void> {
    while (!isSo()) await nextTurn();
  }

  it.each(['evicted', 'evicted, and another sector of the block written'])(
    'finds what was written before it, when that was logged and %s meanwhile',
    async (what) => {
      const client = await openWritten();
      const expected = blockOf(2);
      expected.fill(7, 0, SECTOR);
      // Taken into memory, but not logged yet: the block lacks its other sectors.
      const device = await store.openVolume('disk', BLOCKS * BLOCK_SIZE);
      const memory = { bytes: Buffer.alloc(2 * SLOT), region: 0 };
      const uncommitted = new DeviceClient(device, memory, SLOT, CLIENTS);
      await uncommitted.write(0, Buffer.alloc(SECTOR, 7));
      const late = delayNextRead();
      const reading = uncommitted.read(0, 2 * SECTOR);
      await waitFor(late.isRead);
      await uncommitted.flush();
      await evictFirst(client);
      if (what !== 'evicted') await uncommitted.write(5 * SECTOR, Buffer.alloc(SECTOR, 8));
      late.letGo();
      expect((await reading).equals(expected.subarray(0, 2 * SECTOR))).toBe(true);
    },
  );

  it('finds a block whose former place was collected meanwhile', async () => {
    const client = await openWritten();
    const expected = blockOf(2).subarray(0, SECTOR);
    const { engine, reader } = store;
    const freed: number[] = [];
    const detach = engine.detach.bind(engine);
    replace(engine, 'detach', (segment) => {
      freed.push(segment);
      detach(segment);
    });
    const read = engine.read.bind(engine);
    vi.spyOn(reader, 'readNow').mockReturnValueOnce(false);
    replace(engine, 'readNow', () => {
      restore(engine, 'readNow');
      return WOULD_BLOCK;
    });
    replace(engine, 'read', async (...args) => {
      restore(engine, 'read');
      await client.write(SECTOR, Buffer.alloc(SECTOR, 9));
      for (let lba = 1; !freed.includes(args[0]); lba++) {
        await client.write(lba * BLOCK_SIZE, blockOf(5000 + 2 * lba));
        await store.checkpoint();
        await collect(store);
      }
      return read(...args);
    });
    expect((await client.read(0, SECTOR)).equals(expected)).toBe(true);
  });

  it('does not keep what was overwritten meanwhile', async () => {
    const client = await openWritten();
    const late = delayNextRead();
    const reading = client.read(0, SECTOR);
    await waitFor(late.isRead);
    await client.write(SECTOR, Buffer.alloc(SECTOR, 9));
    await evictFirst(client);
    late.letGo();
    expect((await reading).equals(blockOf(2).subarray(0, SECTOR))).toBe(true);
    expect((await client.read(SECTOR, SECTOR)).equals(Buffer.alloc(SECTOR, 9))).toBe(true);
  });
});
