/**
 * Makes room on this disk, and brings back what is missing on it: of a part that is in the blob
 * store only the heads of its records must be here. Frames that were given up are holes.
 *
 * A frame that is read and is not what it should be, a hole or damaged, has its part fetched again:
 * holes and damage are one case, and what was right before is never written over with anything
 * else, because a record is written only if all of it is right.
 *
 * Invariants:
 * - Only parts that the journal names are given up, of segments that are complete and that neither
 *   the newest checkpoint nor the one before it would replay.
 * - A segment that is held is neither given up nor recycled.
 */
import type { CasEngine } from '../../../native.ts';
import type { BlobStore } from '../blob-store.ts';
import type { Catalog } from '../catalog.ts';
import { alignUp, headLength, RECORD_ALIGNMENT, type RecordHeader, VALID } from '../format.ts';
import type { FrameSource } from '../reader.ts';
import { readRecord } from '../records.ts';
import type { Segment, Segments } from '../segments.ts';
import { partName } from './blob-names.ts';
import type { Journal } from './journal.ts';
import { endOfParts, type Part, partAt } from './journal-entry.ts';
import { recordsIn } from './part.ts';
import { PartFetcher } from './part-fetcher.ts';
import { RecentReads } from './recent-reads.ts';

export interface PartCacheParts {
  readonly journal: Journal;
  readonly blobs: BlobStore;
  readonly engine: CasEngine;
  readonly segments: Segments;
  /** What of the parts that may be given up stays here; Infinity for all. */
  readonly cacheBytes: number;
  onTrouble(error: Error): void;
}

interface StoredPart {
  readonly name: string;
  readonly segment: number;
  readonly part: Part;
}

interface Resident extends StoredPart {
  readonly bytes: number;
}

export class PartCache implements FrameSource {
  readonly #parts: PartCacheParts;
  readonly #fetcher: PartFetcher;
  /** What may be given up and takes room: the next one to go comes first. */
  readonly #residents = new Map<string, Resident>();
  #residentBytes = 0;
  readonly #reads = new RecentReads();
  readonly #holds = new Map<number, number>();
  #evicting: { readonly name: string; readonly done: Promise<void> } | undefined;
  #trimming: Promise<void> | undefined;
  /** Something has changed since the trimming under way has looked. */
  #mustTrim = false;
  /** What {@link headsOnlySegments} says of the last checkpoint but one, and of the last. */
  #headsOnly: ReadonlyMap<number, number> = new Map();
  #headsOnlyNext: ReadonlyMap<number, number> = new Map();
  /** Segments whose parts are known, with these. */
  readonly #enrolled = new Map<number, readonly Part[]>();
  #closed = false;

  constructor(parts: PartCacheParts) {
    this.#parts = parts;
    this.#fetcher = new PartFetcher(parts);
  }

  /** Takes notice of a read. */
  touch(segment: number, place: number): void {
    if (this.#isBounded) this.#reads.note(segment, place);
  }

  /**
   * Fetches the part that holds a byte of a segment, and holds it here while `read` runs.
   *
   * @returns undefined when it is in no part
   * @throws {BlobUnreachableError}
   */
  async restored<T>(
    segment: number,
    offset: number,
    read: () => Promise<T> | T,
  ): Promise<T | undefined> {
    const found = this.#find(segment, offset);
    if (found === undefined || this.#closed) return undefined;
    return await this.holding(segment, async () => {
      await this.#fetch(found);
      return await read();
    });
  }

  /** Have the frames of a record been given up? They are in a part then. */
  async isAway({ number, file }: Segment, header: RecordHeader): Promise<boolean> {
    const [start, end] = framePages(header);
    if (start === end || this.#find(number, header.offset) === undefined) return false;
    return (await file.dataBytes(start, end - start)) === 0;
  }

  /** Keeps a segment here as it is while `work` runs. */
  async holding<T>(segment: number, work: () => Promise<T>): Promise<T> {
    const holds = this.#holds;
    holds.set(segment, (holds.get(segment) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const rest = (holds.get(segment) as number) - 1;
      if (rest > 0) {
        holds.set(segment, rest);
      } else {
        holds.delete(segment);
        this.trim();
      }
    }
  }

  /** Must a segment's file stay as it is for now? */
  holds(segment: number): boolean {
    return this.#holds.has(segment);
  }

  /** Takes up a checkpoint that is durable here. */
  checkpointed(catalog: Catalog): void {
    this.#headsOnly = this.#headsOnlyNext;
    this.#headsOnlyNext = headsOnlySegments(catalog);
  }

  /** Gives up what does not fit any more. */
  trim(): void {
    if (!this.#isBounded || this.#closed) return;
    this.#mustTrim = true;
    this.#trimming ??= this.#trimAll()
      .catch(this.#parts.onTrouble)
      .finally(() => {
        this.#trimming = undefined;
      });
  }

  /** Waits for what is under way; nothing is begun any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#trimming;
    await this.#fetcher.settled();
  }

  get #isBounded(): boolean {
    return this.#parts.cacheBytes !== Number.POSITIVE_INFINITY;
  }

  #find(segment: number, offset: number): StoredPart | undefined {
    const part = partAt(this.#parts.journal.image.segments.get(segment), offset);
    return part && storedPart(segment, part);
  }

  #fetch(stored: StoredPart): Promise<void> {
    const { name, part } = stored;
    return this.#fetcher.fetch(name, part[1] - part[0], async (bytes) => {
      if (this.#evicting?.name === name) await this.#evicting.done;
      if (!this.#closed) await this.#write(stored, bytes);
    });
  }

  async #write(stored: StoredPart, bytes: Uint8Array): Promise<void> {
    const { engine, segments, journal } = this.#parts;
    const { segment, part } = stored;
    const file = segments.table.get(segment)?.file;
    if (file === undefined) return;
    const store = journal.image.superblock?.store;
    for (const { record, header } of recordsIn(bytes, store, segment, part[0])) {
      if ((await engine.verify(record)) !== VALID) continue;
      await file.write(record, record.length, header.offset, false);
    }
    if (this.#headsOnly.has(segment)) this.#enter(stored, part[1] - part[0]);
  }

  /** @param bytes that it takes on this disk */
  #enter(stored: StoredPart, bytes: number): void {
    if (this.#residents.has(stored.name)) return;
    this.#residents.set(stored.name, { ...stored, bytes });
    this.#residentBytes += bytes;
  }

  async #trimAll(): Promise<void> {
    while (this.#mustTrim) {
      this.#mustTrim = false;
      await this.#enroll();
      await this.#trim();
    }
  }

  async #trim(): Promise<void> {
    let chances = 2 * this.#residents.size;
    while (this.#residentBytes > this.#parts.cacheBytes && chances-- > 0 && !this.#closed) {
      const [resident] = this.#residents.values();
      if (resident === undefined) return;
      this.#residents.delete(resident.name);
      if (this.holds(resident.segment) || this.#wasRead(resident)) {
        this.#residents.set(resident.name, resident);
        continue;
      }
      this.#residentBytes -= resident.bytes;
      if (!this.#mayGo(resident)) continue;
      const done = this.holding(resident.segment, () => this.#evict(resident));
      this.#evicting = { name: resident.name, done };
      await done.finally(() => {
        this.#evicting = undefined;
      });
    }
  }

  /** Takes up segments that have become complete. */
  async #enroll(): Promise<void> {
    for (const number of this.#enrolled.keys())
      if (!this.#headsOnly.has(number)) this.#enrolled.delete(number);
    for (const [number, usedBytes] of this.#headsOnly) {
      const stored = this.#parts.journal.image.segments.get(number);
      if (stored === undefined || endOfParts(stored) !== usedBytes) continue;
      if (this.#enrolled.get(number) === stored) continue;
      this.#enrolled.set(number, stored);
      await this.holding(number, async () => {
        for (const part of stored) {
          const bytes = await this.#bytesHere(number, part);
          if (bytes > 0) this.#enter(storedPart(number, part), bytes);
        }
      });
    }
  }

  /** What of a part is on this disk: all of it, where that cannot be told. */
  async #bytesHere(segment: number, [from, to]: Part): Promise<number> {
    const file = this.#parts.segments.table.get(segment)?.file;
    try {
      return (await file?.dataBytes(from, to - from)) ?? 0;
    } catch (error) {
      this.#parts.onTrouble(error as Error);
      return to - from;
    }
  }

  /** Second chance: was any of it read since the last look? */
  #wasRead({ segment, part: [from, to] }: Resident): boolean {
    return this.#reads.take(segment, from, to);
  }

  #mayGo({ name, segment }: Resident): boolean {
    const { journal, segments } = this.#parts;
    const usedBytes = this.#headsOnly.get(segment);
    const isComplete = endOfParts(journal.image.segments.get(segment)) === usedBytes;
    return isComplete && journal.names(name) && segments.table.has(segment);
  }

  /** Gives up whole pages of frames: a page that holds some of a head stays. */
  async #evict({ segment: number, part: [from, to] }: Resident): Promise<void> {
    const { engine, segments, journal } = this.#parts;
    const segment = segments.table.get(number);
    const { superblock } = journal.image;
    if (segment === undefined || superblock === undefined) return;
    for (let offset = from; offset < to; ) {
      const found = await readRecord({ engine, store: superblock.store }, segment, offset);
      // A head that is damaged hides what follows it; a read that misses it will have it repaired.
      if (found === undefined) return;
      const [start, end] = framePages(found.header);
      if (start < end) await segment.file.punch(start, end - start);
      offset = end;
    }
  }
}

function storedPart(segment: number, part: Part): StoredPart {
  return { name: partName(segment, part), segment, part };
}

/** The pages of a record that hold frames only. */
function framePages(header: RecordHeader): [number, number] {
  const { offset, length } = header;
  return [offset + alignUp(headLength(header), RECORD_ALIGNMENT), offset + length];
}

/**
 * Segments whose frames are not needed to open the store, with their length: they are complete, and
 * no replay from this checkpoint on reads them. Nodes stay: every read needs some, and a hundredth
 * of all are nodes.
 */
export function headsOnlySegments({ segments, streams }: Catalog): Map<number, number> {
  return new Map(
    segments
      .filter(({ number, stream, sealed, condemnedIn }) => {
        if (!sealed || condemnedIn > 0 || stream === 'node') return false;
        return stream === 'moved' || number < streams.data.segment;
      })
      .map(({ number, usedBytes }) => [number, usedBytes]),
  );
}
