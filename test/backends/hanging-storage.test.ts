import { closeSync, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { StateStore } from '../../src/aoe/state-store.ts';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { openCasStore } from '../../src/backends/cas/open.ts';
import { openFileDevice } from '../../src/backends/file.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import { native } from '../../src/native.ts';
import { createFile, ExportedFile, Ext4, STORAGE_TOOLS } from '../faults/storage.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { blocksOf, clientOf, TINY } from './cas/tiny-store.ts';

const MIB = 2 ** 20;
/** As many as Node.js has threads for files. */
const HANGING = 4;
const BLOCKS = 16;
const SAVED = {
  ...{ sizeBytes: MIB, maskList: [], reserveList: [] },
  configString: new Uint8Array([1]),
};
/** Time enough for all that hangs to have begun. */
const BEGUN_MS = 200;

describeWith(STORAGE_TOOLS, 'storage that hangs', () => {
  let directory: TempDirectory;
  let disk: ExportedFile;
  let hanging: Ext4;
  let states: StateStore;
  /** Of what hangs. */
  let endedCount: number;

  beforeEach(async () => {
    endedCount = 0;
    directory = await TempDirectory.create();
    await createFile(directory.join('below'), 64 * MIB);
    disk = await ExportedFile.of(directory.join('below'), directory.join('disk'));
    hanging = await Ext4.create(disk.path, directory.join('mnt'));
    states = await StateStore.open(directory.join('states'), native.lockFile);
  });
  afterEach(async () => {
    disk.goOn();
    await states.close();
    await disposeAll(hanging, disk, directory);
  });

  async function openStore(name: string) {
    const store = await openCasStore(directory.join(name), TINY);
    return { store, client: clientOf(await store.openVolume('disk', 2 * BLOCKS * BLOCK_SIZE)) };
  }

  it('delays no store on other storage, and no saving of states', async () => {
    const names = Array.from({ length: HANGING }, (_, index) => `mnt/${index}`);
    const all = await Promise.all(['healthy', ...names].map(openStore));
    const [healthy, ...others] = all as [(typeof all)[0], ...typeof all];
    for (const { client } of all) await client.write(0, blocksOf(1, BLOCKS));
    disk.hang();
    const flushes = others.map(async ({ client }, index) => {
      await client.write(0, blocksOf(100 * index + 101, BLOCKS));
      await client.flush();
      endedCount++;
    });
    await sleep(BEGUN_MS);
    await healthy.client.write(BLOCKS * BLOCK_SIZE, blocksOf(51, BLOCKS));
    await healthy.client.flush();
    await states.save('e1.0', SAVED);
    expect(endedCount).toBe(0);
    disk.goOn();
    await Promise.all(flushes);
    for (const { store } of all) await store.close();
  });

  it('delays nothing by files there that are being closed', async () => {
    const io = new FileIo(1);
    const open = (path: string, sizeBytes?: number) => {
      const image = { path, sizeBytes, offsetBytes: 0, lengthBytes: undefined, direct: false };
      return openFileDevice(io, image, false);
    };
    const devices = Array.from({ length: 2 * HANGING }, (_, index) => {
      const path = directory.join(`mnt/${index}.img`);
      const device = open(path, MIB);
      const file = openSync(path, 'r+');
      writeSync(file, 'dirty');
      closeSync(file);
      return device;
    });
    const { store, client } = await openStore('healthy');
    disk.hang();
    const closings = devices.map(async (device) => {
      await device.close();
      endedCount++;
    });
    await sleep(BEGUN_MS);
    await client.write(0, blocksOf(1, BLOCKS));
    await client.flush();
    await states.save('e1.0', SAVED);
    expect(() => open(directory.join('mnt/0.img'))).toThrow(
      expect.objectContaining({
        remedy: expect.stringContaining('wait until what hung is closed'),
      }),
    );
    expect(endedCount).toBe(0);
    disk.goOn();
    await Promise.all(closings);
    io.close();
    await store.close();
  });
});
