/**
 * The segment files: numbered, written from the start to the end by one stream, then never again.
 *
 *     segments/00000001.seg     a segment
 *     segments/spare-00000007   room for the next ones: of whole size, reserved
 *     segments/making-00000008  a spare that is not finished
 *
 * Invariants:
 * - A number is used once in the life of a store, so a record whose header carries the number of
 *   its file was written there in this life of the file.
 * - A file has its final name, durably, before the first record is written to it.
 * - Spares are what can be promised to writers: a write into one cannot run out of space.
 */
import { join } from 'node:path';
import type { CasEngine } from '../../native.ts';
import { type FileLayer, type StoreFile, withFile } from './file-layer.ts';

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

/**
 * Spares that no write to a volume can use up: checkpoints and collections need them, and without
 * those nothing could ever be freed.
 */
const RESERVED_SPARES = 3;
/** Of these, what a checkpoint can count on. */
const NODE_SPARES = 2;
/** What is moved leaves a spare to the checkpoint without which it frees nothing. */
const LEFT_SPARES = { node: 0, moved: 1 };

export interface SegmentOptions {
  readonly segmentBytes: number;
  /** Most segment files, spares included. */
  readonly countMax: number;
  /** Spares to keep ready for writes. */
  readonly spareCount: number;
  /** The largest record. */
  readonly recordBytesMax: number;
}

export class Segments {
  readonly table = new Map<number, Segment>();
  readonly segmentBytes: number;
  /** Room that a record of full size may leave unused at the end of a segment. */
  readonly slackBytes: number;
  /** The number of the next segment. */
  nextNumber = 1;
  /** Spares that writes to the data stream were promised; others must leave them. */
  promisedSpares: () => number = () => 0;
  /** Why there is no spare, when making one failed. */
  shortage: Error | undefined;
  readonly #files: FileLayer;
  readonly #engine: CasEngine;
  readonly #directory: string;
  readonly #options: SegmentOptions;
  readonly #spares: string[] = [];
  /** Numbers of segments whose files are as good as spares; see {@link takeUnused}. */
  readonly #unused: number[] = [];
  readonly #unfinished: string[] = [];
  #spareSerial = 0;
  /** Files that are spares no more and in the table not yet. */
  #activating = 0;
  #making: Promise<void> | undefined;
  /** For more files, when that was last looked at. */
  #freeBytes = 0;
  #closed = false;

  constructor(files: FileLayer, engine: CasEngine, directory: string, options: SegmentOptions) {
    this.#files = files;
    this.#engine = engine;
    this.#directory = directory;
    this.#options = options;
    this.segmentBytes = options.segmentBytes;
    this.slackBytes = options.recordBytesMax;
  }

  get spareCount(): number {
    return this.#spares.length + this.#unused.length;
  }

  /** Spares that writes to volumes may count on. */
  get dataSpareCount(): number {
    return Math.max(0, this.spareCount - RESERVED_SPARES);
  }

  get fileCount(): number {
    return this.table.size + this.spareCount + this.#activating;
  }

  /** Bytes of records that a checkpoint can count on to find room for, in new segments. */
  get nodeRoomBytes(): number {
    const makable =
      this.shortage === undefined ? Math.floor(this.#freeBytes / this.segmentBytes) : 0;
    const allowed = this.#options.countMax - this.fileCount;
    const count = Math.min(NODE_SPARES, this.spareCount) + Math.min(makable, allowed);
    return count * (this.segmentBytes - this.slackBytes);
  }

  /** Is another file allowed? */
  get canGrow(): boolean {
    return this.fileCount < this.#options.countMax;
  }

  /** Is there no more room than there is? */
  get isShort(): boolean {
    return this.shortage !== undefined || !this.canGrow;
  }

  pathOf(number: number): string {
    return join(this.#directory, segmentName(number));
  }

  /** What lies in the directory: numbers of segments, ascending, and names of spares. */
  async scan(): Promise<number[]> {
    const numbers: number[] = [];
    this.#freeBytes = await this.#files.freeBytes(this.#directory);
    for (const name of await this.#files.list(this.#directory)) {
      const match = /^(\d{8,})\.seg$/.exec(name);
      if (match !== null) numbers.push(Number(match[1]));
      const spare = /^(spare|making)-(\d+)$/.exec(name);
      if (spare === null) continue;
      if (spare[1] === 'spare') this.#spares.push(name);
      else this.#unfinished.push(name);
      this.#spareSerial = Math.max(this.#spareSerial, Number(spare[2]) + 1);
    }
    return numbers.sort((a, b) => a - b);
  }

  /** Removes spares that a crash left unfinished. */
  async tidy(): Promise<void> {
    for (const name of this.#unfinished.splice(0)) {
      await this.#files.unlink(join(this.#directory, name));
    }
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
    if (this.spareCount <= promised) await this.replenish(promised + 1);
    if (this.spareCount <= promised) throw this.shortage ?? noSpace();
    const unused = this.#unused.pop();
    const spare = unused === undefined ? (this.#spares.pop() as string) : segmentName(unused);
    const number = this.nextNumber++;
    const [from, to] = [join(this.#directory, spare), this.pathOf(number)];
    this.#activating++;
    try {
      await this.#files.rename(from, to);
      await this.#files.syncDirectory(this.#directory);
      return await this.adopt(number, stream, 0);
    } catch (error) {
      // It takes its room all the same. If it was not renamed, it need not be renamed back.
      await this.#files.rename(to, from).catch(() => {});
      this.#spares.push(spare);
      throw error;
    } finally {
      this.#activating--;
    }
  }

  /**
   * Sees to it that there are spares. Does not throw: {@link shortage} tells what went wrong.
   *
   * @param count of spares that writes need
   */
  async replenish(count = 0): Promise<void> {
    while (this.#making !== undefined) await this.#making;
    if (this.#closed) return;
    this.#making = this.#makeSpares(count).finally(() => {
      this.#making = undefined;
    });
    await this.#making;
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
    this.#unused.push(...numbers);
  }

  /** Gives back those of them that were not used. */
  async recycleUnused(): Promise<void> {
    for (const number of this.#unused.splice(0)) await this.recycle(number);
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
    const isSpare = this.dataSpareCount < this.#options.spareCount && (await this.#fill(number));
    if (isNeeded()) return false;
    await this.forget(number);
    if (isSpare) {
      const name = this.#nextSpareName();
      await this.#files.rename(path, join(this.#directory, name));
      this.#spares.push(name);
    } else {
      await this.#files.unlink(path);
    }
    await this.#files.syncDirectory(this.#directory);
    this.#freeBytes = await this.#files.freeBytes(this.#directory);
    this.shortage = undefined;
    return true;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#making;
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

  async #makeSpares(count: number): Promise<void> {
    const wanted = RESERVED_SPARES + Math.max(count, this.#options.spareCount);
    while (this.spareCount < wanted && this.canGrow && !this.#closed) {
      const name = this.#nextSpareName();
      const making = name.replace('spare', 'making');
      try {
        await this.#makeSpare(making);
        await this.#files.rename(join(this.#directory, making), join(this.#directory, name));
        this.#spares.push(name);
        this.#freeBytes = await this.#files.freeBytes(this.#directory);
        this.shortage = undefined;
      } catch (error) {
        this.shortage = error as Error;
        await this.#files.unlink(join(this.#directory, making)).catch(() => {});
        return;
      }
    }
    if (this.spareCount === 0) this.shortage ??= noSpace();
  }

  async #makeSpare(name: string): Promise<void> {
    await withFile(this.#files.open(join(this.#directory, name), true), async (file) => {
      await file.allocate(this.segmentBytes);
      await file.sync();
    });
  }

  #nextSpareName(): string {
    return `spare-${String(this.#spareSerial++).padStart(8, '0')}`;
  }
}

export function segmentName(number: number): string {
  return `${String(number).padStart(8, '0')}.seg`;
}

export function noSpace(): Error {
  return Object.assign(new Error('the store has reached its capacity'), { code: 'ENOSPC' });
}

export function isNoSpace(error: unknown): error is Error {
  return (error as NodeJS.ErrnoException).code === 'ENOSPC';
}
