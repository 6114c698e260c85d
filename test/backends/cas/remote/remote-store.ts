/** Stores that are kept in blobs, and what to compare them with. */
import { expect } from 'vitest';
import type { BlobStore } from '../../../../src/backends/cas/blob-store.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import {
  REMOTE_DEFAULTS,
  type RemoteOptions,
} from '../../../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import type { StoreOptions } from '../../../../src/backends/cas/store-options.ts';
import { CrashWalk, SimFs, seededRandom } from '../sim-fs.ts';
import { blockOf, clientOf, openTiny } from '../tiny-store.ts';

export const BLOCK_COUNT = 24;
/** For what takes another round, or several. */
export const WAIT = { timeout: 20_000 };

export function openRemote(
  files: SimFs,
  blobs: BlobStore,
  remote: Partial<RemoteOptions> = {},
  options: Partial<StoreOptions> = {},
): Promise<CasStore> {
  return openTiny(files, { ...options, remote: { ...REMOTE_DEFAULTS, blobs, ...remote } });
}

export async function openVolume(store: CasStore) {
  return clientOf(await store.openVolume('v', BLOCK_COUNT * BLOCK_SIZE));
}

/** The seeds of the volume's blocks, after a check of every byte. */
export async function readSeeds(store: CasStore): Promise<number[]> {
  expect(store.problems).toEqual([]);
  const content = await (await openVolume(store)).read(0, BLOCK_COUNT * BLOCK_SIZE);
  return Array.from({ length: BLOCK_COUNT }, (_, lba) => {
    const block = content.subarray(lba * BLOCK_SIZE, (lba + 1) * BLOCK_SIZE);
    const seed = block.readUInt32LE(0);
    expect(block.equals(blockOf(seed))).toBe(true);
    return seed;
  });
}

/** Who has a blob store. */
export async function ownerOf(blobs: BlobStore): Promise<string | undefined> {
  return (await Journal.read(blobs)).owner?.id;
}

/** What a server finds that has lost its disk. */
export async function recoverSeeds(blobs: BlobStore): Promise<number[]> {
  const store = await openRemote(new SimFs(), blobs, { takeOver: await ownerOf(blobs) });
  const seeds = await readSeeds(store);
  await store.close();
  return seeds;
}

/** The disk as `cp -a` copies it. */
export function copyOf(files: SimFs): SimFs {
  const walk = new CrashWalk(files.base, seededRandom(1));
  for (const entry of files.trace) walk.step(entry);
  return new SimFs(walk.crash('all'));
}

/** What segments take on the disk. */
export async function diskBytes(store: CasStore): Promise<number> {
  let bytes = 0;
  for (const { file, usedBytes } of store.segments.table.values()) {
    bytes += await file.dataBytes(0, usedBytes);
  }
  return bytes;
}
