/** Results as a table to read and as JSON to keep. */
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, loadavg, release } from 'node:os';
import { dirname } from 'node:path';
import { BASELINE, type Comparison, type Measurement, type Summary } from './compare.ts';
import { ROOT } from './load.ts';
import { run } from './process.ts';
import type { Drops } from './servers.ts';
import { describeWorkload } from './workloads.ts';

interface Column {
  title: string;
  width: number;
  value(summary: Summary): string;
}

/** Where the load generator is busier than this, the server may not be what was measured. */
const LOAD_SHARE_MAX = 0.97;

const COLUMNS: readonly Column[] = [
  { title: 'requests/s', width: 11, value: ({ median }) => whole(median.requests_per_s) },
  { title: 'MB/s', width: 8, value: ({ median }) => whole(median.mb_per_s) },
  { title: 'p50 us', width: 9, value: ({ median }) => latency(median.p50_us) },
  { title: 'p99 us', width: 9, value: ({ median }) => latency(median.p99_us) },
  { title: 'p99.9 us', width: 9, value: ({ median }) => latency(median.p999_us) },
  {
    title: 'CPU s/M',
    width: 8,
    value: ({ median }) => median.server_cpu_seconds_per_million.toFixed(2),
  },
  { title: 'CPU', width: 6, value: ({ median }) => percent(median.server_cpu_share) },
  { title: 'load CPU', width: 9, value: ({ median }) => formatLoadShare(median.load_cpu_share) },
  { title: 'MiB', width: 6, value: ({ median }) => median.pssMib.toFixed(1) },
  { title: 'resent', width: 7, value: ({ median }) => whole(median.resent) },
  { title: 'ring full', width: 10, value: ({ rounds }) => formatDrops(rounds, 'ring_full') },
  { title: 'overload', width: 9, value: ({ rounds }) => formatDrops(rounds, 'overload') },
];

const NAME_WIDTH = 16;

export function printHeading(): void {
  const titles = COLUMNS.map(({ title, width }) => title.padStart(width));
  console.log(' '.repeat(NAME_WIDTH) + titles.join(''));
}

export function printComparison({ workload, summaries, faults }: Comparison): void {
  console.log(`\n${workload.group}: ${describeWorkload(workload)}`);
  for (const summary of summaries) {
    const cells = COLUMNS.map(({ width, value }) => value(summary).padStart(width));
    console.log(`  ${summary.server}`.padEnd(NAME_WIDTH) + cells.join(''));
    const ratios = formatRatios(summary);
    if (ratios !== '') console.log(' '.repeat(NAME_WIDTH + 2) + ratios);
  }
  for (const fault of faults) console.log(`  failed: ${fault}`);
}

/** Writes everything that was measured, and on what. */
export async function writeResults(path: string, options: object, figures: object): Promise<void> {
  const machine = {
    cpu: cpus()[0]?.model,
    cpuCount: cpus().length,
    kernel: release(),
    node: process.version,
    loadAverage: loadavg(),
  };
  const commit = (await run('git', ['-C', ROOT, 'rev-parse', 'HEAD']).catch(() => '')).trim();
  const results = { date: new Date().toISOString(), commit, machine, options, ...figures };
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(results, null, 1)}\n`);
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function latency(us: number): string {
  return us < 100 ? us.toFixed(1) : whole(us);
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

function formatLoadShare(share: number): string {
  return percent(share) + (share > LOAD_SHARE_MAX ? '!' : '');
}

/** All together: no median shall hide a single one. Empty where the server does not tell. */
function formatDrops(rounds: readonly Measurement[], reason: keyof Drops): string {
  const total = rounds.reduce((sum, round) => sum + round[reason], 0);
  return Number.isNaN(total) ? '' : whole(total);
}

/** Such as "to vblade: requests/s 1.26 (1.13-1.30), CPU 0.74, p99.9 1.42; to the reflector: 0.75". */
function formatRatios({ server, toBaseline, toReflector }: Summary): string {
  const parts: string[] = [];
  if (toBaseline !== undefined && server !== BASELINE) {
    const { requests, requestsLowest, requestsHighest, cpu, p999 } = toBaseline;
    const spread = `${requestsLowest.toFixed(2)}-${requestsHighest.toFixed(2)}`;
    parts.push(
      `to ${BASELINE}: requests/s ${requests.toFixed(2)} (${spread}), ` +
        `CPU ${cpu.toFixed(2)}, p99.9 ${p999.toFixed(2)}`,
    );
  }
  if (toReflector !== undefined) parts.push(`to the reflector: ${toReflector.toFixed(2)}`);
  return parts.join('; ');
}
