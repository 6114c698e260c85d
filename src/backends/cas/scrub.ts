/**
 * Scrub: reads the superblock, every record and every tree node, verifies all of it, and tells what
 * damage there is and what it affects.
 */
import { noBlobStore } from './blob-store.ts';
import { whileNothingIsFreed } from './collect.ts';
import { BLOCK_SIZE, FANOUT, HASH_WORDS, hexOf, type RecordHeader, VALID } from './format.ts';
import { Pace } from './pace.ts';
import { frameHashes, RecordMemory, readRecord, recordsOf } from './records.ts';
import { type BlobsReport, scrubBlobs } from './remote/scrub-blobs.ts';
import type { Segment } from './segments.ts';
import type { CasStore } from './store.ts';
import { settledBytes, storedRoots, walkTree } from './walk.ts';

export interface ScrubOptions {
  readonly pace?: Pace;
  /** Also everything that is in the blob store. */
  readonly remote?: boolean;
  /** Called after each record, or blob. */
  onProgress?(phase: string, doneBytes: number, totalBytes: number): void;
}

export interface ScrubReport {
  readonly doneBytes: number;
  /** Numbers of damaged copies of the superblock. */
  readonly superblockCopies: readonly number[];
  /** Damaged places in segments. */
  readonly damage: readonly SegmentDamage[];
  /** undefined when that was not asked for. */
  readonly blobs: BlobsReport | undefined;
  /** Blocks of volumes and snapshots that cannot be read, ascending and apart for each. */
  readonly affected: readonly AffectedBlocks[];
}

export interface SegmentDamage {
  readonly segment: number;
  /** Of the record, in bytes. */
  readonly offset: number;
  /** The first damaged frame's hash; undefined when the record itself is damaged. */
  readonly hash: string | undefined;
}

interface Found {
  readonly damage: SegmentDamage[];
  /** Hashes of frames that may be damaged; undefined: any may be. */
  readonly suspects: (string | undefined)[];
}

export interface AffectedBlocks {
  /** Of the volume or snapshot. */
  readonly name: string;
  readonly lba: number;
  readonly count: number;
}

/**
 * Verifies everything that is stored now. Clients and collections go on meanwhile.
 *
 * @throws {StartupError} there is no blob store
 * @throws {BlobUnreachableError} what is not on this disk, or damaged there, cannot be verified
 * @throws the pace's reason, when it is cancelled
 */
export async function scrub(store: CasStore, options: ScrubOptions = {}): Promise<ScrubReport> {
  const { pace = new Pace(), remote = false, onProgress } = options;
  const { journal } = store;
  if (remote && journal === undefined) throw noBlobStore(store.path);
  // What is in blobs only is fetched once.
  const isLeftOut = async (segment: Segment, header: RecordHeader) =>
    remote && ((await store.reader.frames?.isAway(segment, header)) ?? false);
  // First, as checkpoints write them anew.
  const superblockCopies = await store.damagedCopies();
  if (!store.readOnly) await store.checkpoint(() => pace.isUrgent);
  const segments = [...store.segments.table.values()].filter((one) => !store.isFreed(one));
  const ends = new Map(segments.map((segment) => [segment, settledBytes(store, segment)]));
  const totalBytes = [...ends.values()].reduce((sum, end) => sum + end, 0);
  const damage: SegmentDamage[] = [];
  const suspects = new Set<string | undefined>();
  let doneBytes = 0;
  for (const [segment, end] of ends) {
    const found: Found = { damage: [], suspects: [] };
    try {
      for await (const length of scrubSegment(store, segment, end, found, isLeftOut)) {
        doneBytes += length;
        onProgress?.('scrubbing', doneBytes, totalBytes);
        await pace.spend(length);
      }
    } catch (error) {
      if (!store.isFreed(segment)) throw error;
    }
    // A collection has moved what counted of it: the file, and the blobs, may be another one's.
    if (store.isFreed(segment)) continue;
    damage.push(...found.damage);
    for (const hash of found.suspects) suspects.add(hash);
  }
  const blobs =
    remote && journal !== undefined
      ? await scrubBlobs(store, journal, pace, (done, total) =>
          onProgress?.('scrubbing the blob store', done, total),
        )
      : undefined;
  for (const { hash } of blobs?.suspects ?? []) suspects.add(hash);
  const affected =
    suspects.size > 0
      ? await whileNothingIsFreed(store, pace, () => findAffected(store, suspects, pace))
      : [];
  store.toldDamagedCopies();
  return { doneBytes, superblockCopies, damage, blobs, affected };
}

/** Yields the bytes of each record. */
async function* scrubSegment(
  store: CasStore,
  segment: Segment,
  end: number,
  { damage, suspects }: Found,
  isLeftOut: (segment: Segment, header: RecordHeader) => Promise<boolean>,
): AsyncGenerator<number> {
  const memory = new RecordMemory();
  for await (const found of recordsOf(store.recordParts, segment, end)) {
    if (typeof found === 'number') {
      damage.push({ segment: segment.number, offset: found, hash: undefined });
      suspects.push(undefined);
      return;
    }
    const { header } = found;
    const verify = async (): Promise<number> =>
      store.engine.verify(await memory.read(segment, header));
    let result = await verify();
    if (result !== VALID && (await isLeftOut(segment, header))) {
      result = VALID;
    } else if (result !== VALID) {
      // Not on this disk, or damaged there: what is stored elsewhere counts.
      const { frames } = store.reader;
      result = (await frames?.restored(segment.number, header.offset, verify)) ?? result;
    }
    if (result !== VALID) {
      const again = await readRecord(store.recordParts, segment, header.offset);
      // What has damaged a frame may have damaged those behind it; below 0 it is the record itself.
      const [hash, ...behind] = result < 0 ? [] : frameHashes(again ?? found, result);
      damage.push({ segment: segment.number, offset: header.offset, hash });
      suspects.push(hash, ...behind);
    }
    yield header.length;
  }
}

/** Finds the blocks of volumes and snapshots that cannot be read. Only called after damage. */
async function findAffected(
  store: CasStore,
  suspects: ReadonlySet<string | undefined>,
  pace: Pace,
): Promise<AffectedBlocks[]> {
  const affected: { -readonly [Key in keyof AffectedBlocks]: AffectedBlocks[Key] }[] = [];
  const add = (name: string, lba: number, count: number) => {
    const last = affected.at(-1);
    if (last?.name === name && last.lba + last.count === lba) last.count += count;
    else affected.push({ name, lba, count });
  };
  // A record whose entries cannot be read may have held anything: every block is tried.
  const any = suspects.has(undefined);
  for (const root of storedRoots(store)) {
    await walkTree(store.reader, root, pace, {
      enter: () => true,
      async node({ level, firstLba, words }) {
        if (level > 0) return;
        for (let child = 0; child < FANOUT; child++) {
          if (!any && !suspects.has(hexOf(words, child * HASH_WORDS))) continue;
          await pace.spend(BLOCK_SIZE);
          if (await store.reader.isIntact(words, child)) continue;
          add(root.name, firstLba + child, 1);
        }
      },
      damaged(level, firstLba) {
        const rest = Math.ceil(root.sizeBytes / BLOCK_SIZE) - firstLba;
        const count = Math.min(rest, FANOUT ** (level + 1));
        add(root.name, firstLba, count);
      },
    });
  }
  return affected;
}
