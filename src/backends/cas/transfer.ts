/** Sends a snapshot as a stream of what another store lacks, and makes a snapshot of one. */

import type { DeviceClient } from '../../core/device-client.ts';
import { StartupError } from '../../core/startup-error.ts';
import type { CasDevice } from './cas-device.ts';
import { type BlockExtent, dataExtents, diffRoots } from './diff.ts';
import { BLOCK_SIZE } from './format.ts';
import type { CasStore } from './store.ts';
import {
  DATA_COUNT_MAX,
  encodeTransfer,
  type TransferDecoder,
  TransferError,
  type TransferHeader,
  type TransferPiece,
} from './transfer-stream.ts';
import { findRoot, storedRoots } from './walk.ts';

/** Makes a client of a device; who calls decides on its memory. */
export type OpenClient = (device: CasDevice) => DeviceClient;

export interface Transfer {
  readonly header: TransferHeader;
  readonly bytes: AsyncIterable<Uint8Array>;
}

/**
 * Prepares the stream of a snapshot, or of a volume as the last checkpoint wrote it.
 *
 * @param baseName a snapshot that the other store has, too; undefined to send everything
 * @throws {StartupError} one of them does not exist, the base is larger, or it is a volume of a
 *   damaged store, which has made no checkpoint of what was logged since
 */
export async function sendSnapshot(
  store: CasStore,
  name: string,
  baseName: string | undefined,
  openClient: OpenClient,
): Promise<Transfer> {
  if (store.readOnly && store.findVolume(name) !== undefined) {
    throw new StartupError(
      `the store ${store.path} is damaged, so what it would send of ${name} may be out of date`,
      'send a snapshot, or save what can be read of the volume: aoe-server export',
    );
  }
  const root = await findRoot(store, name);
  const base = baseName === undefined ? undefined : await findRoot(store, baseName);
  if (base !== undefined && base.sizeBytes > root.sizeBytes) {
    throw new StartupError(`${baseName} is larger than ${name}`, 'send without it');
  }
  const extents = () =>
    base === undefined ? dataExtents(store.reader, root) : diffRoots(store.reader, base, root);
  let changedBytes = 0;
  for await (const { count } of extents()) changedBytes += count * BLOCK_SIZE;
  const header = {
    volume: store.snapshots.find((snapshot) => snapshot.name === root.name)?.volume ?? root.name,
    sizeBytes: root.sizeBytes,
    root: root.root[0],
    base: base?.root[0] ?? null,
    changedBytes,
  };
  const device = await store.openSnapshot(name);
  return { header, bytes: encodeTransfer(header, readPieces(device, openClient, extents())) };
}

async function* readPieces(
  device: CasDevice,
  openClient: OpenClient,
  extents: AsyncIterable<BlockExtent>,
): AsyncGenerator<TransferPiece> {
  const client = openClient(device);
  try {
    for await (const { firstLba, count } of extents) {
      for (let done = 0; done < count; done += DATA_COUNT_MAX) {
        const part = Math.min(DATA_COUNT_MAX, count - done);
        const data = await client.read((firstLba + done) * BLOCK_SIZE, part * BLOCK_SIZE);
        yield* splitZeroes(firstLba + done, data);
      }
    }
  } finally {
    await device.close();
  }
}

const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE);

function* splitZeroes(firstLba: number, data: Buffer): Generator<TransferPiece> {
  const count = data.length / BLOCK_SIZE;
  const isZero = (block: number) =>
    ZERO_BLOCK.equals(data.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE));
  for (let start = 0, end = 0; start < count; start = end) {
    const zero = isZero(start);
    do end++;
    while (end < count && isZero(end) === zero);
    const bytes = data.subarray(start * BLOCK_SIZE, end * BLOCK_SIZE);
    yield { firstLba: firstLba + start, count: end - start, data: zero ? undefined : bytes };
  }
}

/**
 * Makes a snapshot of a stream. It appears when all of it has arrived and its root hash is the one
 * that was sent; whatever happens before leaves nothing.
 *
 * @throws {StartupError} the name is taken, or the store does not have the base
 * @throws {TransferError} the stream is cut off or damaged
 */
export async function receiveSnapshot(
  store: CasStore,
  name: string,
  decoder: TransferDecoder,
  openClient: OpenClient,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => {},
): Promise<TransferHeader> {
  if (storedRoots(store).some((root) => root.name === name)) {
    throw new StartupError(`there is a volume or snapshot ${name} already`, 'take another name');
  }
  const header = await decoder.readHeader();
  const partial = `${name}.receiving`;
  // Of a receiver that was killed.
  if (store.findVolume(partial) !== undefined) await store.deleteVolume(partial);
  try {
    await cloneBase(store, header, partial);
    const device = await store.openVolume(partial, header.sizeBytes);
    try {
      const client = openClient(device);
      let doneBytes = 0;
      for await (const piece of decoder.readPieces(header)) {
        await apply(client, piece);
        doneBytes += piece.count * BLOCK_SIZE;
        onProgress(doneBytes, header.changedBytes);
      }
    } finally {
      await device.close();
    }
    await store.checkpoint();
    if ((await findRoot(store, partial)).root[0] !== header.root) {
      throw new TransferError('what has arrived is not what was sent');
    }
    await store.snapshot(partial, name, header.volume);
    return header;
  } finally {
    if (store.findVolume(partial) !== undefined) await store.deleteVolume(partial);
  }
}

async function cloneBase(
  store: CasStore,
  { base, sizeBytes }: TransferHeader,
  partial: string,
): Promise<void> {
  if (base === null) return;
  await store.whenSnapshotsStored();
  const found = storedRoots(store).find(
    (root) => root.root[0] === base && root.sizeBytes <= sizeBytes,
  );
  if (found === undefined) {
    throw new StartupError(
      `the store ${store.path} does not have the snapshot that the changes are to`,
      `send that one first, or send without it; its root is ${base}`,
    );
  }
  await store.clone(found.name, partial);
}

async function apply(client: DeviceClient, piece: TransferPiece): Promise<void> {
  const { firstLba, count, data } = piece;
  if (data === undefined) await client.trim(firstLba * BLOCK_SIZE, count * BLOCK_SIZE);
  else await client.write(firstLba * BLOCK_SIZE, data);
}
