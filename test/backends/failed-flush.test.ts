import { closeSync, constants, openSync, truncateSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openHostDevice } from '../../src/backends/device.ts';
import type { FileDevice } from '../../src/backends/file-device.ts';
import { FileIo } from '../../src/backends/file-io.ts';
import type { DeviceClient } from '../../src/core/device-client.ts';
import { native } from '../../src/native.ts';
import { clientOf, pattern, REQUEST_COUNT } from '../conformance/block-device.ts';
import { createFile, ExportedFile, LoopDevice, STORAGE_TOOLS } from '../faults/storage.ts';
import { describeWith, disposeAll, run, TempDirectory } from '../support/tools.ts';

const MIB = 1 << 20;
const PAGE = 4096;
const SECTOR_SIZE = 512;
const EIO = 5;
const BAD_PLACE = MIB / 2;

describeWith(STORAGE_TOOLS, 'a device in the page cache', () => {
  let directory: TempDirectory;
  let io: FileIo;
  let device: FileDevice;
  let client: DeviceClient;

  beforeEach(async () => {
    directory = await TempDirectory.create();
    await createFile(directory.join('below'), MIB);
    io = new FileIo(REQUEST_COUNT);
  });
  afterEach(async () => {
    await device.close();
    io.close();
    await disposeAll(directory);
  });

  function open({ path }: LoopDevice): void {
    device = openHostDevice(io, { path, direct: false }, false);
    client = clientOf(device, io);
  }

  /** The disk of which one page cannot be written. */
  function exportFailing(): Promise<ExportedFile> {
    const image = { driver: 'file', filename: directory.join('below') };
    const errors = Array.from({ length: PAGE / SECTOR_SIZE }, (_, index) => {
      return {
        event: 'none',
        iotype: 'write',
        errno: EIO,
        sector: BAD_PLACE / SECTOR_SIZE + index,
      };
    });
    const node = { driver: 'blkdebug', 'node-name': 'top', image, 'inject-error': errors };
    return ExportedFile.create(directory.join('disk'), [node]);
  }

  it('is read as the disk has it when a flush has failed, and when it is opened anew', async () => {
    await using disk = await exportFailing();
    await using loop = await LoopDevice.attach(disk.path);
    open(loop);
    await client.write(0, pattern(PAGE, 1));
    await client.flush();
    await client.write(BAD_PLACE, pattern(PAGE, 2));
    await expect(client.flush()).rejects.toMatchObject({ code: 'ioError' });
    expect(await client.read(BAD_PLACE, PAGE)).toEqual(Buffer.alloc(PAGE));
    expect(await client.read(0, PAGE)).toEqual(pattern(PAGE, 1));

    // While somebody has it open, the kernel keeps what it has of it.
    const other = openSync(loop.path, 'r');
    await client.write(BAD_PLACE, pattern(PAGE, 3));
    await expect(device.close()).rejects.toThrow('EIO');
    open(loop);
    expect(await client.read(BAD_PLACE, PAGE)).toEqual(Buffer.alloc(PAGE));
    closeSync(other);
    await device.close();
  });

  it('is read as the disk has it when a store cannot sync what it wrote', async () => {
    await using disk = await exportFailing();
    await using loop = await LoopDevice.attach(disk.path);
    const tasks = new native.FileTasks(1);
    const fd = await tasks.open(loop.path, constants.O_RDWR, 0);
    expect(await tasks.write(fd, pattern(PAGE, 1), PAGE, BAD_PLACE, true)).toBe(-EIO);
    const found = Buffer.alloc(PAGE, 1);
    expect(await tasks.read(fd, found, BAD_PLACE)).toBe(PAGE);
    expect(found).toEqual(Buffer.alloc(PAGE));
    open(loop);
    await tasks.close(fd);
    expect(await client.read(BAD_PLACE, PAGE)).toEqual(Buffer.alloc(PAGE));
    await device.close();
  });

  it('fails a flush when it has become smaller', async () => {
    await using loop = await LoopDevice.attach(directory.join('below'));
    open(loop);
    await client.write(BAD_PLACE, pattern(PAGE, 1));
    truncateSync(directory.join('below'), BAD_PLACE);
    await run('losetup', ['--set-capacity', loop.path]);
    await expect(client.flush()).rejects.toMatchObject({ code: 'ioError' });
    await device.close();
  });
});
