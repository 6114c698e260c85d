import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openCasStore } from '../../../src/backends/cas/open.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { FileIo } from '../../../src/backends/file-io.ts';
import { CommittedDevice } from '../../../src/core/committed-device.ts';
import { CountedDevice } from '../../../src/core/counted-device.ts';
import { OrderedDevice } from '../../../src/core/ordered-device.ts';
import { native } from '../../../src/native.ts';
import {
  clientOf,
  pattern,
  REQUEST_COUNT,
  testBlockDevice,
} from '../../conformance/block-device.ts';

const MIB = 1 << 20;
const SMALL = { segmentBytes: 4 * MIB, cacheBytes: MIB, spareCount: 1, checkpointMs: 0 };

describe('the content-addressed store on a real file system', () => {
  let folder: string;
  let count = 0;
  const stores: CasStore[] = [];

  beforeAll(() => {
    folder = mkdtempSync('/var/tmp/aoe-cas-');
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  async function open(path = join(folder, `store-${count++}`), options = {}): Promise<CasStore> {
    const store = await openCasStore(path, { ...SMALL, ...options });
    stores.push(store);
    return store;
  }

  testBlockDevice({
    name: 'a volume',
    open: async () => (await open()).openVolume('disk', 2 * MIB),
  });
  testBlockDevice({
    name: 'a volume with a cache of four blocks',
    open: async () => (await open(undefined, { cacheBytes: 16_384 })).openVolume('disk', 2 * MIB),
  });
  testBlockDevice({
    name: 'a volume under all layers',
    open: async () => {
      const device = await (await open()).openVolume('disk', 2 * MIB);
      const committed = new CommittedDevice(device, false, REQUEST_COUNT, () => {});
      return new CountedDevice(new OrderedDevice(committed));
    },
  });

  it('keeps what was written over closing and opening', async () => {
    const path = join(folder, 'reopened');
    const io = new FileIo(REQUEST_COUNT);
    const store = await open(path);
    const client = clientOf(await store.openVolume('disk', 8 * MIB), io);
    await client.write(512, pattern(3 * MIB, 1));
    await client.flush();
    await client.write(5 * MIB, pattern(MIB, 2));
    await store.close();

    const again = clientOf(await (await open(path)).openVolume('disk', 8 * MIB), io);
    expect((await again.read(512, 3 * MIB)).equals(pattern(3 * MIB, 1))).toBe(true);
    expect((await again.read(5 * MIB, MIB)).equals(pattern(MIB, 2))).toBe(true);
    expect((await again.read(7 * MIB, MIB)).equals(Buffer.alloc(MIB))).toBe(true);
    io.close();
  });

  it('is refused to a second opener', async () => {
    const path = join(folder, 'locked');
    await open(path);
    await expect(open(path)).rejects.toThrow('in use by another process');
  });

  it('can be opened by others as soon as it is closed', async () => {
    for (let round = 0; round < 20; round++) {
      const path = join(folder, 'left');
      const store = await open(path);
      await store.close();
      const fd = openSync(join(path, 'lock'), 'r');
      const isFree = native.lockFile(fd);
      closeSync(fd);
      expect(isFree).toBe(true);
    }
  });

  it('tells which store its file system refuses, and what helps', async () => {
    const path = join(folder, 'file');
    writeFileSync(path, '');
    await expect(open(path)).rejects.toMatchObject({
      message: expect.stringContaining(`cannot open the store ${path}: ENOTDIR`),
      remedy: 'name a directory',
    });
  });
});
