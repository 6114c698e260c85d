/**
 * The segment files: numbered, written from the start to the end by one stream, then never again.
 * They are made of spares.
 *
 *     segments/00000001.seg   a segment
 *
 * Invariants:
 * - A number is used once in the life of a store, so a record whose header carries the number of
 *   its file was written there in this life of the file.
 * - A file has its final name, durably, before the first record is written to it.
 */
import { join } from 'node:path';
import type { CasEngine } from '../../native.ts';
import type { FileLayer, StoreFile } from './file-layer.ts';
import { type SpareOptions, Spares } from './spares.ts';

/** Which stream of records a segment belongs to. */
export type StreamName = 'data' | 'node' | 'moved';

export interface Segment {
  readonly number: number;
  readonly stream: StreamName;
  /** Bytes of records. */
  usedBytes: number;
  /** Its last record was followed by a record in the next segment. */
  sealed: boolean;
  /** The checkpoint that does not need it any more, as a generation; 0 while it is needed. */
  condemnedIn: number;
  readonly file: StoreFile;
}

/** What is moved leaves a spare to the checkpoint without which it frees nothing. */
const LEFT_SPARES = { node: 0, moved: 1 };

export interface SegmentOptions extends SpareOptions {
  /** The largest record. */
  readonly recordBytesMax: number;
}

export class Segments {
  readonly table = new Map<number, Segment>();
  readonly spares: Spares;
  readonly segmentBytes: number;
  /** Room that a record of full size may leave unused at the end of a segment. */
  readonly slackBytes: number;
  /** The number of the next segment. */
  nextNumber = 1;
  /** Spares that writes to the data stream were promised; others must leave them. */
  promisedSpares: () => number = () => 0;
  readonly #files: FileLayer;
  readonly #engine: CasEngine;
  readonly #directory: string;

  constructor(files: FileLayer, engine: CasEngine, directory: string, options: SegmentOptions) {
    this.#files = files;
    this.#engine = engine;
    this.#directory = directory;
    this.spares = new Spares(files, directory, options, () => this.table.size);
    this.segmentBytes = options.segmentBytes;
    this.slackBytes = options.recordBytesMax;
  }

  /** Bytes of records that there is room for in a segment, for all that may be left at its end. */
  get usableBytes(): number {
    return this.segmentBytes - this.slackBytes;
  }

  /** The same that a checkpoint can count on, in new segments. */
  get nodeRoomBytes(): number {
    return this.spares.nodeCount * this.usableBytes;
  }

  pathOf(number: number): string {
    return join(this.#directory, segmentName(number));
  }

  /** @returns the numbers of the segments that lie in the directory, ascending */
  async scan(): Promise<number[]> {
    const names = await this.#files.list(this.#directory);
    await this.spares.scan(names);
    const numbers = names.map(segmentNumber).filter((number) => number !== undefined);
    return numbers.sort((a, b) => a - b);
  }

  /** Takes up an existing file. @throws the system's error; nothing is left open then */
  async adopt(number: number, stream: StreamName, usedBytes: number): Promise<Segment> {
    const file = await this.#files.open(this.pathOf(number), false);
    try {
      this.#engine.attach(number, file.source);
    } catch (error) {
      await file.close();
      throw error;
    }
    const segment = { number, stream, usedBytes, sealed: false, condemnedIn: 0, file };
    this.table.set(number, segment);
    this.nextNumber = Math.max(this.nextNumber, number + 1);
    return segment;
  }

  /** Turns a spare into the next segment. @throws when there is none and none can be made */
  async activate(stream: StreamName): Promise<Segment> {
    const promised = stream === 'data' ? 0 : this.promisedSpares() + LEFT_SPARES[stream];
    return this.spares.use(promised, async (from) => {
      const number = this.nextNumber++;
      const to = this.pathOf(number);
      try {
        await this.#files.rename(from, to);
        await this.#files.syncDirectory(this.#directory);
        return await this.adopt(number, stream, 0);
      } catch (error) {
        // It takes its room all the same. If it was not renamed, it need not be renamed back.
        await this.#files.rename(to, from).catch(() => {});
        throw error;
      }
    });
  }

  /** Lets go of a file that holds nothing that counts; the file stays. */
  async forget(number: number): Promise<void> {
    const segment = this.table.get(number);
    this.#engine.detach(number);
    this.table.delete(number);
    await segment?.file.close();
  }

  /**
   * Takes the files of segments that no superblock knows for spares, for as long as others may not
   * come back yet. Those that are used get a higher number: that of none is used twice.
   */
  async takeUnused(numbers: readonly number[]): Promise<void> {
    for (const number of numbers) await this.forget(number);
    this.spares.lend(numbers.map(segmentName));
  }

  /** Gives back those of them that were not used. */
  async recycleUnused(): Promise<void> {
    for (const name of this.spares.takeBack()) await this.recycle(segmentNumber(name) as number);
  }

  /**
   * Gives a segment's file back; its content is worthless. Nobody may read it any more, unless
   * `isNeeded` says so: that is asked again at the last moment.
   *
   * @returns false when it is needed: then it stays as it is
   */
  async recycle(number: number, isNeeded: () => boolean = () => false): Promise<boolean> {
    if (isNeeded()) return false;
    const path = this.pathOf(number);
    const isSpare = this.spares.isWanted && (await this.#fill(number));
    if (isNeeded()) return false;
    await this.forget(number);
    if (isSpare) await this.spares.add(path);
    else await this.#files.unlink(path);
    await this.#files.syncDirectory(this.#directory);
    await this.spares.roomFreed();
    return true;
  }

  async close(): Promise<void> {
    await this.spares.close();
    for (const segment of this.table.values()) {
      this.#engine.detach(segment.number);
      await segment.file.close();
    }
    this.table.clear();
  }

  /**
   * Reserves all room of a file: parts that are kept elsewhere may have given theirs back.
   *
   * @returns false when there is not so much
   */
  async #fill(number: number): Promise<boolean> {
    const { file } = this.table.get(number) ?? {};
    if (file === undefined) return false;
    try {
      await file.allocate(this.segmentBytes);
      await file.sync();
      return true;
    } catch {
      return false;
    }
  }
}

export function segmentName(number: number): string {
  return `${String(number).padStart(8, '0')}.seg`;
}

function segmentNumber(name: string): number | undefined {
  const [, digits] = /^(\d{8,})\.seg$/.exec(name) ?? [];
  return digits === undefined ? undefined : Number(digits);
}
