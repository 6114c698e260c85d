/** A store that a running server has open, through the server's control socket. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StoreHolder } from '../../backends/cas/index.ts';
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
import { askSocket, ControlError } from '../control-client.ts';

const POLL_MS_MIN = 10;
const POLL_MS_MAX = 500;

export class RemoteStore implements StoreOperations {
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
    const { controlPath, storePath } = this.#holder;
    const url = `/v1/stores/${encodeURIComponent(storePath)}${path}`;
    return (await askSocket(controlPath, method, url, body)) as Answer;
  }
}
