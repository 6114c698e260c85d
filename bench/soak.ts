/** aoe-server under full load for a long time: does its memory grow? */
import type { Bench } from './compare.ts';
import type { LoadResult } from './load.ts';
import { observe } from './observed.ts';
import { type Point, slope } from './statistics.ts';
import { type Workload, workloadsOf } from './workloads.ts';

const MIB = 1 << 20;
const WARMUP_SECONDS = 5;
const MEMORY_KINDS = ['rss', 'heapUsed', 'external', 'arrayBuffers'] as const;
/** The heap is a saw; its floor shows whether it rises. The slope is of the floors of this many. */
const WINDOW_COUNT = 20;
/** The beginning is not counted: caches fill and code is compiled. */
const SETTLING_SHARE = 0.2;

type MemoryKind = (typeof MEMORY_KINDS)[number];

/** Bytes, except for the time. */
type Sample = Record<MemoryKind, number> & { seconds: number };

/** Prints throughput and, for each kind of memory, where it began, where it ended and its slope. */
export async function soak(bench: Bench, seconds: number): Promise<void> {
  const workload = workloadsOf(['mixed']).find(
    ({ access, sectors, depth }) => access === 'rand' && sectors === 8 && depth === 64,
  ) as Workload;
  const samples: Sample[] = [];
  const begin = performance.now();
  const duration = { warmupSeconds: WARMUP_SECONDS, seconds };
  const hear = (memory: Record<MemoryKind, number>): void => {
    samples.push({ ...memory, seconds: (performance.now() - begin) / 1000 });
  };
  printResult(await observe(bench, workload, duration, 'memory-probe.js', hear));
  printMemory(samples);
}

function printResult(result: LoadResult): void {
  const { requests_per_s, p99_us, p999_us, max_us, resent, errors, unanswered } = result;
  console.log(
    `requests/s ${requests_per_s}, p99 ${p99_us} us, p99.9 ${p999_us} us, max ${max_us} us`,
  );
  console.log(`resent ${resent}, errors ${errors}, unanswered ${unanswered}`);
}

function printMemory(samples: readonly Sample[]): void {
  const settled = samples.slice(Math.floor(samples.length * SETTLING_SHARE));
  console.log(`${samples.length} samples${''.padEnd(8)}   first MiB    last MiB   MiB an hour`);
  for (const kind of MEMORY_KINDS) {
    const floors = floorsOf(settled, kind);
    const mib = (bytes: number): string => (bytes / MIB).toFixed(2).padStart(12);
    const values = [floors.at(0)?.y ?? 0, floors.at(-1)?.y ?? 0].map(mib);
    console.log(kind.padEnd(20) + values.join('') + mib(slope(floors) * 3600).padStart(14));
  }
}

function floorsOf(samples: readonly Sample[], kind: MemoryKind): Point[] {
  const size = Math.max(1, Math.floor(samples.length / WINDOW_COUNT));
  const floors: Point[] = [];
  for (let start = 0; start + size <= samples.length; start += size) {
    const window = samples.slice(start, start + size);
    const lowest = window.reduce((low, sample) => (sample[kind] < low[kind] ? sample : low));
    floors.push({ x: lowest.seconds, y: lowest[kind] });
  }
  return floors;
}
