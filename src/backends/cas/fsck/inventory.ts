/** Blocks and nodes that were found intact, and where; and those that are not on this disk. */
import { HashTable } from '../hash-table.ts';
import { type Content, restoreFrame } from './frame.ts';
import { frameExtent } from './record.ts';
import type { SegmentSource } from './store-directory.ts';

/** Who learns of the frames of a record. */
export interface FrameTaker {
  /** @param isMoved a collection has put it there */
  add(content: Content, hash: Buffer, segment: number, place: number, isMoved: boolean): void;
  /** Takes up what is in a blob store only, as far as one can tell. */
  addAbsent(content: Content, hash: Buffer): void;
}

export class Inventory implements FrameTaker {
  readonly #directory: SegmentSource;
  readonly #blobs: SegmentSource | undefined;
  readonly #tables = { block: new HashTable(), node: new HashTable() };
  readonly #absent = { block: new HashTable(), node: new HashTable() };
  /** Numbers of segments: values of the tables have no room for them. */
  readonly #segments: number[] = [];
  readonly #indexes = new Map<number, number>();
  /** Those of them that hold what collections have moved. */
  readonly #moved = new Set<number>();

  /** @param blobs where segments are, too, if that is examined */
  constructor(directory: SegmentSource, blobs: SegmentSource | undefined) {
    this.#directory = directory;
    this.#blobs = blobs;
  }

  get blockCount(): number {
    return this.#tables.block.count;
  }

  get nodeCount(): number {
    return this.#tables.node.count;
  }

  add(content: Content, hash: Buffer, segment: number, place: number, isMoved: boolean): void {
    if (this.hasMoved(content, hash)) return;
    let index = this.#indexes.get(segment);
    if (index === undefined) {
      index = this.#segments.push(segment);
      this.#indexes.set(segment, index);
    }
    if (isMoved) this.#moved.add(index);
    this.#tables[content].set(wordsOf(hash), 0, index * 2 ** 32 + place);
  }

  /** Takes up what was found in a blob store: what is on this disk is read there. */
  addStored(
    content: Content,
    hash: Buffer,
    segment: number,
    place: number,
    isMoved: boolean,
  ): void {
    const isHere = this.#tables[content].get(wordsOf(hash), 0) !== 0;
    if (isMoved || !isHere) this.add(content, hash, segment, place, isMoved);
  }

  /** Is there an intact copy that a collection has moved? */
  hasMoved(content: Content, hash: Buffer): boolean {
    const value = this.#tables[content].get(wordsOf(hash), 0);
    return this.#moved.has(Math.floor(value / 2 ** 32));
  }

  addAbsent(content: Content, hash: Buffer): void {
    this.#absent[content].set(wordsOf(hash), 0, 1);
  }

  /** What was not examined. */
  get absentCount(): number {
    if (this.#blobs !== undefined) return 0;
    return this.#absent.block.count + this.#absent.node.count;
  }

  /** Is it in a blob store only, which is not examined? */
  isAbsent(content: Content, hash: Buffer): boolean {
    return this.#blobs === undefined && this.#isHole(content, hash);
  }

  /** Is there an intact copy, as far as one can tell? */
  has(content: Content, hash: Buffer): boolean {
    return this.#tables[content].get(wordsOf(hash), 0) !== 0 || this.isAbsent(content, hash);
  }

  hasAny(hash: Buffer): boolean {
    return this.has('block', hash) || this.has('node', hash);
  }

  hasSegment(segment: number): boolean {
    return this.#indexes.has(segment);
  }

  /** @returns undefined when there is no intact copy */
  async readNode(hash: Buffer): Promise<Buffer | undefined> {
    const value = this.#tables.node.get(wordsOf(hash), 0);
    if (value === 0) return undefined;
    const segment = this.#segments[Math.floor(value / 2 ** 32) - 1] as number;
    return this.#read('node', hash, segment, value % 2 ** 32);
  }

  /** Is there an intact copy at this very place, as far as one can tell? */
  async isAt(content: Content, hash: Buffer, segment: number, place: number): Promise<boolean> {
    const index = this.#indexes.get(segment) ?? 0;
    if (this.#tables[content].get(wordsOf(hash), 0) === index * 2 ** 32 + place) return true;
    if (this.#isHole(content, hash)) return true;
    return (await this.#read(content, hash, segment, place)) !== undefined;
  }

  #isHole(content: Content, hash: Buffer): boolean {
    return this.#absent[content].get(wordsOf(hash), 0) !== 0;
  }

  async #read(
    content: Content,
    hash: Buffer,
    segment: number,
    place: number,
  ): Promise<Buffer | undefined> {
    const { offset, size } = frameExtent(place);
    for (const source of [this.#directory, this.#blobs]) {
      const frame = await source?.readSegment(segment, offset, size);
      const raw = frame && restoreFrame(frame, content, hash);
      if (raw !== undefined) return raw;
    }
    return undefined;
  }
}

export function wordsOf(hash: Buffer): Uint32Array {
  return Uint32Array.from({ length: hash.length / 4 }, (_, word) => hash.readUInt32LE(word * 4));
}
