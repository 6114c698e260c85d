/**
 * A data path in a thread of its own, seen from the main thread.
 *
 * Invariants: a call waits in `#calls` from the moment its order is posted until the thread has
 * answered it, or is gone. The thread's start is the call that nobody posts: number 0.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Share } from './aoe/share.ts';
import type { ListChange } from './aoe/target-state.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import type { LogLevel } from './config/schema.ts';
import { StartupError } from './core/startup-error.ts';
import type { DataPath } from './data-path.ts';
import type { PartStatus } from './status.ts';

/** What the thread is started with. */
export interface WorkerData {
  readonly server: ServerConfig;
  readonly targets: readonly TargetConfig[];
  readonly share: Share;
}

/** What a data path can be asked for from another thread. */
export type Callable = Pick<
  DataPath,
  | 'openTargets'
  | 'serveTargets'
  | 'discardTargets'
  | 'removeTargets'
  | 'pauseTarget'
  | 'resumeTarget'
  | 'keepCapabilities'
  | 'reduceCapabilities'
  | 'status'
  | 'announce'
  | 'setLists'
  | 'setLogLevel'
>;
export type CallName = keyof Callable;

/** What the thread is told to do. A call is answered by number. */
export type WorkerOrder =
  | 'close'
  | {
      readonly call: number;
      readonly name: CallName;
      readonly args: readonly unknown[];
    };

/** What the thread says: what became of a call, or that it cannot go on. */
export type WorkerMessage =
  | { readonly type: 'done'; readonly call: number; readonly result: unknown }
  | ({ readonly type: 'refused'; readonly call: number } & Failure)
  | ({ readonly type: 'failed' } & Failure);

/** An error on its way between threads. */
export interface Failure {
  readonly message: string;
  readonly remedy: string;
}

export const START_CALL = 0;

export interface WorkerThreadOptions extends WorkerData {
  /** Called when the thread cannot go on. */
  onFailed(error: Error): void;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class WorkerThread {
  readonly #worker: Worker;
  readonly #onFailed: (error: Error) => void;
  readonly #exited: Promise<unknown>;
  readonly #started: Promise<unknown>;
  readonly #calls = new Map<number, Call>();
  #lastCall = START_CALL;
  #failure: Error | undefined;
  /** Why calls are not answered any more. */
  #gone: Error | undefined;

  constructor({ onFailed, ...workerData }: WorkerThreadOptions) {
    this.#onFailed = onFailed;
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData,
      // Files are opened by the addon too, and each is closed by its owner.
      trackUnmanagedFds: false,
    });
    this.#exited = once(this.#worker, 'exit').catch(() => {});
    this.#started = this.#answerTo(START_CALL);
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('message', (message: WorkerMessage) => this.#hear(message));
    this.#worker.on('exit', () => this.#abandonCalls(new Error('the thread has ended')));
  }

  /** @throws {StartupError} the data path cannot be started */
  async start(): Promise<void> {
    await this.#started;
  }

  async openTargets(configs: readonly TargetConfig[]): Promise<void> {
    await this.#call('openTargets', configs);
  }

  async serveTargets(): Promise<void> {
    await this.#call('serveTargets');
  }

  async discardTargets(): Promise<void> {
    await this.#call('discardTargets');
  }

  removeTargets(addresses: readonly number[]): Promise<number[]> {
    return this.#call('removeTargets', addresses);
  }

  async pauseTarget(address: number): Promise<void> {
    await this.#call('pauseTarget', address);
  }

  async resumeTarget(address: number): Promise<void> {
    await this.#call('resumeTarget', address);
  }

  async keepCapabilities(): Promise<void> {
    await this.#call('keepCapabilities');
  }

  async reduceCapabilities(): Promise<void> {
    await this.#call('reduceCapabilities');
  }

  status(): Promise<PartStatus> {
    return this.#call('status');
  }

  async announce(): Promise<void> {
    await this.#call('announce');
  }

  setLists(address: number, lists: ListChange): Promise<boolean> {
    return this.#call('setLists', address, lists);
  }

  async setLogLevel(level: LogLevel): Promise<void> {
    await this.#call('setLogLevel', level);
  }

  async close(): Promise<void> {
    this.#worker.postMessage('close' satisfies WorkerOrder);
    await this.#exited;
    if (this.#failure !== undefined) throw this.#failure;
  }

  #call<Name extends CallName>(
    name: Name,
    ...args: Parameters<Callable[Name]>
  ): ReturnType<Callable[Name]> {
    const call = ++this.#lastCall;
    const answer = this.#answerTo(call);
    this.#worker.postMessage({ call, name, args } satisfies WorkerOrder);
    return answer as ReturnType<Callable[Name]>;
  }

  #answerTo(call: number): Promise<unknown> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
    });
  }

  #hear(message: WorkerMessage): void {
    if (message.type === 'failed') {
      this.#failure = toError(message);
      this.#fail(this.#failure);
      return;
    }
    const call = this.#calls.get(message.call);
    this.#calls.delete(message.call);
    if (message.type === 'done') call?.resolve(message.result);
    else call?.reject(toError(message));
  }

  #fail(error: Error): void {
    this.#abandonCalls(error);
    this.#onFailed(error);
  }

  #abandonCalls(error: Error): void {
    this.#gone = error;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
}

function toError({ message, remedy }: Failure): StartupError {
  return new StartupError(message, remedy);
}
