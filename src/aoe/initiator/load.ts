/** Loads a target with requests of one kind, and notes how long each took. */
import { randomFillSync, randomInt } from 'node:crypto';
import { SECTOR_SIZE } from '../../core/block-device.ts';
import type { RemoteTarget } from './remote-target.ts';

export interface LoadOptions {
  readonly op: 'read' | 'write';
  readonly access: 'random' | 'sequential';
  /** Sectors in a request, at most as many as one frame holds. */
  readonly sectorCount: number;
  /** Requests in flight. */
  readonly depth: number;
  /** Of the disk; at least one request must fit. */
  readonly sizeSectors: number;
  readonly durationMs: number;
}

export interface LoadResult {
  readonly elapsedMs: number;
  /** Of each request, in microseconds, from its first send to its response; sorted. */
  readonly latenciesUs: Float64Array;
}

/**
 * Runs requests for a while.
 *
 * @throws what {@link RemoteTarget} throws, at the first request that fails
 */
export async function runLoad(target: RemoteTarget, options: LoadOptions): Promise<LoadResult> {
  const { depth, durationMs } = options;
  const nextLba = chooseLbas(options);
  const latencies: number[] = [];
  const startMs = performance.now();
  const endMs = startMs + durationMs;
  const lane = async (): Promise<void> => {
    const data = Buffer.alloc(options.sectorCount * SECTOR_SIZE);
    for (let sentMs = performance.now(); sentMs < endMs; sentMs = performance.now()) {
      if (options.op === 'read') await target.read(nextLba(), options.sectorCount);
      else await target.write(nextLba(), randomFillSync(data));
      latencies.push((performance.now() - sentMs) * 1000);
    }
  };
  await Promise.all(Array.from({ length: depth }, lane));
  const elapsedMs = performance.now() - startMs;
  return { elapsedMs, latenciesUs: Float64Array.from(latencies).sort() };
}

/** Places are multiples of the request's size: no two requests in flight overlap by halves. */
function chooseLbas({ access, sizeSectors, sectorCount }: LoadOptions): () => number {
  const places = Math.floor(sizeSectors / sectorCount);
  let next = 0;
  const step = access === 'random' ? () => randomInt(places) : () => next++ % places;
  return () => step() * sectorCount;
}
