import { constants, lstatSync } from 'node:fs';
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import type { Command } from 'commander';
import type { CasStore } from '../backends/cas/index.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { inLanes } from '../core/lanes.ts';
import { StartupError } from '../core/startup-error.ts';
import {
  BLOCK_BYTES,
  type Chunk,
  chunksOf,
  dataRuns,
  LANE_COUNT,
  openClient,
} from './cas/chunks.ts';
import { interruptible } from './interruptible.ts';
import { leadsTo } from './leads-to.ts';
import { Progress } from './progress.ts';
import { formatRoundSize } from './round-size.ts';

const AFTER_HELP = `
Makes a new image; zeroes become holes. Every block is verified. No server may have the store open.
Until the image is complete it is called IMAGE.partial. An export that was killed leaves that, and the
next one replaces it.

Example:
  aoe-server export /srv/aoe/blobs e1.0 disk1.img`;

const NO_ROOM = ['ENOSPC', 'EDQUOT', 'EFBIG'];
const { O_CREAT, O_NOFOLLOW, O_RDWR } = constants;

export function addExportCommand(program: Command): void {
  program
    .command('export')
    .description('copy a volume or snapshot of a content-addressed store into a new image')
    .argument('<store>', 'directory of the store')
    .argument('<name>', 'volume, snapshot, or root hash')
    .argument('<image>', 'image file to make')
    .addHelpText('after', AFTER_HELP)
    .action(exportImage);
}

/**
 * @throws {StartupError} the store cannot be opened, has no such disk, or the image exists
 * @throws {StartupError} the image is there, but a power cut may undo that
 * @throws when reading or writing fails, or a signal ends it; the image is gone then
 */
async function exportImage(storePath: string, name: string, imagePath: string): Promise<void> {
  const { withStore } = await import('./cas/with-store.ts');
  await interruptible((signal) =>
    withStore(storePath, async (store) => {
      const device = await openDisk(store, name);
      try {
        const dataBytes = await makeImage(imagePath, (image) =>
          fill(image, store, name, device, signal),
        );
        const size = formatRoundSize(device.sizeBytes);
        console.log(`${imagePath}: ${size}, ${formatRoundSize(dataBytes)} of data`);
      } finally {
        await device.close();
      }
    }),
  );
}

/** Makes a file that has its name only once it is whole and durable. */
async function makeImage<T>(
  path: string,
  fillImage: (image: FileHandle) => Promise<T>,
): Promise<T> {
  requireAbsent(path);
  const partial = `${path}.partial`;
  const image = await openAlone(partial);
  let result: T;
  try {
    // Of one that was killed.
    await image.truncate();
    result = await fillImage(image);
    await image.sync();
    // It was long ago that it was looked for.
    requireAbsent(path);
    await rename(partial, path);
  } catch (error) {
    await unlink(partial).catch(() => {});
    throw explainNoRoom(path, error as Error);
  } finally {
    await image.close();
  }
  await keepName(path);
  return result;
}

async function keepName(path: string): Promise<void> {
  const { keepImageName } = await import('../backends/file.ts');
  try {
    await keepImageName({ path });
  } catch (cause) {
    throw new StartupError(
      `${path} is whole, but after a power cut it may be missing: ${(cause as Error).message}`,
      'keep what it was made from, until its file system has been put right and synced',
      { cause },
    );
  }
}

function requireAbsent(path: string): void {
  // A link that leads nowhere would be replaced as well.
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new StartupError(`${path} exists already`, 'name a file that does not exist');
}

/** Opens a file, new or not, that nobody else makes an image of. */
async function openAlone(path: string): Promise<FileHandle> {
  const file = await create(path);
  try {
    const isLocked = await lock(file, path);
    if (isLocked && (await leadsTo(path, file))) return file;
    throw new StartupError(
      `another export makes ${path}`,
      'wait for its end, or name another file',
    );
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** @returns whether nobody else has it; @throws {StartupError} its file system cannot tell */
async function lock(file: FileHandle, path: string): Promise<boolean> {
  const { native } = await import('../native.ts');
  try {
    return native.lockFile(file.fd);
  } catch (cause) {
    // One that is empty was made here, or is missed by nobody.
    if ((await file.stat()).size === 0) await unlink(path);
    throw new StartupError(
      `cannot lock ${path}: ${(cause as Error).message}`,
      'name a file on a file system that can lock files, as local ones do, and copy it then',
      { cause },
    );
  }
}

async function create(path: string): Promise<FileHandle> {
  try {
    return await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (error) {
    const { message } = error as Error;
    throw new StartupError(`cannot create ${path}: ${message}`, 'name a file that can be made');
  }
}

function explainNoRoom(path: string, error: NodeJS.ErrnoException): Error {
  if (!NO_ROOM.includes(error.code ?? '')) return error;
  return new StartupError(
    `there is no room for ${path}: ${error.message}`,
    'free some on its file system, or name a file on a larger one',
    { cause: error },
  );
}

function openDisk(store: CasStore, name: string): Promise<BlockDevice> {
  const volume = store.findVolume(name);
  if (volume === undefined) return store.openSnapshot(name);
  return store.openVolume(name, volume.sizeBytes, true);
}

/** @returns how many bytes were not zero */
async function fill(
  image: FileHandle,
  store: CasStore,
  name: string,
  device: BlockDevice,
  signal: AbortSignal,
): Promise<number> {
  const { sizeBytes } = device;
  const client = openClient(device);
  const progress = new Progress('exporting', sizeBytes);
  let doneBytes = 0;
  let dataBytes = 0;
  try {
    await image.truncate(sizeBytes);
    await inLanes(
      LANE_COUNT,
      dataChunks(store, name, sizeBytes, signal),
      async ({ offset, length }) => {
        const chunk = await client.read(offset, length);
        for (const { start, end } of dataRuns(chunk)) {
          await writeFully(image, chunk.subarray(start, end), offset + start);
          dataBytes += end - start;
        }
        doneBytes = Math.max(doneBytes, offset + length);
        progress.update(doneBytes);
      },
      signal,
    );
  } finally {
    progress.end();
  }
  return dataBytes;
}

/** What may hold data. A damaged store is read whole: its stored maps may lack what was logged. */
async function* dataChunks(
  store: CasStore,
  name: string,
  sizeBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Chunk> {
  const { dataExtents, findRoot, Pace } = await import('../backends/cas/index.ts');
  if (store.readOnly) {
    yield* chunksOf(0, sizeBytes);
    return;
  }
  const root = await findRoot(store, name);
  const extents = dataExtents(store.reader, root, new Pace({ signal }));
  for await (const { firstLba, count } of extents) {
    const offset = firstLba * BLOCK_BYTES;
    // The last block may be a part of one.
    yield* chunksOf(offset, Math.min(count * BLOCK_BYTES, sizeBytes - offset));
  }
}

async function writeFully(image: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.length - done;
    done += (await image.write(bytes, done, rest, offset + done)).bytesWritten;
  }
}
