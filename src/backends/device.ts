/** The `device` backend: a block device of this host, opened for nobody else. */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { explainFailure, StartupError } from '../core/startup-error.ts';
import { native } from '../native.ts';
import { requireSectorAlignment } from './direct-io.ts';
import { FileDevice } from './file-device.ts';
import { type FileIo, FileMode } from './file-io.ts';

export interface HostDevice {
  readonly path: string;
  readonly direct: boolean;
}

/**
 * Opens a block device exclusively: not while it is mounted or otherwise claimed on this host.
 *
 * @throws {StartupError} what is wrong with the device, and the remedy
 */
export function openHostDevice(io: FileIo, device: HostDevice, readOnly: boolean): FileDevice {
  const fd = openDevice(device, readOnly, constants.O_EXCL);
  try {
    const stats = fstatSync(fd);
    requireBlockDevice(stats, device);
    if (device.direct) requireSectorAlignment(fd, device.path);
    const trim = !readOnly && trimsSectors(fd, stats.rdev);
    return new FileDevice(io, {
      fd,
      mode: device.direct ? FileMode.direct : FileMode.buffered,
      offsetBytes: 0,
      capabilities: { readOnly, trim, trimZeroes: trim },
      measure: () => native.blockDeviceSize(fd),
    });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * Opens a block device for a moment, which may be in use, to see whether it can be opened.
 *
 * @returns its bytes
 * @throws {StartupError} as {@link openHostDevice} would
 */
export function tryHostDevice(device: HostDevice, readOnly: boolean): number {
  const fd = openDevice(device, readOnly, 0);
  try {
    requireBlockDevice(fstatSync(fd), device);
    return native.blockDeviceSize(fd);
  } finally {
    closeSync(fd);
  }
}

function requireBlockDevice(stats: Stats, { path }: HostDevice): void {
  if (stats.isBlockDevice()) return;
  throw new StartupError(
    `${path} is not a block device`,
    'name a block device such as /dev/sdb, or use backend = "file" for an image',
  );
}

/** @param exclusive O_EXCL, or 0 */
function openDevice(device: HostDevice, readOnly: boolean, exclusive: number): number {
  const { O_RDONLY, O_RDWR, O_DIRECT } = constants;
  const flags = (readOnly ? O_RDONLY : O_RDWR) | exclusive | (device.direct ? O_DIRECT : 0);
  try {
    return openSync(device.path, flags);
  } catch (error) {
    throw explainFailure(`cannot open ${device.path}`, error as NodeJS.ErrnoException, {
      EBUSY: 'it is mounted or in use on this host: unmount it, or take it out of its array',
      ENOENT: 'see with lsblk what this host calls it; prefer a name under /dev/disk/by-id',
      EACCES: 'run as root, or give the user that runs aoe-server access to it',
    });
  }
}

/**
 * Trimming punches holes, which a device does only if it can write zeroes by itself, and in whole
 * logical blocks.
 */
function trimsSectors(fd: number, rdev: number): boolean {
  if (native.logicalBlockSize(fd) > SECTOR_SIZE) return false;
  const major = (rdev >> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >> 12) & 0xfff00);
  try {
    const limit = readFileSync(
      `/sys/dev/block/${major}:${minor}/queue/write_zeroes_max_bytes`,
      'utf8',
    );
    return Number(limit) > 0;
  } catch {
    // A partition has no queue of its own; without the figure nothing is promised.
    return false;
  }
}
