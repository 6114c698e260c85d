/**
 * A data path in a thread of its own, seen from the main thread.
 *
 * Invariants: a call waits in `#calls` from the moment its order is posted until the thread has
 * answered it, or is gone. The thread's start is the call that nobody posts: number 0.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Share } from './aoe/share.ts';
import type { ServerConfig, TargetConfig } from './config/config.ts';
import type { LogLevel } from './config/schema.ts';
import { StartupError } from './core/startup-error.ts';
import type { DataPath } from './data-path.ts';
import type { ServedTargets } from './served-targets.ts';
import type { PartStatus } from './status.ts';

/** What the thread is started with. */
export interface WorkerData {
  readonly server: ServerConfig;
  readonly targets: readonly TargetConfig[];
  readonly share: Share;
}

/** What the targets of a data path can be asked for from another thread. */
export type TargetCalls = Pick<
  ServedTargets,
  | 'try'
  | 'open'
  | 'remember'
  | 'serve'
  | 'discard'
  | 'drain'
  | 'close'
  | 'closeStores'
  | 'resume'
  | 'remove'
  | 'unclosed'
  | 'setLists'
>;
/** What a data path can be asked for besides. */
export type PathCalls = Pick<
  DataPath,
  'keepCapabilities' | 'reduceCapabilities' | 'status' | 'announce' | 'setLogLevel'
>;
/** A data path, in this thread or another one. */
export interface Callable extends PathCalls {
  readonly targets: TargetCalls;
}

/** A call is answered by number. */
export interface WorkerCall {
  readonly call: number;
  readonly of: 'path' | 'targets';
  readonly name: keyof PathCalls | keyof TargetCalls;
  readonly args: readonly unknown[];
}

/** What the thread is told to do. */
export type WorkerOrder = 'close' | WorkerCall;

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

export class WorkerThread implements Callable {
  readonly targets: TargetCalls = {
    try: (configs) => this.#askTargets('try', configs),
    open: (configs) => this.#askTargets('open', configs),
    remember: () => this.#askTargets('remember'),
    serve: (drained) => this.#askTargets('serve', drained),
    discard: () => this.#askTargets('discard'),
    drain: (addresses) => this.#askTargets('drain', addresses),
    close: (addresses) => this.#askTargets('close', addresses),
    closeStores: (addresses) => this.#askTargets('closeStores', addresses),
    resume: (addresses) => this.#askTargets('resume', addresses),
    remove: (addresses) => this.#askTargets('remove', addresses),
    unclosed: () => this.#askTargets('unclosed'),
    setLists: (address, lists) => this.#askTargets('setLists', address, lists),
  };
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

  keepCapabilities(): Promise<void> {
    return this.#askPath('keepCapabilities');
  }

  reduceCapabilities(): Promise<void> {
    return this.#askPath('reduceCapabilities');
  }

  status(): Promise<PartStatus> {
    return this.#askPath('status');
  }

  announce(): Promise<void> {
    return this.#askPath('announce');
  }

  setLogLevel(level: LogLevel): Promise<void> {
    return this.#askPath('setLogLevel', level);
  }

  async close(): Promise<void> {
    this.#worker.postMessage('close' satisfies WorkerOrder);
    await this.#exited;
    if (this.#failure !== undefined) throw this.#failure;
  }

  #askPath<Name extends keyof PathCalls>(name: Name, ...args: Parameters<PathCalls[Name]>) {
    return this.#ask('path', name, args) as ReturnType<PathCalls[Name]>;
  }

  #askTargets<Name extends keyof TargetCalls>(name: Name, ...args: Parameters<TargetCalls[Name]>) {
    return this.#ask('targets', name, args) as ReturnType<TargetCalls[Name]>;
  }

  #ask(of: 'path' | 'targets', name: keyof PathCalls | keyof TargetCalls, args: unknown[]) {
    const call = ++this.#lastCall;
    const answer = this.#answerTo(call);
    this.#worker.postMessage({ call, of, name, args } satisfies WorkerOrder);
    return answer;
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
