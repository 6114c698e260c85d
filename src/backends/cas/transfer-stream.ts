/**
 * The stream that carries a snapshot, or what has changed since another, from one store to another;
 * docs/CAS-FORMAT.md describes it. It has no checksum of its own: the root hash in its header tells
 * whether everything has arrived as it was.
 */
import { z } from 'zod';
import { BLOCK_SIZE } from './format.ts';

const MAGIC = 0x54434f41;
const VERSION = 1;
const PREAMBLE_SIZE = 16;
const HEADER_BYTES_MAX = 64 << 10;
const PIECE_HEAD_SIZE = 16;
const PieceKind = { data: 1, zeroes: 2, end: 3 } as const;
/** Blocks in a piece of data. */
export const DATA_COUNT_MAX = 256;
/** Blocks in a piece of zeroes. */
const ZERO_COUNT_MAX = 1 << 20;

const rootHash = z.string().regex(/^[0-9a-f]{64}$/);
const headerSchema = z.object({
  volume: z.string(),
  sizeBytes: z.number().int().min(BLOCK_SIZE).multipleOf(BLOCK_SIZE),
  root: rootHash,
  base: rootHash.nullable(),
  changedBytes: z.number().int().min(0),
});

/** What a stream carries. */
export interface TransferHeader {
  /** The volume that the snapshot is of. */
  readonly volume: string;
  readonly sizeBytes: number;
  /** The hash of the snapshot's root. */
  readonly root: string;
  /** The hash of the root that the changes apply to; null when the stream holds everything. */
  readonly base: string | null;
  /** What the pieces cover, for showing progress. */
  readonly changedBytes: number;
}

/** Blocks that follow each other; `data` undefined for zeroes. */
export interface TransferPiece {
  readonly firstLba: number;
  readonly count: number;
  readonly data: Buffer | undefined;
}

/** Bytes that are no stream, or the beginning of one. */
export class TransferError extends Error {
  readonly code = 'AOE_CAS_TRANSFER';

  constructor(message: string) {
    super(message);
    this.name = 'TransferError';
  }
}

export async function* encodeTransfer(
  header: TransferHeader,
  pieces: AsyncIterable<TransferPiece>,
): AsyncGenerator<Uint8Array> {
  const text = Buffer.from(JSON.stringify(header));
  const preamble = Buffer.alloc(PREAMBLE_SIZE);
  preamble.writeUInt32LE(MAGIC, 0);
  preamble.writeUInt32LE(VERSION, 4);
  preamble.writeUInt32LE(text.length, 8);
  yield Buffer.concat([preamble, text]);
  for await (const { firstLba, count, data } of pieces) {
    if (data !== undefined) {
      yield pieceHead(PieceKind.data, firstLba, count);
      yield data;
      continue;
    }
    for (let done = 0; done < count; done += ZERO_COUNT_MAX) {
      yield pieceHead(PieceKind.zeroes, firstLba + done, Math.min(ZERO_COUNT_MAX, count - done));
    }
  }
  yield pieceHead(PieceKind.end, 0, 0);
}

function pieceHead(kind: number, firstLba: number, count: number): Buffer {
  const head = Buffer.alloc(PIECE_HEAD_SIZE);
  head.writeUInt32LE(kind, 0);
  head.writeUInt32LE(count, 4);
  head.writeBigUInt64LE(BigInt(firstLba), 8);
  return head;
}

/** Reads a stream: the header first, then the pieces. */
export class TransferDecoder {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(bytes: AsyncIterable<Buffer>) {
    this.#chunks = bytes[Symbol.asyncIterator]();
  }

  /** @throws {TransferError} */
  async readHeader(): Promise<TransferHeader> {
    const preamble = await this.#take(PREAMBLE_SIZE);
    if (preamble.readUInt32LE(0) !== MAGIC) throw new TransferError('this is no stream of a store');
    const version = preamble.readUInt32LE(4);
    if (version !== VERSION) throw new TransferError(`the stream has version ${version}`);
    const length = preamble.readUInt32LE(8);
    if (length > HEADER_BYTES_MAX) throw damaged();
    const text = (await this.#take(length)).toString();
    try {
      return headerSchema.parse(JSON.parse(text));
    } catch {
      throw damaged();
    }
  }

  /** Ends after the last piece. @throws {TransferError} also when the stream ends before */
  async *readPieces({ sizeBytes }: TransferHeader): AsyncGenerator<TransferPiece> {
    const blockCount = sizeBytes / BLOCK_SIZE;
    for (;;) {
      const head = await this.#take(PIECE_HEAD_SIZE);
      const [kind, count] = [head.readUInt32LE(0), head.readUInt32LE(4)];
      const firstLba = Number(head.readBigUInt64LE(8));
      if (kind === PieceKind.end) return;
      const countMax = kind === PieceKind.data ? DATA_COUNT_MAX : ZERO_COUNT_MAX;
      const isKnown = kind === PieceKind.data || kind === PieceKind.zeroes;
      if (!isKnown || count === 0 || count > countMax || firstLba + count > blockCount) {
        throw damaged();
      }
      const data = kind === PieceKind.data ? await this.#take(count * BLOCK_SIZE) : undefined;
      yield { firstLba, count, data };
    }
  }

  async #take(length: number): Promise<Buffer> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const { value, done } = await this.#chunks.next();
      if (done === true) throw new TransferError('the stream ends too early');
      parts.push(value);
      have += value.length;
    }
    const bytes = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    this.#rest = bytes.subarray(length);
    return bytes.subarray(0, length);
  }
}

function damaged(): TransferError {
  return new TransferError('the stream is damaged');
}
