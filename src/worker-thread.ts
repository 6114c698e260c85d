/** A data path in a thread of its own, seen from the main thread. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Share } from './aoe/share.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import { StartupError } from './core/startup-error.ts';

/** What the thread is started with. */
export interface WorkerData {
  readonly server: ServerConfig;
  readonly targets: readonly TargetConfig[];
  readonly share: Share;
}

/** What the thread is told to do. */
export type WorkerOrder = 'keepCapabilities' | 'reduceCapabilities' | 'close';

/** What the thread says: that it did what it was told, or that it cannot go on. */
export type WorkerMessage =
  | { readonly type: 'done' }
  | { readonly type: 'failed'; readonly message: string; readonly remedy: string };

export interface WorkerThreadOptions extends WorkerData {
  /** Called when the thread cannot go on. */
  onFailed(error: Error): void;
}

export class WorkerThread {
  readonly #worker: Worker;
  readonly #exited: Promise<unknown>;
  #failure: Error | undefined;

  constructor({ onFailed, ...workerData }: WorkerThreadOptions) {
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData,
      // Files are opened by the addon too, and each is closed by its owner.
      trackUnmanagedFds: false,
    });
    this.#exited = once(this.#worker, 'exit').catch(() => {});
    this.#worker.on('error', onFailed);
    this.#worker.on('message', (message: WorkerMessage) => {
      if (message.type !== 'failed') return;
      this.#failure = toError(message);
      onFailed(this.#failure);
    });
  }

  /** @throws {StartupError} the data path cannot be started */
  start(): Promise<void> {
    return this.#answer();
  }

  keepCapabilities(): Promise<void> {
    return this.#order('keepCapabilities');
  }

  reduceCapabilities(): Promise<void> {
    return this.#order('reduceCapabilities');
  }

  async close(): Promise<void> {
    this.#worker.postMessage('close' satisfies WorkerOrder);
    await this.#exited;
    if (this.#failure !== undefined) throw this.#failure;
  }

  #order(order: WorkerOrder): Promise<void> {
    this.#worker.postMessage(order);
    return this.#answer();
  }

  async #answer(): Promise<void> {
    const [message] = (await once(this.#worker, 'message')) as [WorkerMessage];
    if (message.type === 'failed') throw toError(message);
  }
}

function toError({ message, remedy }: Extract<WorkerMessage, { type: 'failed' }>): StartupError {
  return new StartupError(message, remedy);
}
