/**
 * Writes what is in the blob store to an empty disk; the superblock last, as it makes it a store.
 * With a bounded cache only the heads of records come, where that is enough to open the store.
 */

import { join } from 'node:path';
import { inLanes } from '../../../core/lanes.ts';
import type { CasEngine } from '../../../native.ts';
import type { BlobStore } from '../blob-store.ts';
import { type Catalog, decodeCatalog } from '../catalog.ts';
import { type FileLayer, type StoreFile, withFile } from '../file-layer.ts';
import { VALID } from '../format.ts';
import { segmentName } from '../segments.ts';
import { SUPERBLOCK_NAME, type Superblock, writeSuperblock } from '../superblock.ts';
import { partName } from './blob-names.ts';
import type { Image } from './journal.ts';
import { endOfParts, type Part, partAt } from './journal-entry.ts';
import { type FoundHead, headsIn } from './part.ts';
import { headsOnlySegments } from './part-cache.ts';

const DOWNLOADS_MAX = 4;

export interface RestoreParts {
  readonly files: FileLayer;
  readonly engine: CasEngine;
  readonly path: string;
  readonly blobs: BlobStore;
  readonly image: Image;
  readonly superblock: Superblock;
  /** Frames may stay away. */
  readonly headsOnly: boolean;
}

/**
 * @throws {BlobMissingError}
 * @throws that something is damaged or cut off there, or the error of the service or of the disk
 */
export async function restore(parts: RestoreParts): Promise<void> {
  const { files, engine, path, image, superblock } = parts;
  const enough = parts.headsOnly ? headsOnlySegments(await getCatalog(parts)) : new Map();
  await inLanes(DOWNLOADS_MAX, image.segments.entries(), async ([number, stored]) => {
    const isEnough = endOfParts(stored) === enough.get(number);
    await restoreSegment(parts, number, stored, isEnough);
  });
  await files.syncDirectory(join(path, 'segments'));
  await withFile(files.open(join(path, SUPERBLOCK_NAME), true), (file) =>
    writeSuperblock(file, engine, superblock),
  );
  await files.syncDirectory(path);
}

async function getCatalog({ blobs, engine, image, superblock }: RestoreParts): Promise<Catalog> {
  const { segment, offset, length, store } = superblock;
  const part = partAt(image.segments.get(segment), offset);
  if (part === undefined) throw new Error('the catalog is in no part');
  const record = await getRange(blobs, partName(segment, part), offset - part[0], length);
  const catalog = engine.check(record, false) === VALID && decodeCatalog(record, store);
  if (!catalog) throw new Error(`${partName(segment, part)} is damaged`);
  return catalog;
}

type PutPart = (parts: RestoreParts, file: StoreFile, name: string, part: Part) => Promise<void>;

async function restoreSegment(
  parts: RestoreParts,
  number: number,
  stored: readonly Part[],
  headsOnly: boolean,
): Promise<void> {
  const { files, path, image } = parts;
  const name = join(path, 'segments', segmentName(number));
  await withFile(files.open(name, true), async (file) => {
    await file.allocate(image.segmentBytes);
    if (headsOnly) await file.punch(0, image.segmentBytes);
    const put = headsOnly ? putHeads : putAll;
    for (const part of stored) await put(parts, file, partName(number, part), part);
    await file.sync();
  });
}

const putAll: PutPart = async ({ blobs }, file, name, [from, to]) => {
  const bytes = await getRange(blobs, name, 0, to - from);
  await file.write(bytes, bytes.length, from, false);
};

const putHeads: PutPart = async (parts, file, name, part) => {
  const heads = await getHeads(parts, name, part);
  // The records have them as well.
  if (heads === undefined) return await putAll(parts, file, name, part);
  for (const { head, offset } of heads) await file.write(head, head.length, offset, false);
};

/** @returns undefined when they are damaged */
async function getHeads(
  { blobs, engine, superblock }: RestoreParts,
  name: string,
  [from, to, , headBytes]: Part,
): Promise<FoundHead[] | undefined> {
  const bytes = await blobs.getRange(name, to - from, headBytes);
  const heads = [...headsIn(bytes, superblock.store)];
  let end = from;
  for (const { head, offset, length } of heads) {
    if (offset !== end || engine.check(head, false) !== VALID) return undefined;
    end += length;
  }
  return end === to ? heads : undefined;
}

async function getRange(
  blobs: BlobStore,
  name: string,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = await blobs.getRange(name, offset, length);
  if (bytes.length !== length) throw new Error(`${name} is too short`);
  return bytes;
}
