/** Writes the dirty nodes of trees, children before their parents. */
import type { CasEngine } from '../../native.ts';
import { dirtyLevels } from './dirty-nodes.ts';
import {
  ENTRY_WORDS,
  EntryKind,
  EntryWord,
  entryWords,
  NODE_SIZE,
  recordSizeMax,
} from './format.ts';
import type { RecordStream } from './stream.ts';
import { REFERENCE_WORDS, type TreeNode } from './tree.ts';

const ROW_LENGTH = 6;
/** Up to here handing a batch to another thread takes longer than doing it. No client waits. */
const INLINE_MAX = 8;

export class NodeWriter {
  readonly #engine: CasEngine;
  readonly #stream: RecordStream;
  readonly #batch: number;
  readonly #slab: Uint8Array;
  readonly #rows: Int32Array;
  readonly #record: Uint8Array;

  /** @param batch nodes in a record at most */
  constructor(engine: CasEngine, stream: RecordStream, batch: number) {
    this.#engine = engine;
    this.#stream = stream;
    this.#batch = batch;
    this.#slab = new Uint8Array(batch * NODE_SIZE);
    this.#rows = new Int32Array(batch * ROW_LENGTH);
    this.#record = new Uint8Array(recordSizeMax(batch, NODE_SIZE));
  }

  /**
   * Writes the dirty nodes of frozen trees. They are durable after the next sync of the stream.
   *
   * @param rest waited for after each batch, with the bytes of its nodes
   */
  async write(roots: readonly TreeNode[], rest: (bytes: number) => Promise<void>): Promise<void> {
    for (const nodes of dirtyLevels(roots)) {
      for (let start = 0; start < nodes.length; start += this.#batch) {
        const batch = nodes.slice(start, start + this.#batch);
        await this.#writeBatch(batch);
        await rest(batch.length * NODE_SIZE);
      }
    }
  }

  async #writeBatch(nodes: readonly TreeNode[]): Promise<void> {
    const record = this.#record;
    if (!this.#stream.fits(recordSizeMax(this.#batch, NODE_SIZE))) await this.#stream.advance();
    nodes.forEach((node, index) => {
      node.learnAll();
      this.#slab.set(new Uint8Array(node.words.buffer), index * NODE_SIZE);
      this.#rows.set([EntryKind.node, 0, node.level, 0, index * NODE_SIZE, 1], index * ROW_LENGTH);
    });
    this.#stream.prepare(record);
    const { length: count } = nodes;
    const args = [this.#slab, this.#rows, count, record, true] as const;
    const inline = count <= INLINE_MAX ? this.#engine.ingestNow(...args) : 0;
    const length = inline === 0 ? await this.#engine.ingest(...args) : inline;
    const words = entryWords(record, count);
    if (nodes.some((_, index) => words[index * ENTRY_WORDS] === EntryKind.node)) {
      await this.#stream.write(record, length);
    }
    this.#engine.written(record);
    nodes.forEach((node, index) => {
      const at = index * ENTRY_WORDS + EntryWord.hash;
      node.reference = words.slice(at, at + REFERENCE_WORDS);
      node.dirty = false;
    });
  }
}
