import { createReadStream } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import {
  encodeHaveList,
  encodeTransfer,
  HashSet,
  IncomingTransfer,
  isStore,
  pieceBytes,
  readHaveList,
  receiverOptions,
  type Transfer,
} from '../../backends/cas/index.ts';
import { StartupError } from '../../core/startup-error.ts';
import { interruptible } from '../interruptible.ts';
import { Progress } from '../progress.ts';
import { formatRoundSize } from '../round-size.ts';
import { operate } from './operate.ts';
import { withStoreOrNew } from './with-store.ts';

interface SendOptions {
  readonly from?: string;
  /** A file, or `-`. */
  readonly have?: string;
}

/**
 * @throws when the store is damaged, there is no such snapshot, the list is cut off or damaged, or
 *   nobody reads the stream
 */
export async function sendToOutput(path: string, name: string, options: SendOptions) {
  const { from, have } = options;
  requireOutput('the stream', 'pipe it to aoe-server cas receive');
  await interruptible(async (signal) => {
    // Before the store is opened: a server may go on with it while the list is being made.
    const held = have === undefined ? undefined : await readList(have, signal);
    await operate(path, async (store) => {
      const transfer = await IncomingTransfer.open(store.send(name, { from, held }, signal));
      const watched = new WatchedTransfer('sending', transfer);
      try {
        await writeAll(encodeTransfer(watched), signal);
      } finally {
        watched.end();
      }
    });
  });
}

/** Shows how far it is. */
class WatchedTransfer implements Transfer {
  readonly #transfer: Transfer;
  readonly #progress: Progress;

  constructor(title: string, transfer: Transfer) {
    this.#transfer = transfer;
    this.#progress = new Progress(title, transfer.header.changedBytes);
  }

  get header() {
    return this.#transfer.header;
  }

  async *pieces() {
    let doneBytes = 0;
    for await (const piece of this.#transfer.pieces()) {
      yield piece;
      doneBytes += pieceBytes(piece);
      // What has not changed may be there, too, in leaves.
      this.#progress.update(Math.min(doneBytes, this.header.changedBytes));
    }
  }

  end(): void {
    this.#progress.end();
  }
}

async function readList(path: string, signal: AbortSignal): Promise<HashSet> {
  if (path === '-') requireInput('the list', 'pipe it from aoe-server cas have');
  const bytes = path === '-' ? process.stdin : createReadStream(path);
  try {
    return await readHaveList(addAbortSignal(signal, bytes));
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/**
 * Writes the list of what a store has, which is nothing when there is none.
 *
 * @throws when the store is damaged, or nobody reads the list
 */
export async function listHashes(path: string): Promise<void> {
  requireOutput('the list', 'pipe it to aoe-server cas send --have -');
  await interruptible(async (signal) => {
    const list = isStore(path)
      ? await operate(path, (store) => store.hashes(signal))
      : encodeHaveList(new HashSet());
    // The store is closed by now: who gets the end of the list may open it.
    await writeAll(list, signal);
  });
}

async function writeAll(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  // Also emitted, and then a crash if nobody listens.
  process.stdout.on('error', () => {});
  for await (const chunk of chunks) {
    signal.throwIfAborted();
    await writeToOutput(chunk, signal);
  }
}

/** Ends when it is taken, or when nobody waits for that any more. */
function writeToOutput(chunk: Uint8Array, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      process.stdout.destroy(signal.reason);
      reject(signal.reason);
    };
    signal.addEventListener('abort', giveUp);
    process.stdout.write(chunk, (error) => {
      signal.removeEventListener('abort', giveUp);
      if (error) reject(error);
      else resolve();
    });
  });
}

/** @throws when the stream is cut off or damaged, or does not fit the store; nothing stays then */
export async function receiveFromInput(path: string, name: string): Promise<void> {
  requireInput('the stream', 'pipe it from aoe-server cas send');
  await interruptible(async (signal) => {
    try {
      // Before the store is opened: it may still be open for the list that the sender waits for.
      const transfer = await IncomingTransfer.open(addAbortSignal(signal, process.stdin));
      const watched = new WatchedTransfer('receiving', transfer);
      const { header, foundBytes } = await operate(
        path,
        (store) => store.receive(name, watched, signal),
        (path, work) => withStoreOrNew(path, work, receiverOptions(transfer.header)),
      ).finally(() => watched.end());
      const size = formatRoundSize(header.changedBytes);
      const found = foundBytes === 0 ? '' : `, ${formatRoundSize(foundBytes)} of it found here`;
      console.log(`snapshot ${name} of ${header.volume}: ${size} received and verified${found}`);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  });
}

function requireOutput(what: string, remedy: string): void {
  if (!process.stdout.isTTY) return;
  throw new StartupError(`a terminal cannot take ${what}`, `redirect it to a file, or ${remedy}`);
}

function requireInput(what: string, remedy: string): void {
  if (!process.stdin.isTTY) return;
  throw new StartupError(`a terminal cannot give ${what}`, `redirect it from a file, or ${remedy}`);
}
