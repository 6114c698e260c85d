/** Runs servers in turn, A B C A B C, so that what disturbs the machine disturbs them alike. */
import { dropCaches, type Images } from './images.ts';
import type { Duration, Load, LoadResult } from './load.ts';
import type { Link, Network } from './network.ts';
import { cpuSeconds, type Memory, memoryOf, type Place, type ServerProcess } from './process.ts';
import type { Drops, Server, ServerHome } from './servers.ts';
import { median } from './statistics.ts';
import { describeWorkload, type Workload } from './workloads.ts';

/** The server that the others are compared to. */
export const BASELINE = 'vblade';
/** They answer from memory: the best of them is the floor. */
const REFLECTORS = ['reflector', 'reflector-ring'];

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
export interface Measurement extends LoadResult, Memory, Drops {
  server_cpu_seconds_per_million: number;
  /** Of one processor, 0 to 1 and above. */
  server_cpu_share: number;
  load_cpu_share: number;
}

export interface Summary {
  server: string;
  /** Of each number, over all rounds. */
  median: Measurement;
  toBaseline?: Ratios;
  /** Requests a second, relative to the best reflector that ran. */
  toReflector?: number;
  rounds: Measurement[];
}

/** Of medians, where nothing else is said. */
export interface Ratios {
  requests: number;
  /** Of a single round, paired with the baseline's run of that round. */
  requestsLowest: number;
  requestsHighest: number;
  /** Processor time of a request. */
  cpu: number;
  p999: number;
}

export interface Comparison {
  workload: Workload;
  summaries: Summary[];
  faults: string[];
}

/**
 * All servers run at once, each on a link of its own where nobody asks it anything but in its turn.
 *
 * Never fails because of a server: what went wrong is in `faults`.
 */
export async function compare(
  bench: Bench,
  workload: Workload,
  servers: readonly Server[],
  duration: Duration,
  roundCount: number,
): Promise<Comparison> {
  await bench.network.setMtu(workload.mtu);
  const contenders = servers
    .map((server, index) => new Contender(bench, server, workload, bench.network.link(index)))
    .filter(({ server }) => server.suits(workload));
  const faults: string[] = [];
  try {
    for (let round = 0; round <= roundCount; round++) {
      for (const contender of contenders.filter(({ isFaulty }) => !isFaulty)) {
        try {
          await (round === 0 ? contender.start() : contender.measure(duration));
        } catch (error) {
          bench.signal.throwIfAborted();
          faults.push(contender.explain(error as Error));
        }
      }
    }
  } finally {
    await Promise.all(contenders.map((contender) => contender[Symbol.asyncDispose]()));
  }
  return { workload, summaries: summarize(contenders.filter(({ isFaulty }) => !isFaulty)), faults };
}

/** A server with a workload. It is faulty from its first failure on. */
class Contender implements AsyncDisposable {
  readonly server: Server;
  readonly measurements: Measurement[] = [];
  isFaulty = false;
  readonly #bench: Bench;
  readonly #workload: Workload;
  readonly #link: Link;
  readonly #home: ServerHome;
  #processes: ServerProcess[] = [];

  constructor(bench: Bench, server: Server, workload: Workload, link: Link) {
    this.#bench = bench;
    this.server = server;
    this.#workload = workload;
    this.#link = link;
    this.#home = { interfaceName: link.server, directory: bench.directory };
  }

  /** Starts the server and loads it until it is as fast as it gets. */
  async start(): Promise<void> {
    const { images, signal, serverPlace: place, load } = this.#bench;
    const { name, needsImages, settlingSeconds: seconds } = this.server;
    const workload = this.#workload;
    this.#processes = await this.server.start({
      ...this.#home,
      images: needsImages ? await images.prepare(workload, name, signal) : [],
      ...{ place, workload },
    });
    await load.waitForTargets(this.#link, workload);
    await load.run(this.#link, workload, { warmupSeconds: 0, seconds });
  }

  async measure(duration: Duration): Promise<void> {
    if (this.#workload.cold) await dropCaches();
    const pids = this.#processes.map((process) => process.pid);
    const dropsBefore = await this.server.drops(this.#home);
    const cpuBefore = cpuSeconds(pids);
    const result = await this.#bench.load.run(this.#link, this.#workload, duration);
    const cpu = cpuSeconds(pids) - cpuBefore;
    const drops = await this.server.drops(this.#home);
    if (result.errors + result.wrong + result.unanswered > 0) {
      throw new Error(`requests failed: ${JSON.stringify(result)}`);
    }
    this.measurements.push({
      ...result,
      ...memoryOf(pids),
      ring_full: drops.ring_full - dropsBefore.ring_full,
      overload: drops.overload - dropsBefore.overload,
      server_cpu_seconds_per_million: (cpu / result.requests_total) * 1e6,
      server_cpu_share: cpu / result.elapsed_seconds,
      load_cpu_share: result.cpu_seconds / result.elapsed_seconds,
    });
  }

  /** From now on it is faulty. @returns what went wrong, with the end of the server's log */
  explain({ message }: Error): string {
    this.isFaulty = true;
    const log = this.#processes.map((process) => process.log).join('\n');
    return `${this.server.name}: ${describeWorkload(this.#workload)}: ${message}\n${log}`.trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((process) => process[Symbol.asyncDispose]()));
  }
}

function summarize(contenders: readonly Contender[]): Summary[] {
  const summaries: Summary[] = contenders.map(({ server, measurements }) => ({
    server: server.name,
    median: medianOf(measurements),
    rounds: [...measurements],
  }));
  const baseline = summaries.find(({ server }) => server === BASELINE);
  const floors = summaries.filter(({ server }) => REFLECTORS.includes(server));
  const floor = Math.max(...floors.map(({ median }) => median.requests_per_s));
  return summaries.map((summary) => ({
    ...summary,
    ...(baseline && { toBaseline: ratiosOf(summary, baseline) }),
    ...(floors.length > 0 && { toReflector: summary.median.requests_per_s / floor }),
  }));
}

function medianOf(measurements: readonly Measurement[]): Measurement {
  const keys = Object.keys(measurements[0] ?? {}) as (keyof Measurement)[];
  const medians = keys.map((key) => [key, median(measurements.map((one) => one[key]))]);
  return Object.fromEntries(medians) as Measurement;
}

function ratiosOf(summary: Summary, baseline: Summary): Ratios {
  const ratioOf = (key: keyof Measurement): number => summary.median[key] / baseline.median[key];
  const pairs = summary.rounds.map(
    (one, round) => one.requests_per_s / (baseline.rounds[round]?.requests_per_s ?? Number.NaN),
  );
  return {
    requests: ratioOf('requests_per_s'),
    requestsLowest: Math.min(...pairs),
    requestsHighest: Math.max(...pairs),
    cpu: ratioOf('server_cpu_seconds_per_million'),
    p999: ratioOf('p999_us'),
  };
}
