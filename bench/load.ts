import { join, resolve } from 'node:path';
import type { Link } from './network.ts';
import { inPlace, type Place, run } from './process.ts';
import type { Workload } from './workloads.ts';

/** Of the project; this file runs from `.cache/bench`. */
export const ROOT = resolve(import.meta.dirname, '../..');
export const SHELF = 1;

const DISCOVERY_SECONDS = 10;
const DRAIN_SECONDS = 5;
const FILL_SECONDS = 60;
const VERIFIED_SIZE = 32 << 20;

/** What load.c prints. Counts and latencies are of the measured time. */
export interface LoadResult {
  seconds: number;
  requests_per_s: number;
  mb_per_s: number;
  p50_us: number;
  p99_us: number;
  p999_us: number;
  max_us: number;
  reads: number;
  writes: number;
  resent: number;
  stray: number;
  errors: number;
  wrong: number;
  unanswered: number;
  /** All that were answered, also during warm-up and drain. */
  requests_total: number;
  cpu_seconds: number;
  elapsed_seconds: number;
}

export interface Duration {
  warmupSeconds: number;
  seconds: number;
}

/** Compiles a C program. @returns its path */
export async function compile(source: string, directory: string, name: string): Promise<string> {
  const program = join(directory, name);
  await run('cc', ['-O2', '-o', program, source], { timeoutMs: 120_000 });
  return program;
}

/** The load generator of this project. */
export class Load {
  readonly #program: string;
  readonly #place: Place;
  readonly #signal: AbortSignal;

  constructor(program: string, place: Place, signal: AbortSignal) {
    this.#program = program;
    this.#place = place;
    this.#signal = signal;
  }

  /** Waits until every target of the workload answers. @throws {Error} when one does not */
  async waitForTargets(link: Link, workload: Workload): Promise<void> {
    await this.run(link, workload, { warmupSeconds: 0, seconds: 0 });
  }

  async run(
    link: Link,
    workload: Workload,
    { warmupSeconds, seconds }: Duration,
  ): Promise<LoadResult> {
    const { mode, access, content, sectors, depth, targets, initiators } = workload;
    const options = {
      interface: link.load,
      targets: `${SHELF}.0-${targets - 1}`,
      mode,
      access,
      content,
      sectors,
      depth,
      initiators,
      warmup: warmupSeconds,
      seconds,
      wait: DISCOVERY_SECONDS,
      range: mode === 'verify' ? VERIFIED_SIZE : 0,
    };
    const args = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
    const limitSeconds = DISCOVERY_SECONDS + FILL_SECONDS + warmupSeconds + seconds + DRAIN_SECONDS;
    // Status 1: the run is complete, but some requests failed; the result says which.
    const output = await run(...inPlace(this.#place, this.#program, args), {
      timeoutMs: Math.ceil(limitSeconds * 1000),
      signal: this.#signal,
      statuses: [0, 1],
    });
    return JSON.parse(output) as LoadResult;
  }
}
