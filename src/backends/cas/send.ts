/** Sends a snapshot as a stream of what another store lacks. */

import { StartupError } from '../../core/startup-error.ts';
import { type ChangedLeaf, changedLeaves } from './diff.ts';
import { BLOCK_SIZE, HASH_WORDS } from './format.ts';
import type { HashSet } from './hash-set.ts';
import { HashTable } from './hash-table.ts';
import { isZeroHash } from './hash-words.ts';
import { Pace } from './pace.ts';
import { type BlockReader, DamageError } from './reader.ts';
import type { CasStore } from './store.ts';
import {
  type ContentKind,
  encodeTransfer,
  PIECE_SHAPES,
  PieceKind,
  type TransferHeader,
  type TransferPiece,
} from './transfer-stream.ts';
import { findRootNow } from './walk.ts';

/** Blocks of a stream that are remembered, and not sent again; they take up to 100 bytes each. */
const SENT_COUNT_MAX = 4 << 20;
/** Blocks that are read at once. */
const READ_COUNT = 32;
const NOTHING = Buffer.alloc(0);

export interface SendOptions {
  /** A snapshot that the other store has, too; undefined to send everything. */
  readonly baseName?: string | undefined;
  /** What the other store has besides. */
  readonly held?: HashSet | undefined;
  readonly pace?: Pace;
  /** How many blocks may be remembered. */
  readonly sentCountMax?: number | undefined;
}

/**
 * Yields the stream of a snapshot, or of a volume as it is now. What it reads stays until the end,
 * also when the snapshot is deleted meanwhile.
 *
 * @throws {StartupError} before anything is yielded: snapshot or base does not exist, the base is
 *   larger, or it is a volume of a damaged store, which makes no checkpoint of what was logged
 * @throws {StartupError} something of it is damaged
 * @throws the pace's reason, when it is cancelled
 */
export async function* sendSnapshot(
  store: CasStore,
  name: string,
  options: SendOptions = {},
): AsyncGenerator<Uint8Array> {
  const { baseName, held, pace = new Pace(), sentCountMax = SENT_COUNT_MAX } = options;
  if (store.findVolume(name) !== undefined) {
    refuseOutdated(store, name);
    await store.checkpointWritten(() => pace.isUrgent);
  }
  await store.whenSnapshotsStored();
  const root = findRootNow(store, name);
  const base = baseName === undefined ? undefined : findRootNow(store, baseName);
  if (base !== undefined && base.sizeBytes > root.sizeBytes) {
    throw new StartupError(`${baseName} is larger than ${name}`, 'send without it');
  }
  // Before anything is waited for: they might be deleted meanwhile.
  const release = store.hold(base === undefined ? [root] : [root, base]);
  try {
    const leaves = () => changedLeaves(store.reader, base, root, pace);
    let changedBytes = 0;
    for await (const { changed } of leaves()) changedBytes += changed.length * BLOCK_SIZE;
    const header: TransferHeader = {
      volume: store.snapshots.find((snapshot) => snapshot.name === root.name)?.volume ?? root.name,
      sizeBytes: root.sizeBytes,
      root: root.root[0],
      base: base?.root[0] ?? null,
      changedBytes,
      needsHeld: held !== undefined,
    };
    const runs = runsOf(leaves(), new Sorter(held, sentCountMax));
    yield* encodeTransfer({ header, pieces: () => piecesOf(store.reader, runs, pace) });
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    throw new StartupError(
      `${name} is damaged: there is ${error.message}`,
      'see what is lost: aoe-server cas scrub; a target serves the rest',
      { cause: error },
    );
  } finally {
    release();
  }
}

function refuseOutdated({ path, readOnly }: CasStore, name: string): void {
  if (!readOnly) return;
  throw new StartupError(
    `the store ${path} is damaged, so what it would send of ${name} may be out of date`,
    'send a snapshot, or save what can be read of the volume: aoe-server export',
  );
}

/** What a piece is made of, one after the other. */
interface Item {
  readonly kind: ContentKind;
  readonly lba: number;
  readonly payload: Buffer | Place;
}

/** Where a block is: a child of a leaf. */
interface Place {
  readonly words: Uint32Array;
  readonly child: number;
}

interface Run {
  readonly kind: ContentKind;
  readonly firstLba: number;
  count: number;
  /** Of items that have any. */
  readonly payloads: (Buffer | Place)[];
}

/** Says of each block how it is sent. */
class Sorter {
  readonly #held: HashSet | undefined;
  readonly #sentCountMax: number;
  /** The numbers of blocks that are sent as data, plus one. */
  readonly #sent = new HashTable();

  constructor(held: HashSet | undefined, sentCountMax: number) {
    this.#held = held;
    this.#sentCountMax = sentCountMax;
  }

  *itemsOf({ firstLba, reference, words, changed }: ChangedLeaf): Generator<Item> {
    // A receiver writes all of a leaf: too much for a single block.
    if (changed.length > 1 && this.#held?.has(reference, 0)) {
      const payload = hashBytes(reference, 0);
      yield { kind: PieceKind.heldLeaves, lba: firstLba, payload };
      return;
    }
    for (const child of changed) yield this.#itemOf(firstLba + child, words, child);
  }

  #itemOf(lba: number, words: Uint32Array, child: number): Item {
    const index = child * HASH_WORDS;
    if (isZeroHash(words, index)) return { kind: PieceKind.zeroes, lba, payload: NOTHING };
    if (this.#held?.has(words, index)) {
      return { kind: PieceKind.heldBlocks, lba, payload: hashBytes(words, index) };
    }
    const sent = this.#sent.get(words, index);
    if (sent > 0) {
      const payload = Buffer.alloc(8);
      payload.writeBigUInt64LE(BigInt(sent - 1));
      return { kind: PieceKind.repeated, lba, payload };
    }
    if (this.#sent.count < this.#sentCountMax) this.#sent.set(words, index, lba + 1);
    return { kind: PieceKind.data, lba, payload: { words, child } };
  }
}

function hashBytes(words: Uint32Array, index: number): Buffer {
  return Buffer.from(words.slice(index, index + HASH_WORDS).buffer);
}

/** Gathers items that follow each other. */
async function* runsOf(leaves: AsyncIterable<ChangedLeaf>, sorter: Sorter): AsyncGenerator<Run> {
  let run: Run | undefined;
  for await (const leaf of leaves) {
    for (const { kind, lba, payload } of sorter.itemsOf(leaf)) {
      if (run === undefined || !isNext(run, kind, lba)) {
        if (run !== undefined) yield run;
        run = { kind, firstLba: lba, count: 0, payloads: [] };
      }
      run.count++;
      if (payload !== NOTHING) run.payloads.push(payload);
    }
  }
  if (run !== undefined) yield run;
}

function isNext(run: Run, kind: ContentKind, lba: number): boolean {
  const { itemsMax, itemBlocks } = PIECE_SHAPES[kind];
  const isBehind = lba === run.firstLba + run.count * itemBlocks;
  return kind === run.kind && isBehind && run.count < itemsMax;
}

async function* piecesOf(
  reader: BlockReader,
  runs: AsyncIterable<Run>,
  pace: Pace,
): AsyncGenerator<TransferPiece> {
  for await (const { kind, firstLba, count, payloads } of runs) {
    const payload =
      kind === PieceKind.data
        ? await readBlocks(reader, payloads as Place[], pace)
        : Buffer.concat(payloads as Buffer[]);
    yield { kind, firstLba, count, payload };
  }
}

async function readBlocks(
  reader: BlockReader,
  places: readonly Place[],
  pace: Pace,
): Promise<Buffer> {
  const blocks = Buffer.alloc(places.length * BLOCK_SIZE);
  for (let start = 0; start < places.length; start += READ_COUNT) {
    const part = places.slice(start, start + READ_COUNT);
    await Promise.all(
      part.map(({ words, child }, index) =>
        reader.readChild(words, child, blocks, (start + index) * BLOCK_SIZE),
      ),
    );
    await pace.spend(part.length * BLOCK_SIZE);
  }
  return blocks;
}
