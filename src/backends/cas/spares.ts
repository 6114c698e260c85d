/**
 * Room for the next segments of a store: files of whole size, reserved.
 *
 *     segments/spare-00000007   a spare
 *     segments/making-00000008  one that is not finished
 *
 * Invariants:
 * - Spares are what can be promised to writers: a write into one cannot run out of space.
 * - Writes to volumes leave some of them: checkpoints and collections need those, and without
 *   these nothing could ever be freed.
 * - Each file is counted all the time: as a spare, while something is made of it, and as a segment.
 */
import { join } from 'node:path';
import { type FileLayer, withFile } from './file-layer.ts';

/** Spares that no write to a volume can use up. */
const RESERVED_SPARES = 3;
/** Of these, what a checkpoint can count on. */
const NODE_SPARES = 2;

export interface SpareOptions {
  readonly segmentBytes: number;
  /** Most segment files, spares included. */
  readonly countMax: number;
  /** Spares to keep ready for writes. */
  readonly spareCount: number;
}

export class Spares {
  /** Why there is none, when making one failed. */
  shortage: Error | undefined;
  readonly #files: FileLayer;
  readonly #directory: string;
  readonly #options: SpareOptions;
  readonly #segmentCount: () => number;
  /** Names of their files. */
  readonly #names: string[] = [];
  /** Those that are lent; see {@link lend}. */
  readonly #lent: string[] = [];
  readonly #unfinished: string[] = [];
  #serial = 0;
  /** Files that are spares no more and no segments yet. */
  #usedCount = 0;
  #making: Promise<void> | undefined;
  /** For more files, when that was last looked at. */
  #freeBytes = 0;
  #closed = false;

  /** @param segmentCount tells how many files are segments */
  constructor(
    files: FileLayer,
    directory: string,
    options: SpareOptions,
    segmentCount: () => number,
  ) {
    this.#files = files;
    this.#directory = directory;
    this.#options = options;
    this.#segmentCount = segmentCount;
  }

  get count(): number {
    return this.#names.length + this.#lent.length;
  }

  /** Those that writes to volumes may count on. */
  get dataCount(): number {
    return Math.max(0, this.count - RESERVED_SPARES);
  }

  /** Those that a checkpoint can count on, and what more can be made. */
  get nodeCount(): number {
    const { segmentBytes, countMax } = this.#options;
    const makable = this.shortage === undefined ? Math.floor(this.#freeBytes / segmentBytes) : 0;
    return Math.min(NODE_SPARES, this.count) + Math.min(makable, countMax - this.fileCount);
  }

  /** Of all files, segments included. */
  get fileCount(): number {
    return this.#segmentCount() + this.count + this.#usedCount;
  }

  /** Is there no more room than there is? */
  get isShort(): boolean {
    return this.#closed || this.shortage !== undefined || !this.#canGrow;
  }

  /** Are there fewer than should be kept ready for writes? */
  get isWanted(): boolean {
    return this.dataCount < this.#options.spareCount;
  }

  get #canGrow(): boolean {
    return this.fileCount < this.#options.countMax;
  }

  /** Takes notice of what lies in the directory. */
  async scan(names: readonly string[]): Promise<void> {
    this.#freeBytes = await this.#files.freeBytes(this.#directory);
    for (const name of names) {
      const [, kind, serial] = /^(spare|making)-(\d+)$/.exec(name) ?? [];
      if (kind === undefined) continue;
      if (kind === 'spare') this.#names.push(name);
      else this.#unfinished.push(name);
      this.#serial = Math.max(this.#serial, Number(serial) + 1);
    }
  }

  /** Removes those that a crash left unfinished. */
  async tidy(): Promise<void> {
    for (const name of this.#unfinished.splice(0)) await this.#files.unlink(this.#pathOf(name));
  }

  /**
   * Makes something of a spare's file.
   *
   * @param leftCount so many must be left
   * @param work renames the file; if it throws the file has its name again, and is a spare again
   * @throws when there is none and none can be made
   */
  async use<T>(leftCount: number, work: (path: string) => Promise<T>): Promise<T> {
    if (this.count <= leftCount) await this.replenish(leftCount + 1);
    if (this.count <= leftCount) throw this.shortage ?? noSpace();
    const name = this.#lent.pop() ?? (this.#names.pop() as string);
    this.#usedCount++;
    try {
      return await work(this.#pathOf(name));
    } catch (error) {
      this.#names.push(name);
      throw error;
    } finally {
      this.#usedCount--;
    }
  }

  /** Makes a spare of a file of whole size, whose room is reserved. */
  async add(path: string): Promise<void> {
    const name = this.#nextName();
    await this.#files.rename(path, this.#pathOf(name));
    this.#names.push(name);
  }

  /** Takes up files, by their names, that are as good as spares: those are used before any other. */
  lend(names: readonly string[]): void {
    this.#lent.push(...names);
  }

  /** @returns the names of those that were lent and are not used */
  takeBack(): string[] {
    return this.#lent.splice(0);
  }

  /** Takes notice that there may be more room for files: making one may succeed again. */
  async roomFreed(): Promise<void> {
    this.#freeBytes = await this.#files.freeBytes(this.#directory);
    this.shortage = undefined;
  }

  /**
   * Sees to it that there are enough. Does not throw: {@link shortage} tells what went wrong.
   *
   * @param count that writes need
   */
  async replenish(count = 0): Promise<void> {
    while (this.#making !== undefined) await this.#making;
    if (this.#closed) return;
    this.#making = this.#makeSome(count).finally(() => {
      this.#making = undefined;
    });
    await this.#making;
  }

  /** Makes no more of them. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#making;
  }

  async #makeSome(count: number): Promise<void> {
    const wanted = RESERVED_SPARES + Math.max(count, this.#options.spareCount);
    while (this.count < wanted && this.#canGrow && !this.#closed) {
      const name = this.#nextName();
      const making = this.#pathOf(name.replace('spare', 'making'));
      try {
        await this.#makeFile(making);
        await this.#files.rename(making, this.#pathOf(name));
        this.#names.push(name);
        await this.roomFreed();
      } catch (error) {
        this.shortage = error as Error;
        await this.#files.unlink(making).catch(() => {});
        return;
      }
    }
    if (this.count === 0) this.shortage ??= noSpace();
  }

  async #makeFile(path: string): Promise<void> {
    await withFile(this.#files.open(path, true), async (file) => {
      await file.allocate(this.#options.segmentBytes);
      await file.sync();
    });
  }

  #nextName(): string {
    return `spare-${String(this.#serial++).padStart(8, '0')}`;
  }

  #pathOf(name: string): string {
    return join(this.#directory, name);
  }
}

export function noSpace(): Error {
  return Object.assign(new Error('the store has reached its capacity'), { code: 'ENOSPC' });
}

export function isNoSpace(error: unknown): error is Error {
  return (error as NodeJS.ErrnoException).code === 'ENOSPC';
}
