/** The `file` backend: an image, or a part of one, in a file system. */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
} from 'node:fs';
import { constants as osConstants } from 'node:os';
import { dirname } from 'node:path';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { explainFailure, StartupError } from '../core/startup-error.ts';
import { native } from '../native.ts';
import { requireSectorAlignment } from './direct-io.ts';
import { FileDevice, type OpenFile } from './file-device.ts';
import { type FileIo, FileMode } from './file-io.ts';
import { resultOf, seldomTasks } from './file-tasks.ts';

const { EACCES, EBADF, EINVAL, ENOSYS, EOPNOTSUPP } = osConstants.errno;
/** Of file systems on which a folder cannot be synced: they have nothing of the kind. */
const NO_FOLDER_SYNC: readonly number[] = [EBADF, EINVAL, ENOSYS, EOPNOTSUPP];

const REMEDIES = {
  ENOENT: 'give a size, so that the image is created, and see that its folder exists',
  ELOOP: 'the path is a symbolic link: name the file that it points to',
  EACCES: 'let the user that runs aoe-server read and write it',
  EINVAL: 'its file system cannot do direct I/O: remove direct = true',
  EISDIR: 'name an image file, not a folder',
};

/** Which part of which file, and how to access it. */
export interface FileImage {
  readonly path: string;
  /** Least size of the whole image: it is created, or grown, to this, and never cut. */
  readonly sizeBytes: number | undefined;
  readonly offsetBytes: number;
  readonly lengthBytes: number | undefined;
  readonly direct: boolean;
}

/**
 * Opens an image; creates it, sparse, when it is missing and a size is given. The last component
 * of the path must not be a symbolic link: whoever can write its folder could swap the file.
 *
 * @throws {StartupError} what is wrong with the file, and the remedy
 */
export function openFileDevice(io: FileIo, image: FileImage, readOnly: boolean): FileDevice {
  const fd = openImage(image, readOnly);
  try {
    return openOnFd(io, fd, image, readOnly);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * Opens an image for a moment, which may be in use, to see whether it can be opened. It is neither
 * created nor extended.
 *
 * @returns bytes of the device that are there
 * @throws {StartupError} as {@link openFileDevice} would, and when the image is missing
 */
export function tryFileImage(image: FileImage, readOnly: boolean): number {
  if (!existsSync(image.path)) {
    throw new StartupError(
      `${image.path} is missing, and an empty image cannot take the place of a disk that is served`,
      'put the image there',
    );
  }
  const fd = openImage({ ...image, sizeBytes: undefined }, readOnly);
  try {
    requireRegular(fd, image);
    const available = Math.max(0, fstatSync(fd).size - image.offsetBytes);
    return Math.min(available, image.lengthBytes ?? available);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes the name of an image durable: it may be new, or somebody has put another file in its place
 * just now, and after a power cut it would lead to what was there before.
 *
 * @throws {StartupError} that failed
 */
export async function keepImageName({ path }: Pick<FileImage, 'path'>): Promise<void> {
  try {
    await resultOf('fsync', flushName(path), path);
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    throw explainFailure(`cannot make the name of ${path} durable`, cause, {});
  }
}

async function flushName(path: string): Promise<number> {
  const result = await seldomTasks.flushDirectory(dirname(path));
  // Who may not read the folder can flush all that is on its file system.
  if (result === -EACCES) return seldomTasks.flushFileSystem(path);
  return NO_FOLDER_SYNC.includes(-result) ? 0 : result;
}

function openOnFd(io: FileIo, fd: number, image: FileImage, readOnly: boolean): FileDevice {
  requireRegular(fd, image);
  const lock = lockImage(fd, image, readOnly);
  try {
    if (!readOnly) resize(fd, image);
    if (image.direct) requireSectorAlignment(fd, image.path);
    return new LockedFileDevice(io, describe(fd, image, readOnly), lock);
  } catch (error) {
    const last = native.unlockImage(lock);
    if (last >= 0) closeSync(last);
    throw error;
  }
}

/** @throws {StartupError} others have it open, or serve some of it, under this name or another one */
function lockImage(fd: number, image: FileImage, readOnly: boolean): number {
  const { path, offsetBytes, lengthBytes = Number.POSITIVE_INFINITY } = image;
  const lock = native.lockImage(fd, offsetBytes, offsetBytes + lengthBytes, !readOnly);
  if (lock > 0) return lock;
  throw lock < 0
    ? new StartupError(
        `${path} holds data of another target that is open`,
        'give this target its own image, close the other one, or wait until what hung is closed',
      )
    : new StartupError(
        `${path} is in use by another process`,
        'stop the other server, or give this target an image of its own',
      );
}

function requireRegular(fd: number, image: FileImage): void {
  if (!fstatSync(fd).isFile()) throw notRegular(image);
}

function notRegular(image: FileImage): StartupError {
  return new StartupError(
    `${image.path} is not a regular file`,
    'name an image file, or use backend = "device" for a block device',
  );
}

class LockedFileDevice extends FileDevice {
  readonly #lock: number;

  constructor(io: FileIo, open: OpenFile, lock: number) {
    super(io, open);
    this.#lock = lock;
  }

  protected override async closeFile(fd: number): Promise<void> {
    try {
      await super.closeFile(fd);
    } finally {
      const last = native.unlockImage(this.#lock);
      // On NFS that gives the lock back to the server, and waits for it.
      if (last >= 0) await seldomTasks.close(last);
    }
  }
}

function describe(fd: number, image: FileImage, readOnly: boolean): OpenFile {
  const { offsetBytes, lengthBytes } = image;
  const trim = !readOnly && native.canPunchHole(fd);
  const measure = () => {
    const available = native.knownFileSize(fd) - offsetBytes;
    return Math.max(0, Math.min(available, lengthBytes ?? available));
  };
  if (measure() < (lengthBytes ?? SECTOR_SIZE)) {
    throw new StartupError(
      `${image.path} ends before the target does`,
      'set a larger size, or a smaller offset or length',
    );
  }
  return {
    fd,
    mode: modeOf(fd, image.direct),
    offsetBytes,
    capabilities: { readOnly, trim, trimZeroes: trim },
    measure,
  };
}

function modeOf(fd: number, direct: boolean): FileMode {
  if (native.isMemoryFile(fd)) return FileMode.memory;
  return direct ? FileMode.direct : FileMode.buffered;
}

function openImage(image: FileImage, readOnly: boolean): number {
  const { O_RDONLY, O_RDWR, O_CREAT, O_NOFOLLOW, O_DIRECT } = constants;
  const create = image.sizeBytes !== undefined && !readOnly ? O_CREAT : 0;
  const flags = readOnly ? O_RDONLY : O_RDWR | create;
  // To open one for reading would wait for somebody who writes, and all targets with it.
  if (lstatSync(image.path, { throwIfNoEntry: false })?.isFIFO()) throw notRegular(image);
  try {
    return openSync(image.path, flags | O_NOFOLLOW | (image.direct ? O_DIRECT : 0), 0o600);
  } catch (error) {
    throw explainFailure(`cannot open ${image.path}`, error as NodeJS.ErrnoException, REMEDIES);
  }
}

/** Durable with the next flush, for which all other targets need not wait. */
function resize(fd: number, image: FileImage): void {
  if (image.sizeBytes === undefined) return;
  if (fstatSync(fd).size >= image.sizeBytes) return;
  try {
    ftruncateSync(fd, image.sizeBytes);
  } catch (cause) {
    throw new StartupError(
      `cannot give ${image.path} its size of ${image.sizeBytes} bytes`,
      'see that its file system has room for it and allows files of that size',
      { cause },
    );
  }
}
