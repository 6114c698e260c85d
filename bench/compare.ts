/** Runs servers in turn, A B C A B C, so that what disturbs the machine disturbs them alike. */
import { dropCaches, type Images } from './images.ts';
import type { Duration, Load, LoadResult } from './load.ts';
import type { Network } from './network.ts';
import { cpuSeconds, type Memory, memoryOf, type Place, type ServerProcess } from './process.ts';
import type { Server } from './servers.ts';
import { median } from './statistics.ts';
import { describeWorkload, type Workload } from './workloads.ts';

/** The server that the others are compared to. */
export const BASELINE = 'vblade';

export interface Bench {
  network: Network;
  images: Images;
  load: Load;
  serverPlace: Place;
  /** For configuration and programs. */
  directory: string;
  signal: AbortSignal;
}

/** One run of one server. */
export interface Measurement extends LoadResult, Memory {
  server_cpu_seconds_per_million: number;
  /** Of one processor, 0 to 1 and above. */
  server_cpu_share: number;
  load_cpu_share: number;
}

export interface Summary {
  server: string;
  /** Of each number, over all rounds. */
  median: Measurement;
  /** Requests a second, relative to the baseline. */
  ratio?: { ofMedians: number; lowest: number; highest: number };
  rounds: Measurement[];
}

export interface Comparison {
  workload: Workload;
  summaries: Summary[];
  faults: string[];
}

/** Never fails because of a server: what went wrong is in `faults`. */
export async function compare(
  bench: Bench,
  workload: Workload,
  servers: readonly Server[],
  duration: Duration,
  roundCount: number,
): Promise<Comparison> {
  await bench.network.setMtu(workload.mtu);
  const images = await bench.images.prepare(workload, bench.signal);
  const rounds = new Map<Server, Measurement[]>(
    servers.filter((server) => server.suits(workload)).map((server) => [server, []]),
  );
  const faults: string[] = [];
  for (let round = 1; round <= roundCount; round++) {
    for (const [server, measurements] of rounds) {
      try {
        measurements.push(await measure(bench, server, workload, images, duration));
      } catch (error) {
        bench.signal.throwIfAborted();
        faults.push(`${server.name}: ${describeWorkload(workload)}: ${(error as Error).message}`);
        rounds.delete(server);
      }
    }
  }
  return { workload, summaries: summarize(rounds), faults };
}

async function measure(
  bench: Bench,
  server: Server,
  workload: Workload,
  images: readonly string[],
  duration: Duration,
): Promise<Measurement> {
  const { serverPlace: place, directory } = bench;
  const processes = await server.start({ place, workload, images, directory });
  try {
    await bench.load.waitForTargets(workload);
    if (workload.cold) await dropCaches();
    return await observe(processes, () => bench.load.run(workload, duration));
  } catch (error) {
    bench.signal.throwIfAborted();
    const log = processes.map((process) => process.log).join('\n');
    throw new Error(`${(error as Error).message}\n${log}`.trim(), { cause: error });
  } finally {
    await stopAll(processes);
  }
}

async function observe(
  processes: readonly ServerProcess[],
  load: () => Promise<LoadResult>,
): Promise<Measurement> {
  const pids = processes.map((process) => process.pid);
  const cpuBefore = cpuSeconds(pids);
  const result = await load();
  const cpu = cpuSeconds(pids) - cpuBefore;
  if (result.errors + result.wrong + result.unanswered > 0) {
    throw new Error(`requests failed: ${JSON.stringify(result)}`);
  }
  return {
    ...result,
    ...memoryOf(pids),
    server_cpu_seconds_per_million: (cpu / result.requests_total) * 1e6,
    server_cpu_share: cpu / result.elapsed_seconds,
    load_cpu_share: result.cpu_seconds / result.elapsed_seconds,
  };
}

async function stopAll(processes: readonly ServerProcess[]): Promise<void> {
  await Promise.all(processes.map((process) => process[Symbol.asyncDispose]()));
}

function summarize(rounds: ReadonlyMap<Server, readonly Measurement[]>): Summary[] {
  const entries = [...rounds].filter(([, measurements]) => measurements.length > 0);
  const baseline = entries.find(([server]) => server.name === BASELINE)?.[1];
  return entries.map(([server, measurements]) => ({
    server: server.name,
    median: medianOf(measurements),
    ...(baseline && { ratio: ratioOf(measurements, baseline) }),
    rounds: [...measurements],
  }));
}

function medianOf(measurements: readonly Measurement[]): Measurement {
  const keys = Object.keys(measurements[0] ?? {}) as (keyof Measurement)[];
  const medians = keys.map((key) => [key, median(measurements.map((one) => one[key]))]);
  return Object.fromEntries(medians) as Measurement;
}

/** Lowest and highest are of single rounds, each paired with the baseline's run of that round. */
function ratioOf(
  measurements: readonly Measurement[],
  baseline: readonly Measurement[],
): NonNullable<Summary['ratio']> {
  const rate = (measurement: Measurement | undefined): number =>
    measurement?.requests_per_s ?? Number.NaN;
  const pairs = measurements.map((one, round) => rate(one) / rate(baseline[round]));
  return {
    ofMedians: median(measurements.map(rate)) / median(baseline.map(rate)),
    lowest: Math.min(...pairs),
    highest: Math.max(...pairs),
  };
}
