import type { BigIntStats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Command } from 'commander';
import type { CasStore } from '../backends/cas/index.ts';
import { formatSize } from '../config/size.ts';
import type { BlockDevice } from '../core/block-device.ts';
import { BlockError } from '../core/block-error.ts';
import { inLanes } from '../core/lanes.ts';
import { StartupError } from '../core/startup-error.ts';
import { BLOCK_BYTES, chunksOf, dataRuns, LANE_COUNT, openClient } from './cas/chunks.ts';
import { parseName } from './cas/name.ts';
import { interruptible } from './interruptible.ts';
import { Progress } from './progress.ts';
import { formatRoundSize } from './round-size.ts';

const AFTER_HELP = `
Makes a new volume with the content of the image, and a new store when there is none. Blocks that
the store has already, and zeroes, take no room. No server may have the store open. Run it as the
user that the server runs as, so that it can write what is made. The image must not change meanwhile.
An image that does is refused; changes of a device that is mounted are not noticed.

The volume gets its name when it is complete. An import that was killed leaves VOLUME.importing, which
the next one replaces.

A target with this shelf and slot serves the volume: e1.0 for shelf 1, slot 0.

Example:
  aoe-server import disk1.img /srv/aoe/blobs e1.0`;

export function addImportCommand(program: Command): void {
  program
    .command('import')
    .description('copy an image or block device into a new volume of a content-addressed store')
    .argument('<image>', 'image file or block device')
    .argument('<store>', 'directory of the store')
    .argument('<volume>', 'name of the new volume', parseName)
    .addHelpText('after', AFTER_HELP)
    .action(importImage);
}

/**
 * @throws {StartupError} image or store cannot be opened, the volume exists, or the image has changed
 * @throws when reading or writing fails, or a signal ends it; the volume is gone then
 */
async function importImage(imagePath: string, storePath: string, name: string): Promise<void> {
  const { withStoreOrNew } = await import('./cas/with-store.ts');
  const image = await openImage(imagePath);
  try {
    const before = await image.stat({ bigint: true });
    const imageBytes = await measure(image, imagePath);
    if (imageBytes === 0) {
      throw new StartupError(`${imagePath} is empty`, 'a disk has at least one sector');
    }
    const sizeBytes = Math.ceil(imageBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const dataBytes = await interruptible((signal) =>
      withStoreOrNew(storePath, (store) =>
        makeVolume(store, name, sizeBytes, async (device) => {
          const filled = fill(device, image, imageBytes, signal);
          const filledBytes = await filled.catch((error) => {
            throw isNoSpace(error) ? noRoom(storePath, imagePath, error) : error;
          });
          requireUnchanged(imagePath, before, await image.stat({ bigint: true }));
          return filledBytes;
        }),
      ),
    );
    console.log(
      `volume ${name}: size = "${formatSize(sizeBytes)}", ${formatRoundSize(dataBytes)} of data`,
    );
  } finally {
    await image.close();
  }
}

async function openImage(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const { message } = error as Error;
    throw new StartupError(`cannot read ${path}: ${message}`, 'name an image or block device');
  }
}

async function measure(image: FileHandle, path: string): Promise<number> {
  const stats = await image.stat();
  if (stats.isFile()) return stats.size;
  if (!stats.isBlockDevice()) {
    throw new StartupError(`${path} is no image`, 'name an image file or block device');
  }
  const { native } = await import('../native.ts');
  return native.blockDeviceSize(image.fd);
}

/** What is written to an image meanwhile may be in one part of the volume, and not in another. */
function requireUnchanged(path: string, before: BigIntStats, after: BigIntStats): void {
  if (after.mtimeNs === before.mtimeNs && after.size === before.size) return;
  throw new StartupError(
    `${path} was changed while it was read`,
    'let nobody write to it meanwhile: drain the target that it serves, or import a copy',
  );
}

function isNoSpace(error: unknown): error is BlockError {
  return error instanceof BlockError && error.code === 'noSpace';
}

function noRoom(storePath: string, imagePath: string, cause: BlockError): StartupError {
  return new StartupError(
    `the store ${storePath} has no room for ${imagePath}`,
    'free room on its file system, or in the store: what an import that failed has written goes ' +
      `with aoe-server cas collect ${storePath}`,
    { cause },
  );
}

/** Makes a volume that has its name only once it is whole and durable. */
async function makeVolume<T>(
  store: CasStore,
  name: string,
  sizeBytes: number,
  fillDevice: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  requireUnused(store, name);
  const partial = `${name}.importing`;
  if (store.findVolume(partial) !== undefined) await store.changes.deleteVolume(partial);
  const device = await store.openVolume(partial, sizeBytes);
  try {
    const result = await fillDevice(device);
    await device.close();
    await store.changes.clone(partial, name);
    return result;
  } finally {
    await device.close().catch(() => {});
    await store.changes.deleteVolume(partial);
  }
}

function requireUnused(store: CasStore, name: string): void {
  const isVolume = store.findVolume(name) !== undefined;
  if (!isVolume && !store.snapshots.some((snapshot) => snapshot.name === name)) return;
  throw new StartupError(
    `there is a ${isVolume ? 'volume' : 'snapshot'} ${name} already`,
    `take another name, or delete it: aoe-server cas delete ${store.path} ${name}`,
  );
}

/** @returns how many bytes were not zero */
async function fill(
  device: BlockDevice,
  image: FileHandle,
  imageBytes: number,
  signal: AbortSignal,
): Promise<number> {
  const { seldomTasks } = await import('../backends/file-tasks.ts');
  const client = openClient(device);
  const progress = new Progress('importing', imageBytes);
  let doneBytes = 0;
  let dataBytes = 0;
  try {
    await inLanes(
      LANE_COUNT,
      chunksOf(0, imageBytes),
      async ({ offset, length }) => {
        // A device does not tell, with an error.
        const isHole = (await seldomTasks.dataBytes(image.fd, offset, length)) === 0;
        if (!isHole) {
          // Zeroes behind the end of an image that ends within a block.
          const chunk = Buffer.alloc(Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES);
          await readFully(image, chunk.subarray(0, length), offset);
          for (const { start, end } of dataRuns(chunk)) {
            await client.write(offset + start, chunk.subarray(start, end));
            dataBytes += end - start;
          }
        }
        doneBytes += length;
        progress.update(doneBytes);
      },
      signal,
    );
    await client.flush();
  } finally {
    progress.end();
  }
  return dataBytes;
}

async function readFully(image: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await image.read(bytes, done, bytes.length - done, offset + done);
    if (bytesRead === 0) throw new Error('the image has become shorter meanwhile');
    done += bytesRead;
  }
}
