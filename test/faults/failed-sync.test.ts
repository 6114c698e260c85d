import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openCasDevice } from '../../src/backends/cas/index.ts';
import type { BlockDevice } from '../../src/core/block-device.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { pattern } from '../conformance/block-device.ts';
import { describeWith, run, TempDirectory } from '../support/tools.ts';
import { createFile, ExportedFile, Ext4, STORAGE_TOOLS } from './storage.ts';

const MIB = 1 << 20;
const BLOCK = 4096;
const SECTOR_SIZE = 512;
const EIO = 5;

let directory: TempDirectory;
let problems: string[];

function openVolume(): Promise<BlockDevice> {
  const config = { path: directory.join('mnt/store'), name: 'e1.0', sizeBytes: MIB };
  return openCasDevice({ ...config, onMissing: () => {} }, false, {
    segmentBytes: 8 * MIB,
    onProblem: (problem) => problems.push(problem),
    onFailed: ({ message }) => problems.push(message),
  });
}

function clientOf(device: BlockDevice): DeviceClient {
  return new DeviceClient(device, { bytes: Buffer.alloc(MIB), region: 0 }, MIB, 0);
}

/** Opens the volume, writes a block durably, and closes it. */
async function writeBlock(index: number): Promise<void> {
  const device = await openVolume();
  try {
    const client = clientOf(device);
    await client.write(index * BLOCK, pattern(BLOCK, index));
    await client.flush();
  } finally {
    await device.close();
  }
}

/** All segments, by path. */
async function readSegments(): Promise<Map<string, Buffer>> {
  const folder = directory.join('mnt/store/segments');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.seg'));
  const paths = names.map((name) => join(folder, name));
  return new Map(
    await Promise.all(paths.map(async (path) => [path, await readFile(path)] as const)),
  );
}

/** Writes a block. @returns the sector of the file system that the log has it in */
async function findPlace(index: number): Promise<number> {
  const device = await openVolume();
  try {
    const client = clientOf(device);
    const before = await readSegments();
    await client.write(index * BLOCK, pattern(BLOCK, index));
    await client.flush();
    for (const [path, bytes] of await readSegments()) {
      const old = before.get(path) as Buffer;
      const at = bytes.findIndex((byte, place) => byte !== old[place]);
      if (at >= 0) return await sectorOf(path, Math.floor(at / BLOCK) * BLOCK);
    }
  } finally {
    await device.close();
  }
  throw new Error('no segment has changed');
}

async function sectorOf(path: string, offset: number): Promise<number> {
  const extents = await run('filefrag', ['-v', '-b512', path]);
  const sector = offset / SECTOR_SIZE;
  for (const [, first, last, start] of extents.matchAll(/(\d+)\.\. *(\d+): *(\d+)\.\./g)) {
    if (sector < Number(first) || sector > Number(last)) continue;
    return Number(start) + sector - Number(first);
  }
  throw new Error(`${path} has no byte ${offset}`);
}

/** The disk, which does not take what is written there first. */
function exportFailing(sector: number): Promise<ExportedFile> {
  const image = { driver: 'file', filename: directory.join('below') };
  const error = { event: 'none', iotype: 'write', errno: EIO, sector, once: true };
  const node = { driver: 'blkdebug', 'node-name': 'top', image, 'inject-error': [error] };
  return ExportedFile.create(directory.join('disk'), [node]);
}

describeWith(
  [...STORAGE_TOOLS, 'filefrag'],
  'a store of which a disk has not taken a record',
  () => {
    beforeEach(async () => {
      directory = await TempDirectory.create();
      problems = [];
      await createFile(directory.join('below'), 128 * MIB);
    });
    afterEach(() => directory[Symbol.asyncDispose]());

    it('goes on without it when it is opened anew', async () => {
      const [below, probe, mnt] = ['below', 'probe', 'mnt'].map((name) => directory.join(name)) as [
        string,
        string,
        string,
      ];
      {
        await using _ext4 = await Ext4.create(below, mnt);
        await writeBlock(1);
      }
      await copyFile(below, probe);
      let sector: number;
      {
        await using _ext4 = await Ext4.open(probe, mnt);
        sector = await findPlace(2);
      }
      {
        await using disk = await exportFailing(sector);
        await using _ext4 = await Ext4.open(disk.path, mnt);
        await expect(writeBlock(2)).rejects.toMatchObject({ code: 'ioError' });
        problems = [];
        await writeBlock(3);
      }
      // What was in memory only is gone.
      await using _ext4 = await Ext4.open(below, mnt);
      const device = await openVolume();
      const client = clientOf(device);
      expect(await client.read(3 * BLOCK, BLOCK)).toEqual(pattern(BLOCK, 3));
      expect(await client.read(2 * BLOCK, BLOCK)).toEqual(Buffer.alloc(BLOCK));
      await device.close();
      expect(problems).toEqual([]);
    });
  },
);
