/** What the JavaScript of aoe-server allocates for a request, by V8's sampling heap profiler. */
import type { Bench } from './compare.ts';
import type { HeapReport } from './heap-probe.ts';
import { observe } from './observed.ts';
import { describeWorkload, workloadsOf } from './workloads.ts';

/** The probe waits 14 seconds and samples for 10. */
const DURATION = { warmupSeconds: 5, seconds: 22 };
const SHOWN_COUNT = 6;
/** Reads, writes with a write cache, and durable writes, as they are by default. */
const PROFILED = workloadsOf(['cached', 'durable']).filter(
  ({ mode, access, sectors, depth, mtu, targets }) =>
    mode !== 'mixed' &&
    access === 'rand' &&
    sectors === 8 &&
    depth === 64 &&
    mtu === 9000 &&
    targets === 1,
);

/** Prints bytes a request and where they come from. */
export async function garbage(bench: Bench): Promise<void> {
  for (const workload of PROFILED) {
    let report: HeapReport | undefined;
    const { requests_per_s } = await observe<HeapReport>(
      bench,
      workload,
      DURATION,
      'heap-probe.js',
      (heard) => {
        report = heard;
      },
    );
    if (report === undefined) throw new Error('the probe has reported nothing');
    console.log(`\n${describeWorkload(workload)}: ${requests_per_s} requests/s`);
    print(report, requests_per_s * report.seconds);
  }
}

function print({ allocations }: HeapReport, requestCount: number): void {
  const totals = new Map<string, number>();
  for (const { where, bytes } of allocations) totals.set(where, (totals.get(where) ?? 0) + bytes);
  const sorted = [...totals].sort(([, a], [, b]) => b - a);
  const total = sorted.reduce((sum, [, bytes]) => sum + bytes, 0);
  for (const [where, bytes] of [['all', total] as const, ...sorted.slice(0, SHOWN_COUNT)]) {
    console.log(`${(bytes / requestCount).toFixed(2).padStart(8)} bytes a request  ${where}`);
  }
}
