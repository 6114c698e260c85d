/** Blocks and nodes that were found intact, and where; and those that are not on this disk. */
import { BLOCK_SIZE, EntryKind, NODE_SIZE } from '../format.ts';
import { HashTable } from '../hash-table.ts';
import { decodeFrame } from './frame.ts';
import { hashOf } from './hash.ts';
import { frameExtent } from './record.ts';
import type { StoreDirectory } from './store-directory.ts';

type Content = 'block' | 'node';

export class Inventory {
  readonly #directory: StoreDirectory;
  readonly #tables = { block: new HashTable(), node: new HashTable() };
  readonly #absent = { block: new HashTable(), node: new HashTable() };
  /** Numbers of segments: values of the tables have no room for them. */
  readonly #segments: number[] = [];
  readonly #indexes = new Map<number, number>();
  /** Those of them that hold what collections have moved. */
  readonly #moved = new Set<number>();

  constructor(directory: StoreDirectory) {
    this.#directory = directory;
  }

  get blockCount(): number {
    return this.#tables.block.count;
  }

  get nodeCount(): number {
    return this.#tables.node.count;
  }

  /** @param isMoved a collection has put it there */
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

  /** Is there an intact copy that a collection has moved? */
  hasMoved(content: Content, hash: Buffer): boolean {
    const value = this.#tables[content].get(wordsOf(hash), 0);
    return this.#moved.has(Math.floor(value / 2 ** 32));
  }

  /** Takes up what is in a blob store only, as far as one can tell. */
  addAbsent(content: Content, hash: Buffer): void {
    this.#absent[content].set(wordsOf(hash), 0, 1);
  }

  get absentCount(): number {
    return this.#absent.block.count + this.#absent.node.count;
  }

  isAbsent(content: Content, hash: Buffer): boolean {
    return this.#absent[content].get(wordsOf(hash), 0) !== 0;
  }

  /** Is there an intact copy, here or in a blob store? */
  has(content: Content, hash: Buffer): boolean {
    return this.#tables[content].get(wordsOf(hash), 0) !== 0 || this.isAbsent(content, hash);
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
    if (this.isAbsent(content, hash)) return true;
    return (await this.#read(content, hash, segment, place)) !== undefined;
  }

  async #read(
    content: Content,
    hash: Buffer,
    segment: number,
    place: number,
  ): Promise<Buffer | undefined> {
    const { offset, size } = frameExtent(place);
    const frame = await this.#directory.readSegment(segment, offset, size);
    const raw = decodeFrame(frame, content === 'block' ? BLOCK_SIZE : NODE_SIZE);
    return raw !== undefined && hashOf(content, raw).equals(hash) ? raw : undefined;
  }
}

export function contentOf(kind: number): Content | undefined {
  if (kind === EntryKind.block) return 'block';
  return kind === EntryKind.node ? 'node' : undefined;
}

export function wordsOf(hash: Buffer): Uint32Array {
  return Uint32Array.from({ length: hash.length / 4 }, (_, word) => hash.readUInt32LE(word * 4));
}
