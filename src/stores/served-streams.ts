/**
 * Snapshots on their way from and to a store of a running server. The store stays open until the
 * last stream has ended, whatever becomes of its targets.
 */
import type { Logger } from 'pino';
import {
  IncomingTransfer,
  readHaveList,
  TransferError,
  visitOpenStore,
} from '../backends/cas/index.ts';
import { StartupError } from '../core/startup-error.ts';
import type { ReceivedSnapshot } from './contract.ts';
import { StoreActions, type StoreActionsOptions } from './store-actions.ts';
import type { SendRequest } from './streams.ts';

/** Blocks of each stream that are remembered; they take up to 100 bytes each. */
const SENT_COUNT_MAX = 1 << 20;
/** Of each list; they take up to 64 bytes each. */
const HASH_COUNT_MAX = 1 << 23;

type Bytes = AsyncIterable<Uint8Array>;

export interface ServedStreamsOptions extends StoreActionsOptions {
  /** Of the store. */
  readonly path: string;
  readonly log: Logger;
}

interface ListedRequest extends Pick<SendRequest, 'from'> {
  /** What the receiver has, as a list of hashes. */
  readonly list?: Bytes | undefined;
}

export class ServedStreams {
  readonly #path: string;
  readonly #log: Logger;
  readonly #options: StoreActionsOptions;
  readonly #closing = new AbortController();
  readonly #streams = new Set<Promise<void>>();
  /** Names of snapshots. */
  readonly #receiving = new Set<string>();

  constructor({ path, log, ...options }: ServedStreamsOptions) {
    this.#path = path;
    this.#log = log.child({ store: path });
    const limits = { sentCountMax: SENT_COUNT_MAX, hashCountMax: HASH_COUNT_MAX };
    this.#options = { ...options, ...limits };
  }

  /** Yields the stream of a snapshot, or of a volume as it is now. */
  async *send(
    name: string,
    { from, list }: ListedRequest,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const held = list && (await intact(readHaveList(list, HASH_COUNT_MAX)));
    this.#log.info({ name, from }, 'a snapshot is being sent');
    yield* this.#visit(signal, (actions, either) => actions.send(name, { from, held }, either));
    this.#log.info({ name, from }, 'a snapshot was sent');
  }

  /** Yields the list of what the store has. */
  hashes(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    return this.#visit(signal, async function* (actions, either) {
      yield* await actions.hashes(either);
    });
  }

  /** Makes a snapshot of a stream; nothing stays when it fails. */
  async receive(name: string, bytes: Bytes, signal: AbortSignal): Promise<ReceivedSnapshot> {
    if (this.#receiving.has(name)) {
      throw new StartupError(`${name} is being received already`, 'wait, or take another name');
    }
    this.#receiving.add(name);
    try {
      const transfer = await intact(IncomingTransfer.open(bytes));
      const { volume, changedBytes } = transfer.header;
      this.#log.info({ name, volume }, 'a snapshot is being received');
      const receiving = this.#visit(signal, async function* (actions, either) {
        yield await intact(actions.receive(name, transfer, either));
      });
      let foundBytes = 0;
      for await (const received of receiving) ({ foundBytes } = received);
      this.#log.info({ name, volume }, 'a snapshot was received');
      return { volume, changedBytes, foundBytes };
    } catch (error) {
      this.#log.info({ name, reason: (error as Error).message }, 'a snapshot was not received');
      throw error;
    } finally {
      this.#receiving.delete(name);
    }
  }

  /** Ends all streams. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the server is stopping'));
    await Promise.all(this.#streams);
  }

  /** Yields what `work` yields with the store open, until it ends or is to end. */
  async *#visit<T>(
    signal: AbortSignal,
    work: (actions: StoreActions, signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const visit = visitOpenStore(this.#path);
    if (visit === undefined) {
      throw new StartupError(`the store ${this.#path} is not open any more`, 'ask again');
    }
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#streams.add(ended);
    try {
      const either = AbortSignal.any([signal, this.#closing.signal]);
      yield* work(new StoreActions(visit.store, this.#options), either);
    } finally {
      await visit.leave().finally(end);
      this.#streams.delete(ended);
    }
  }
}

/** Tells who sends that it is wrong. */
async function intact<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    throw new StartupError(error.message, 'send it again');
  }
}
