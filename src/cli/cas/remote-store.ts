/** A store that a running server has open, through the server's control socket. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  encodeHaveList,
  encodeTransfer,
  type Received,
  type StoreHolder,
  type Transfer,
} from '../../backends/cas/index.ts';
import type {
  Deleted,
  Job,
  JobKind,
  JobOf,
  JobResults,
  JobStatus,
  JobWatch,
  StoreList,
  StoreOperations,
  StoreSnapshot,
  StoreVolume,
} from '../../stores/contract.ts';
import type { SendRequest, StoreStreams } from '../../stores/streams.ts';
import { askSocket, ControlError } from '../control-client.ts';
import { streamSocket } from '../control-stream.ts';

const POLL_MS_MIN = 10;
const POLL_MS_MAX = 500;

export class RemoteStore implements StoreOperations, StoreStreams {
  readonly #holder: StoreHolder;

  constructor(holder: StoreHolder) {
    this.#holder = holder;
  }

  list(): Promise<StoreList> {
    return this.#ask('GET', '');
  }

  snapshot(volume: string, name: string): Promise<StoreSnapshot> {
    return this.#ask('POST', '/snapshots', { volume, name });
  }

  clone(source: string, name: string): Promise<StoreVolume> {
    return this.#ask('POST', '/clones', { source, name });
  }

  rollback(volume: string, source: string, force: boolean): Promise<StoreVolume> {
    return this.#ask('POST', '/rollback', { volume, source, force });
  }

  delete(name: string): Promise<Deleted> {
    return this.#ask('DELETE', `/roots/${encodeURIComponent(name)}`);
  }

  async run<Kind extends JobKind>(job: JobOf<Kind>, watch: JobWatch): Promise<JobResults[Kind]> {
    const { signal } = watch;
    const started = await this.#ask<JobStatus>('POST', '/jobs', job);
    const path = `/jobs/${started.id}`;
    // What becomes of it is seen below.
    const cancel = () => void this.#ask('DELETE', path).catch(() => {});
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
    try {
      const ended = await this.#follow(path, watch);
      if (ended.state === 'done') return ended.result as JobResults[Kind];
      signal.throwIfAborted();
      throw new ControlError(ended.error ?? 'the job was cancelled', ended.remedy ?? 'ask again');
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  async *send(
    name: string,
    { from, held }: SendRequest,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const query = from === undefined ? '' : `?from=${encodeURIComponent(from)}`;
    const path = `/streams/${encodeURIComponent(name)}${query}`;
    if (held === undefined) yield* this.#stream('GET', path, undefined, signal);
    else yield* this.#stream('POST', path, encodeHaveList(held), signal);
  }

  async hashes(signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    return this.#stream('GET', '/hashes', undefined, signal);
  }

  async receive(name: string, transfer: Transfer, signal: AbortSignal): Promise<Received> {
    const path = `/streams/${encodeURIComponent(name)}`;
    const chunks: Uint8Array[] = [];
    const answer = this.#stream('PUT', path, encodeTransfer(transfer), signal);
    for await (const chunk of answer) chunks.push(chunk);
    const { foundBytes } = JSON.parse(Buffer.concat(chunks).toString());
    return { header: transfer.header, foundBytes };
  }

  #stream(
    method: string,
    path: string,
    body: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    return streamSocket(this.#holder.controlPath, method, this.#url(path), body, signal);
  }

  /** Cancels a job. @returns it when it has ended */
  async cancel(id: number): Promise<Job> {
    const path = `/jobs/${id}`;
    await this.#ask('DELETE', path);
    return this.#follow(path, { onProgress: () => {} });
  }

  /** @returns the job when it has ended */
  async #follow(path: string, { onProgress }: Pick<JobWatch, 'onProgress'>): Promise<Job> {
    let hasWaited = false;
    for (let pollMs = POLL_MS_MIN; ; pollMs = Math.min(2 * pollMs, POLL_MS_MAX)) {
      const job = await this.#ask<Job>('GET', path);
      if (job.state !== 'waiting' && job.state !== 'running') return job;
      if (job.state === 'waiting' && !hasWaited) console.error('waiting for another job to end');
      hasWaited ||= job.state === 'waiting';
      if (job.phase !== null) onProgress(job.phase, job.doneBytes, job.totalBytes);
      await sleep(pollMs);
    }
  }

  async #ask<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    return (await askSocket(this.#holder.controlPath, method, this.#url(path), body)) as Answer;
  }

  #url(path: string): string {
    return `/v1/stores/${encodeURIComponent(this.#holder.storePath)}${path}`;
  }
}
