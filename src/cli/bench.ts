/**
 * Measures a target from this machine, by the project's own initiator: what a client would see,
 * without a kernel module. Reads only, unless told otherwise.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { addressOf } from '../aoe/codec/header.ts';
import type { Initiator } from '../aoe/initiator/initiator.ts';
import { type LoadOptions, type LoadResult, runLoad } from '../aoe/initiator/load.ts';
import type { RemoteTarget } from '../aoe/initiator/remote-target.ts';
import { targetName } from '../config/config.ts';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { StartupError } from '../core/startup-error.ts';
import { formatMacAddress } from '../net/ethernet.ts';
import { type Address, parseAddress } from './address.ts';
import { listInterfaces } from './network-interfaces.ts';
import { type PrintOptions, print } from './print.ts';
import { formatTable } from './table.ts';

interface BenchOptions extends PrintOptions {
  readonly seconds: number;
  readonly overwrite?: true;
}

type Workload = Pick<LoadOptions, 'op' | 'access' | 'sectorCount' | 'depth'>;

/** What was measured, as `--json` prints it. */
interface Row extends Workload {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

/** A target that answered, and how to reach it. */
interface Reached {
  readonly initiator: Initiator;
  readonly target: RemoteTarget;
  readonly interface: string;
  readonly sectorsPerFrame: number;
  readonly bufferCount: number;
}

const SPIN_US = 50;
const WINDOW = 256;
const BLOCK_SECTORS = 8;
const BAR_LENGTH_MAX = 50;

const AFTER_HELP = `
Examples:
  aoe-server bench e1.0                 read from e1.0 on whatever interface it answers
  aoe-server bench 1.0 eth0 --seconds 10
  aoe-server bench 1.0 --overwrite      write, too: DESTROYS what is on the disk

The numbers are those of one process with an initiator of its own. A Linux client, whose initiator is
in the kernel and which has a page cache, is faster.`;

/** Measures requests a second and latency of a target. */
export function addBenchCommand(program: Command): void {
  program
    .command('bench')
    .description('measure a target from here; reads only, unless told to overwrite it')
    .argument('<shelf.slot>', 'target, such as e1.0', parseAddress)
    .argument('[interface]', 'network interface; by default all Ethernet interfaces are tried')
    .option('--seconds <count>', 'how long each measurement takes', parseSeconds, 3)
    .option('--overwrite', 'measure writes as well, which DESTROYS the data of the target')
    .option('--json', 'print a JSON array')
    .addHelpText('after', AFTER_HELP)
    .action(bench);
}

/** @throws {StartupError} no such target answers */
async function bench(
  address: Address,
  interfaceName: string | undefined,
  options: BenchOptions,
): Promise<void> {
  const names = interfaceName === undefined ? listInterfaces() : [interfaceName];
  const reached = await reach(address, names);
  await using _initiator = reached.initiator;
  const { target } = reached;
  const { sizeSectors, model } = await target.identify();
  if (!options.json) {
    const path = `${formatMacAddress(target.mac)} on ${reached.interface}`;
    console.log(
      `${targetName(address.shelf, address.slot)} at ${path}: ${model}, ${sizeSectors} sectors\n`,
    );
  }
  const rows: Row[] = [];
  let latenciesUs: Float64Array | undefined;
  for (const workload of workloadsOf(reached, options.overwrite === true)) {
    const sectorCount = Math.min(workload.sectorCount, sizeSectors);
    const load = { ...workload, sectorCount, sizeSectors, durationMs: options.seconds * 1000 };
    const result = await runLoad(target, load);
    rows.push(makeRow(load, result));
    latenciesUs ??= result.latenciesUs;
  }
  print(rows, options, formatRows);
  if (options.json || latenciesUs === undefined) return;
  console.log(`\nLatency of random reads at depth 1:\n${formatHistogram(latenciesUs)}`);
}

/** Latency first, then what the target can take, then the largest frames in a row. */
function workloadsOf(
  { sectorsPerFrame, bufferCount }: Reached,
  withWrites: boolean,
): readonly Workload[] {
  const block = Math.min(BLOCK_SECTORS, sectorsPerFrame);
  const depth = Math.min(bufferCount, WINDOW);
  const ops = withWrites ? (['read', 'write'] as const) : (['read'] as const);
  return ops.flatMap((op) => [
    { op, access: 'random', sectorCount: block, depth: 1 },
    { op, access: 'random', sectorCount: block, depth },
    { op, access: 'sequential', sectorCount: sectorsPerFrame, depth },
  ]);
}

/** Opens the first interface on which the target answers. */
async function reach(address: Address, names: readonly string[]): Promise<Reached> {
  // Loaded on demand: the other commands work where the native addon does not.
  const { Initiator } = await import('../aoe/initiator/initiator.ts');
  const { discoverTargets } = await import('../aoe/initiator/discover.ts');
  const { RemoteTarget } = await import('../aoe/initiator/remote-target.ts');
  for (const name of names) {
    const initiator = Initiator.open({ interface: name, window: WINDOW, spinUs: SPIN_US });
    const found = (await discoverTargets(initiator)).find(
      (one) => one.address === addressOf(address),
    );
    if (found === undefined) {
      await initiator.close();
      continue;
    }
    return {
      initiator,
      target: new RemoteTarget(initiator, found.mac, found.address),
      interface: name,
      sectorsPerFrame: found.config.sectorCount,
      bufferCount: found.config.bufferCount,
    };
  }
  throw new StartupError(
    `${targetName(address.shelf, address.slot)} does not answer on ${names.join(', ')}`,
    'see what does: aoe-server discover',
  );
}

function makeRow(load: LoadOptions, { elapsedMs, latenciesUs }: LoadResult): Row {
  const requestsPerSecond = Math.round((latenciesUs.length / elapsedMs) * 1000);
  const quantile = (share: number) =>
    Math.round(latenciesUs[Math.floor(latenciesUs.length * share)] ?? 0);
  return {
    ...{ op: load.op, access: load.access, sectorCount: load.sectorCount, depth: load.depth },
    requestsPerSecond,
    bytesPerSecond: requestsPerSecond * load.sectorCount * SECTOR_SIZE,
    p50Us: quantile(0.5),
    p99Us: quantile(0.99),
    p999Us: quantile(0.999),
    maxUs: Math.round(latenciesUs.at(-1) ?? 0),
  };
}

function formatRows(rows: readonly Row[]): string {
  return formatTable([
    ['WORKLOAD', 'DEPTH', 'REQUESTS/S', 'MB/S', 'P50 US', 'P99 US', 'P99.9 US', 'MAX US'],
    ...rows.map((row) => [
      `${row.access} ${row.op}, ${(row.sectorCount * SECTOR_SIZE) / 1024} KiB`,
      `${row.depth}`,
      `${row.requestsPerSecond}`,
      (row.bytesPerSecond / 1e6).toFixed(1),
      `${row.p50Us}`,
      `${row.p99Us}`,
      `${row.p999Us}`,
      `${row.maxUs}`,
    ]),
  ]);
}

/** A line for each doubling of the latency between the shortest and the longest. */
export function formatHistogram(latenciesUs: Float64Array): string {
  const counts: number[] = [];
  for (const latencyUs of latenciesUs) {
    const bucket = Math.max(0, Math.floor(Math.log2(latencyUs)));
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
  const most = Math.max(...counts.filter((count) => count > 0));
  const first = counts.findIndex((count) => count > 0);
  // Not map: it passes over latencies that nothing had.
  const rows = Array.from({ length: counts.length - first }, (_, index) => {
    const bucket = first + index;
    const count = counts[bucket] ?? 0;
    const bar = '#'.repeat(Math.ceil((count / most) * BAR_LENGTH_MAX));
    return [`${2 ** bucket} to ${2 ** (bucket + 1)} us`, `${count}`, bar];
  });
  return formatTable(rows);
}

function parseSeconds(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 3600)) {
    throw new InvalidArgumentError('must be a number above 0, at most 3600');
  }
  return value;
}
