/**
 * The stream that carries a snapshot, or what has changed since another, from one store to another;
 * docs/CAS-FORMAT.md describes it. Only its header has a checksum: the root hash in there tells whether
 * everything else has arrived as it was.
 */
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { BLOCK_SIZE, FANOUT, HASH_WORDS } from './format.ts';
import { ByteReader, TransferError } from './transfer-bytes.ts';

const MAGIC = 0x54434f41;
/** Version 1 had no references: no pieces of the kinds after `end`. */
const VERSIONS: readonly number[] = [1, 2];
const VERSION = 2;
const PREAMBLE_SIZE = 16;
const HEADER_BYTES_MAX = 64 << 10;
const PIECE_HEAD_SIZE = 16;
const HASH_BYTES = HASH_WORDS * 4;

/** What a piece holds for each of its items. */
export const PieceKind = {
  /** A block. */
  data: 1,
  /** Nothing: a block of zeroes. */
  zeroes: 2,
  end: 3,
  /** The number of a block that came as data in an earlier piece, and is the same. */
  repeated: 4,
  /** The hash of a block that the receiver has. */
  heldBlocks: 5,
  /** The hash of a leaf that the receiver has, for all of its blocks. */
  heldLeaves: 6,
} as const;
type PieceKind = (typeof PieceKind)[keyof typeof PieceKind];
export type ContentKind = Exclude<PieceKind, typeof PieceKind.end>;

interface PieceShape {
  readonly itemBytes: number;
  readonly itemsMax: number;
  /** Blocks that an item stands for. */
  readonly itemBlocks: number;
  /** The first version of the stream that has it. */
  readonly version: number;
}

export const PIECE_SHAPES: Readonly<Record<ContentKind, PieceShape>> = {
  [PieceKind.data]: { itemBytes: BLOCK_SIZE, itemsMax: 256, itemBlocks: 1, version: 1 },
  [PieceKind.zeroes]: { itemBytes: 0, itemsMax: 1 << 20, itemBlocks: 1, version: 1 },
  [PieceKind.repeated]: { itemBytes: 8, itemsMax: 256, itemBlocks: 1, version: 2 },
  [PieceKind.heldBlocks]: { itemBytes: HASH_BYTES, itemsMax: FANOUT, itemBlocks: 1, version: 2 },
  [PieceKind.heldLeaves]: {
    itemBytes: HASH_BYTES,
    itemsMax: FANOUT,
    itemBlocks: FANOUT,
    version: 2,
  },
};

const rootHash = z.string().regex(/^[0-9a-f]{64}$/);
const headerSchema = z.object({
  /** For people: nothing that a terminal would take for a command. */
  volume: z.string().regex(/^\P{Cc}*$/u),
  sizeBytes: z.number().int().min(BLOCK_SIZE).multipleOf(BLOCK_SIZE),
  root: rootHash,
  base: rootHash.nullable(),
  changedBytes: z.number().int().min(0),
  needsHeld: z.boolean().default(false),
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
  /** May there be references to what the receiver has? */
  readonly needsHeld: boolean;
}

/** Items that follow each other. */
export interface TransferPiece {
  readonly kind: ContentKind;
  readonly firstLba: number;
  readonly count: number;
  /** What its shape says, for each item. */
  readonly payload: Buffer;
}

/** What a stream says, however it comes. */
export interface Transfer {
  readonly header: TransferHeader;
  /** @throws {TransferError} it is cut off or damaged */
  pieces(): AsyncIterable<TransferPiece>;
}

export async function* encodeTransfer(transfer: Transfer): AsyncGenerator<Uint8Array> {
  const text = Buffer.from(JSON.stringify(transfer.header));
  const preamble = Buffer.alloc(PREAMBLE_SIZE);
  preamble.writeUInt32LE(MAGIC, 0);
  preamble.writeUInt32LE(VERSION, 4);
  preamble.writeUInt32LE(text.length, 8);
  preamble.writeUInt32LE(crc32(text), 12);
  yield Buffer.concat([preamble, text]);
  for await (const { kind, firstLba, count, payload } of transfer.pieces()) {
    yield pieceHead(kind, firstLba, count);
    if (payload.length > 0) yield payload;
  }
  yield pieceHead(PieceKind.end, 0, 0);
}

/** What of the disk a piece stands for. */
export function pieceBytes({ kind, count }: TransferPiece): number {
  return count * PIECE_SHAPES[kind].itemBlocks * BLOCK_SIZE;
}

function pieceHead(kind: PieceKind, firstLba: number, count: number): Buffer {
  const head = Buffer.alloc(PIECE_HEAD_SIZE);
  head.writeUInt32LE(kind, 0);
  head.writeUInt32LE(count, 4);
  head.writeBigUInt64LE(BigInt(firstLba), 8);
  return head;
}

/** A stream whose header has been read. */
export class IncomingTransfer implements Transfer {
  readonly header: TransferHeader;
  readonly #reader: ByteReader;
  readonly #version: number;

  private constructor(reader: ByteReader, version: number, header: TransferHeader) {
    this.#reader = reader;
    this.#version = version;
    this.header = header;
  }

  /** @throws {TransferError} */
  static async open(bytes: AsyncIterable<Uint8Array>): Promise<IncomingTransfer> {
    const reader = new ByteReader(bytes, 'the stream');
    const preamble = await reader.take(PREAMBLE_SIZE);
    if (preamble.readUInt32LE(0) !== MAGIC) throw new TransferError('this is no stream of a store');
    const version = preamble.readUInt32LE(4);
    if (!VERSIONS.includes(version)) {
      throw new TransferError(`the stream has version ${version}, which is not known here`);
    }
    const length = preamble.readUInt32LE(8);
    if (length > HEADER_BYTES_MAX) throw reader.damaged();
    const text = await reader.take(length);
    if (version > 1 && preamble.readUInt32LE(12) !== crc32(text)) throw reader.damaged();
    try {
      const header = headerSchema.parse(JSON.parse(text.toString()));
      return new IncomingTransfer(reader, version, header);
    } catch {
      throw reader.damaged();
    }
  }

  /**
   * Ends with the stream.
   *
   * @throws {TransferError} also when it ends before the last piece, or goes on behind it
   */
  async *pieces(): AsyncGenerator<TransferPiece> {
    for (;;) {
      const head = await this.#reader.take(PIECE_HEAD_SIZE);
      const [kind, count] = [head.readUInt32LE(0), head.readUInt32LE(4)];
      const firstLba = Number(head.readBigUInt64LE(8));
      if (kind === PieceKind.end) return this.#reader.takeEnd();
      const shape = this.#shapeOf(kind, count, firstLba);
      const payload = await this.#reader.take(count * shape.itemBytes);
      yield { kind: kind as ContentKind, firstLba, count, payload };
    }
  }

  /** @throws {TransferError} there are no such pieces, or it is not within the disk */
  #shapeOf(kind: number, count: number, firstLba: number): PieceShape {
    const shape = (PIECE_SHAPES as Readonly<Record<number, PieceShape>>)[kind];
    if (shape === undefined || shape.version > this.#version) throw this.#reader.damaged();
    const { itemsMax, itemBlocks } = shape;
    const blockCount = this.header.sizeBytes / BLOCK_SIZE;
    const lastLba = firstLba + (count - 1) * itemBlocks;
    const isPlaced = firstLba % itemBlocks === 0 && lastLba < blockCount;
    if (count === 0 || count > itemsMax || !isPlaced) throw this.#reader.damaged();
    return shape;
  }
}
