/**
 * Scrub of a blob store: fetches every blob that counts, and verifies all of it. Each byte costs, so
 * that is done for those only who ask for it.
 *
 * A blob that is damaged or gone is stored anew, under another name, of what this disk has of it.
 * Where that is not whole either, all of it that is needed may be lost.
 */
import { BlobMissingError, BlobUnreachableError } from '../blob-store.ts';
import { VALID } from '../format.ts';
import type { Pace } from '../pace.ts';
import { frameHashes, RecordMemory, recordsOf } from '../records.ts';
import type { SegmentDamage } from '../scrub.ts';
import type { CasStore } from '../store.ts';
import { partName } from './blob-names.ts';
import type { Journal } from './journal.ts';
import { decodeEntry, encodeEntry, type Part } from './journal-entry.ts';
import { type Stretch, verifyPart } from './part.ts';
import { PersistentBlobs } from './persistent-blobs.ts';

/** Frames to remember; beyond that any may be lost. */
const SUSPECTS_MAX = 1 << 20;

export interface BlobsReport {
  readonly doneBytes: number;
  readonly damage: readonly BlobDamage[];
  /** Frames that are right neither here nor there. */
  readonly suspects: readonly SegmentDamage[];
}

export interface BlobDamage {
  readonly name: string;
  readonly isMissing: boolean;
  /** It was stored anew, and this blob does not count any more. */
  readonly isReplaced: boolean;
}

/**
 * Verifies every blob that the journal names now, and the journal.
 *
 * @throws {BlobUnreachableError}
 * @throws the pace's reason, when it is cancelled
 */
export async function scrubBlobs(
  store: CasStore,
  journal: Journal,
  pace: Pace,
  onProgress: (doneBytes: number, totalBytes: number) => void = () => {},
): Promise<BlobsReport> {
  const fetch = fetcherOf(store);
  const parts = [...journal.image.segments].flatMap(([segment, stored]) =>
    stored.map((part) => ({ segment, part })),
  );
  const totalBytes = parts.reduce((sum, { part }) => sum + sizeOf(part), 0);
  const damage = await scrubJournal(store, journal, pace, fetch);
  let suspects: SegmentDamage[] = [];
  let doneBytes = 0;
  for (const { segment, part } of parts) {
    const name = partName(segment, part);
    if (!journal.names(name)) continue;
    const bytes = await fetch(name, sizeOf(part));
    const [from, to] = part;
    const wrong =
      bytes === undefined
        ? [{ from, to }]
        : await verifyPart(store.recordParts, segment, part, bytes);
    doneBytes += bytes?.length ?? 0;
    onProgress(doneBytes, totalBytes);
    await pace.spend(sizeOf(part));
    // Another one may have taken its place meanwhile, and it was removed.
    if (wrong === undefined || !journal.names(name)) continue;
    const isReplaced = (await store.replica?.renew(segment, part)) || !journal.names(name);
    damage.push({ name, isMissing: bytes === undefined, isReplaced });
    if (isReplaced) continue;
    for (const stretch of wrong) suspects.push(...(await framesLost(store, segment, stretch)));
    const [first] = suspects;
    if (first && suspects.length > SUSPECTS_MAX) suspects = [{ ...first, hash: undefined }];
  }
  return { doneBytes, damage, suspects };
}

/** @returns the bytes of a blob, one more than there should be if it has more; undefined: it is gone */
type Fetch = (name: string, sizeBytes: number) => Promise<Uint8Array | undefined>;

function fetcherOf({ options }: CasStore): Fetch {
  const { remote } = options;
  if (remote === undefined) throw new Error('there is no blob store');
  const blobs = new PersistentBlobs(remote.blobs);
  return async (name, sizeBytes) => {
    try {
      return await blobs.getRange(name, 0, sizeBytes + 1);
    } catch (error) {
      if (error instanceof BlobMissingError) return undefined;
      throw new BlobUnreachableError(name, error as Error);
    }
  };
}

/** Entries are compared with what this server knows that they say. */
async function scrubJournal(
  store: CasStore,
  journal: Journal,
  pace: Pace,
  fetch: Fetch,
): Promise<BlobDamage[]> {
  const found: { readonly name: string; readonly isMissing: boolean }[] = [];
  for (const [name, entry] of [...journal.entries]) {
    const expected = encodeEntry(entry);
    const bytes = await fetch(name, expected.length);
    await pace.spend(expected.length);
    if (bytes !== undefined && isEntry(bytes, expected)) continue;
    if (journal.entries.has(name)) found.push({ name, isMissing: bytes === undefined });
  }
  if (found.length === 0) return [];
  // Who finds its last entry gone is fenced, and must be.
  const last = [...journal.entries.keys()].at(-1);
  const mayGoOn = !found.some(({ name, isMissing }) => isMissing && name === last);
  const isReplaced = mayGoOn && ((await store.replica?.renewJournal()) ?? false);
  return found.map((blob) => ({ ...blob, isReplaced }));
}

/** One of an earlier server has no hash: what it says counts. */
function isEntry(bytes: Uint8Array, expected: Uint8Array): boolean {
  const said = decodeEntry(bytes);
  return said !== undefined && Buffer.compare(encodeEntry(said), expected) === 0;
}

function sizeOf([from, to, , headBytes]: Part): number {
  return to - from + headBytes;
}

/** Frames of a stretch of a segment that are not right on this disk. */
async function framesLost(
  store: CasStore,
  number: number,
  { from, to }: Stretch,
): Promise<SegmentDamage[]> {
  const lost: SegmentDamage[] = [];
  const segment = store.segments.table.get(number);
  if (segment === undefined) return lost;
  const memory = new RecordMemory();
  for await (const found of recordsOf(store.recordParts, segment, to, from)) {
    if (typeof found === 'number')
      return [...lost, { segment: number, offset: found, hash: undefined }];
    const { offset } = found.header;
    if ((await store.engine.verify(await memory.read(segment, found.header))) === VALID) continue;
    for (const hash of frameHashes(found)) lost.push({ segment: number, offset, hash });
  }
  return lost;
}
