/** Sends a snapshot as a stream of what another store lacks. */

import type { DeviceClient } from '../../core/device-client.ts';
import { StartupError } from '../../core/startup-error.ts';
import type { CasDevice } from './cas-device.ts';
import { type ChangedLeaf, changedLeaves } from './diff.ts';
import { BLOCK_SIZE, HASH_WORDS } from './format.ts';
import type { HashSet } from './hash-set.ts';
import { HashTable } from './hash-table.ts';
import { isZeroHash } from './hash-words.ts';
import type { CasStore } from './store.ts';
import {
  type ContentKind,
  encodeTransfer,
  PIECE_SHAPES,
  PieceKind,
  type TransferHeader,
  type TransferPiece,
} from './transfer-stream.ts';
import { findRoot } from './walk.ts';

/** Blocks of a stream that are remembered, and not sent again; they take up to 100 bytes each. */
const SENT_COUNT_MAX = 4 << 20;
const NOTHING = Buffer.alloc(0);

/** Makes a client of a device; who calls decides on its memory. */
export type OpenClient = (device: CasDevice) => DeviceClient;

export interface SendOptions {
  /** A snapshot that the other store has, too; undefined to send everything. */
  readonly baseName?: string | undefined;
  /** What the other store has besides. */
  readonly held?: HashSet | undefined;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/**
 * Prepares the stream of a snapshot, or of a volume as the last checkpoint wrote it.
 *
 * @throws {StartupError} snapshot or base does not exist, the base is larger, or it is a volume of a
 *   damaged store, which has made no checkpoint of what was logged since
 */
export async function sendSnapshot(
  store: CasStore,
  name: string,
  openClient: OpenClient,
  options: SendOptions = {},
): Promise<AsyncIterable<Uint8Array>> {
  const { baseName, held } = options;
  if (store.readOnly && store.findVolume(name) !== undefined) {
    throw new StartupError(
      `the store ${store.path} is damaged, so what it would send of ${name} may be out of date`,
      'send a snapshot, or save what can be read of the volume: aoe-server export',
    );
  }
  const root = await findRoot(store, name);
  const base = baseName === undefined ? undefined : await findRoot(store, baseName);
  if (base !== undefined && base.sizeBytes > root.sizeBytes) {
    throw new StartupError(`${baseName} is larger than ${name}`, 'send without it');
  }
  const leaves = () => changedLeaves(store.reader, base, root);
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
  const device = await store.openSnapshot(name);
  const runs = runsOf(leaves(), new Sorter(held));
  const pieces = readPieces(device, openClient(device), runs, (doneBytes) =>
    options.onProgress?.(doneBytes, changedBytes),
  );
  return encodeTransfer(header, pieces);
}

/** What a piece is made of, one after the other. */
interface Item {
  readonly kind: ContentKind;
  readonly lba: number;
  /** Blocks in it that have changed. */
  readonly changedCount: number;
  readonly payload: Buffer;
}

interface Run {
  readonly kind: ContentKind;
  readonly firstLba: number;
  count: number;
  changedCount: number;
  /** Of items that have any. */
  readonly payloads: Buffer[];
}

/** Says of each block how it is sent. */
class Sorter {
  readonly #held: HashSet | undefined;
  /** The numbers of blocks that are sent as data, plus one. */
  readonly #sent = new HashTable();

  constructor(held: HashSet | undefined) {
    this.#held = held;
  }

  *itemsOf({ firstLba, reference, words, changed }: ChangedLeaf): Generator<Item> {
    // A receiver writes all of a leaf: too much for a single block.
    if (changed.length > 1 && this.#held?.has(reference, 0)) {
      const payload = hashBytes(reference, 0);
      const changedCount = changed.length;
      yield { kind: PieceKind.heldLeaves, lba: firstLba, changedCount, payload };
      return;
    }
    for (const child of changed) yield this.#itemOf(firstLba + child, words, child * HASH_WORDS);
  }

  #itemOf(lba: number, words: Uint32Array, index: number): Item {
    const item = { lba, changedCount: 1, payload: NOTHING };
    if (isZeroHash(words, index)) return { ...item, kind: PieceKind.zeroes };
    if (this.#held?.has(words, index)) {
      return { ...item, kind: PieceKind.heldBlocks, payload: hashBytes(words, index) };
    }
    const sent = this.#sent.get(words, index);
    if (sent > 0) {
      const payload = Buffer.alloc(8);
      payload.writeBigUInt64LE(BigInt(sent - 1));
      return { ...item, kind: PieceKind.repeated, payload };
    }
    if (this.#sent.count < SENT_COUNT_MAX) this.#sent.set(words, index, lba + 1);
    return { ...item, kind: PieceKind.data };
  }
}

function hashBytes(words: Uint32Array, index: number): Buffer {
  return Buffer.from(words.slice(index, index + HASH_WORDS).buffer);
}

/** Gathers items that follow each other. */
async function* runsOf(leaves: AsyncIterable<ChangedLeaf>, sorter: Sorter): AsyncGenerator<Run> {
  let run: Run | undefined;
  for await (const leaf of leaves) {
    for (const { kind, lba, changedCount, payload } of sorter.itemsOf(leaf)) {
      if (run === undefined || !isNext(run, kind, lba)) {
        if (run !== undefined) yield run;
        run = { kind, firstLba: lba, count: 0, changedCount: 0, payloads: [] };
      }
      run.count++;
      run.changedCount += changedCount;
      if (payload.length > 0) run.payloads.push(payload);
    }
  }
  if (run !== undefined) yield run;
}

function isNext(run: Run, kind: ContentKind, lba: number): boolean {
  const { itemsMax, itemBlocks } = PIECE_SHAPES[kind];
  const isBehind = lba === run.firstLba + run.count * itemBlocks;
  return kind === run.kind && isBehind && run.count < itemsMax;
}

async function* readPieces(
  device: CasDevice,
  client: DeviceClient,
  runs: AsyncIterable<Run>,
  onProgress: (doneBytes: number) => void,
): AsyncGenerator<TransferPiece> {
  let doneBytes = 0;
  try {
    for await (const { kind, firstLba, count, changedCount, payloads } of runs) {
      const payload =
        kind === PieceKind.data
          ? await client.read(firstLba * BLOCK_SIZE, count * BLOCK_SIZE)
          : Buffer.concat(payloads);
      yield { kind, firstLba, count, payload };
      doneBytes += changedCount * BLOCK_SIZE;
      onProgress(doneBytes);
    }
  } finally {
    await device.close();
  }
}
