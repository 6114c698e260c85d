/** Makes a snapshot of a stream that another store has sent. */

import { BlockError } from '../../core/block-error.ts';
import { DeviceClient } from '../../core/device-client.ts';
import { StartupError } from '../../core/startup-error.ts';
import { BLOCK_SIZE, FANOUT, HASH_WORDS, NODE_WORDS } from './format.ts';
import { isZeroHash } from './hash-words.ts';
import { Pace } from './pace.ts';
import { type BlockReader, DamageError } from './reader.ts';
import { isNoSpace } from './spares.ts';
import type { CasStore } from './store.ts';
import type { StoreOptions } from './store-options.ts';
import { TransferError } from './transfer-bytes.ts';
import {
  PieceKind,
  type Transfer,
  type TransferHeader,
  type TransferPiece,
} from './transfer-stream.ts';
import { findRoot, storedRoots } from './walk.ts';

/** A request to the device moves so much at most, and all at once as much as a repeating piece has. */
const SLOT_BYTES = 32 << 10;
const SLOTS_BYTES = 1 << 20;
/** Written or forgotten at once: clients wait for that. */
const WRITE_BYTES = 128 << 10;
const TRIM_BLOCKS = 1 << 14;

export interface Received {
  readonly header: TransferHeader;
  /** What of it the store had already. */
  readonly foundBytes: number;
}

/** How a store must be opened that a stream is for. */
export function receiverOptions({ needsHeld }: TransferHeader): Partial<StoreOptions> {
  // What the stream refers to is found by the index, which must leave nothing out then.
  return needsHeld ? { indexBytesMax: Number.MAX_SAFE_INTEGER } : {};
}

/**
 * Makes a snapshot of a stream. It appears when all of it has arrived and its root hash is the one
 * that was sent; whatever happens before leaves nothing.
 *
 * @throws {StartupError} the name is taken, or the store does not have the base, or something that
 *   the stream refers to, or room
 * @throws {TransferError} the stream is cut off or damaged
 */
export async function receiveSnapshot(
  store: CasStore,
  name: string,
  transfer: Transfer,
  pace = new Pace(),
): Promise<Received> {
  store.changes.requireFree(name);
  const { header } = transfer;
  const partial = `${name}.receiving`;
  // Of a receiver that was killed.
  if (store.findVolume(partial) !== undefined) await store.changes.deleteVolume(partial);
  try {
    await cloneBase(store, header, partial);
    const device = await store.openVolume(partial, header.sizeBytes);
    const memory = { bytes: Buffer.alloc(SLOTS_BYTES), region: 0 };
    const client = new DeviceClient(device, memory, SLOT_BYTES, 0);
    const builder = new Builder(store, client, header.sizeBytes / BLOCK_SIZE, pace);
    try {
      for await (const piece of transfer.pieces()) await builder.apply(piece);
    } finally {
      await device.close();
    }
    await store.checkpoint();
    if ((await findRoot(store, partial)).root[0] !== header.root) {
      throw new TransferError('what has arrived is not what was sent');
    }
    await store.changes.snapshot(partial, name, header.volume);
    return { header, foundBytes: builder.foundBytes };
  } catch (error) {
    throw isFull(error) ? noRoom(store.path, name, error) : error;
  } finally {
    const isLeft = store.failure === undefined && store.findVolume(partial) !== undefined;
    if (isLeft) await store.changes.deleteVolume(partial);
  }
}

function isFull(error: unknown): error is Error {
  return isNoSpace(error) || (error instanceof BlockError && error.code === 'noSpace');
}

function noRoom(storePath: string, name: string, cause: Error): StartupError {
  return new StartupError(
    `the store ${storePath} has no room for ${name}`,
    'free room on its file system, or in the store: what has arrived of it goes with ' +
      `aoe-server cas collect ${storePath}`,
    { cause },
  );
}

async function cloneBase(
  store: CasStore,
  { base, sizeBytes }: TransferHeader,
  partial: string,
): Promise<void> {
  if (base === null) return;
  await store.whenSnapshotsStored();
  // What a volume has may change until it is cloned.
  const found = [...store.snapshots, ...storedRoots(store)].find(
    (root) => root.root[0] === base && root.sizeBytes <= sizeBytes,
  );
  if (found === undefined) {
    throw new StartupError(
      `the store ${store.path} does not have the snapshot that the changes are to`,
      `send that one first, or send without it; its root is ${base}`,
    );
  }
  await store.changes.clone(found.name, partial);
}

/** Writes what a stream brings. */
class Builder {
  foundBytes = 0;
  readonly #path: string;
  readonly #reader: BlockReader;
  readonly #client: DeviceClient;
  readonly #blockCount: number;
  readonly #pace: Pace;

  constructor({ path, reader }: CasStore, client: DeviceClient, blockCount: number, pace: Pace) {
    this.#path = path;
    this.#reader = reader;
    this.#client = client;
    this.#blockCount = blockCount;
    this.#pace = pace;
  }

  async apply(piece: TransferPiece): Promise<void> {
    const { kind, firstLba, count, payload } = piece;
    if (kind === PieceKind.data) await this.#write(firstLba, payload);
    else if (kind === PieceKind.zeroes) await this.#trim(firstLba, count);
    else if (kind === PieceKind.repeated) await this.#repeat(piece);
    else await this.#applyHeld(piece);
  }

  /** It is read where it was written: the index knows only what has left memory. */
  async #repeat({ firstLba, count, payload }: TransferPiece): Promise<void> {
    const sources = Array.from({ length: count }, (_, i) => Number(payload.readBigUInt64LE(i * 8)));
    if (sources.some((lba) => lba >= firstLba)) throw new TransferError('the stream is damaged');
    const reads = sources.map((lba) => this.#client.read(lba * BLOCK_SIZE, BLOCK_SIZE));
    await this.#write(firstLba, Buffer.concat(await Promise.all(reads)));
  }

  /** @throws {StartupError} the store does not have it */
  async #applyHeld({ kind, firstLba, count, payload }: TransferPiece): Promise<void> {
    // Like a leaf, or the parent of leaves, of which nobody knows where the children are.
    const parent = new Uint32Array(NODE_WORDS);
    parent.set(new Uint32Array(Uint8Array.from(payload).buffer));
    try {
      if (kind === PieceKind.heldBlocks) {
        await this.#writeLeaf(firstLba, parent, count);
        return;
      }
      for (let child = 0; child < count; child++) {
        const lba = firstLba + child * FANOUT;
        const words = await this.#reader.loadNode(parent, child);
        await this.#writeLeaf(lba, words, Math.min(FANOUT, this.#blockCount - lba));
      }
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      throw new StartupError(
        `the store ${this.#path} does not have ${error.hash}, which the stream refers to`,
        'send again with a list of what it has now: aoe-server cas have; or send without one; ' +
          'a running server with little index_memory may not find all that it has',
        { cause: error },
      );
    }
  }

  /** Writes the first `count` blocks of a leaf. */
  async #writeLeaf(firstLba: number, words: Uint32Array, count: number): Promise<void> {
    const isZero = (child: number) => isZeroHash(words, child * HASH_WORDS);
    for (let start = 0, end = 0; start < count; start = end) {
      const zero = isZero(start);
      do end++;
      while (end < count && isZero(end) === zero);
      if (zero) await this.#trim(firstLba + start, end - start);
      else await this.#writeFound(firstLba + start, words, start, end);
    }
  }

  async #writeFound(lba: number, words: Uint32Array, start: number, end: number): Promise<void> {
    const data = Buffer.alloc((end - start) * BLOCK_SIZE);
    const reads: Promise<void>[] = [];
    for (let child = start; child < end; child++) {
      reads.push(this.#reader.readChild(words, child, data, (child - start) * BLOCK_SIZE));
    }
    await Promise.all(reads);
    await this.#write(lba, data);
    this.foundBytes += data.length;
  }

  async #write(firstLba: number, data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length; done += WRITE_BYTES) {
      const part = data.subarray(done, done + WRITE_BYTES);
      await this.#client.write(firstLba * BLOCK_SIZE + done, part);
      await this.#pace.spend(part.length);
    }
  }

  async #trim(firstLba: number, count: number): Promise<void> {
    for (let done = 0; done < count; done += TRIM_BLOCKS) {
      const part = Math.min(TRIM_BLOCKS, count - done);
      await this.#client.trim((firstLba + done) * BLOCK_SIZE, part * BLOCK_SIZE);
      await this.#pace.spend(0);
    }
  }
}
