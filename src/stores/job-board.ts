/**
 * Jobs on one store: started, watched, cancelled by number.
 *
 * States: waiting -> running -> done | failed | cancelled; a job that waits can be cancelled, too.
 *
 * Invariants: of the jobs that care for the store one runs at a time, and of those that only look
 * one. Jobs that have not ended are bounded, and of those that have the last few are kept.
 */
import type { Job, JobKind, JobRequest, JobStatus, JobWatch } from './contract.ts';

const UNFINISHED_MAX = 8;
const FINISHED_MAX = 8;

/** Who waits for whom. */
const LANES: Readonly<Record<JobKind, 'care' | 'look'>> = {
  stats: 'look',
  usage: 'look',
  diff: 'look',
  collect: 'care',
  scrub: 'care',
};

interface Entry {
  job: Job;
  readonly controller: AbortController;
  ended: Promise<void>;
}

export class JobBoard {
  readonly #entries = new Map<number, Entry>();
  readonly #lanes = { care: Promise.resolve(), look: Promise.resolve() };
  #lastId = 0;

  /**
   * Starts a job, or lets it wait for its turn.
   *
   * @returns undefined when there are too many that have not ended
   */
  start({ kind }: JobRequest, work: (watch: JobWatch) => Promise<Job['result']>) {
    this.#forgetOldest();
    const unfinished = [...this.#entries.values()].filter(({ job }) => !hasEnded(job));
    if (unfinished.length === UNFINISHED_MAX) return undefined;
    const job: Job = {
      ...{ id: ++this.#lastId, kind, state: 'waiting', startedAt: new Date().toISOString() },
      ...{ phase: null, doneBytes: 0, totalBytes: 0, result: null, error: null, remedy: null },
    };
    const lane = LANES[kind];
    const entry: Entry = { job, controller: new AbortController(), ended: this.#lanes[lane] };
    this.#entries.set(job.id, entry);
    entry.ended = entry.ended.then(() => run(entry, work));
    this.#lanes[lane] = entry.ended;
    return statusOf(job);
  }

  find(id: number): Job | undefined {
    return this.#entries.get(id)?.job;
  }

  /** Jobs of a kind that have not ended. */
  unfinished(kind: JobKind): number[] {
    const entries = [...this.#entries.values()];
    return entries.flatMap(({ job }) => (job.kind === kind && !hasEnded(job) ? [job.id] : []));
  }

  /** @returns the job when it has ended, undefined when there is none of this number */
  async ended(id: number): Promise<Job | undefined> {
    const entry = this.#entries.get(id);
    await entry?.ended;
    return entry?.job;
  }

  /** Lets a job end early. @returns the job, undefined when there is none of this number */
  cancel(id: number): JobStatus | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    entry.controller.abort(new Error('the job was cancelled'));
    if (entry.job.state === 'waiting') entry.job = { ...entry.job, state: 'cancelled' };
    return statusOf(entry.job);
  }

  list(): JobStatus[] {
    return Array.from(this.#entries.values(), ({ job }) => statusOf(job));
  }

  /** Cancels all jobs and waits for their end. Others may begin then: writes may still need room. */
  async cancelAll(): Promise<void> {
    for (const id of this.#entries.keys()) this.cancel(id);
    await Promise.all(Object.values(this.#lanes));
  }

  #forgetOldest(): void {
    const ended = [...this.#entries.values()].filter(({ job }) => hasEnded(job));
    for (const { job } of ended.slice(0, -FINISHED_MAX)) this.#entries.delete(job.id);
  }
}

async function run(entry: Entry, work: (watch: JobWatch) => Promise<Job['result']>): Promise<void> {
  const { signal } = entry.controller;
  const change = (fields: Partial<Job>) => {
    entry.job = { ...entry.job, ...fields };
  };
  try {
    signal.throwIfAborted();
    change({ state: 'running' });
    const onProgress = (phase: string, doneBytes: number, totalBytes: number) =>
      change({ phase, doneBytes, totalBytes });
    change({ result: await work({ signal, onProgress }), state: 'done' });
  } catch (error) {
    const { message, remedy = 'see the log of the server' } = error as Error & { remedy?: string };
    if (signal.aborted) change({ state: 'cancelled' });
    else change({ state: 'failed', error: message, remedy });
  }
}

function hasEnded({ state }: JobStatus): boolean {
  return state !== 'waiting' && state !== 'running';
}

function statusOf({ result: _, error: __, remedy: ___, ...status }: Job): JobStatus {
  return status;
}
