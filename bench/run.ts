/** The command line of the benchmarks. Needs root, vblade and a C compiler. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { agree } from './agree.ts';
import type { AmplificationOptions } from './amplification.ts';
import { type Bench, type Comparison, compare } from './compare.ts';
import { garbage } from './garbage.ts';
import type { GrowthOptions } from './growth.ts';
import { Images } from './images.ts';
import { compile, Load, ROOT } from './load.ts';
import type { MetadataOptions } from './metadata.ts';
import { Network } from './network.ts';
import type { Place } from './process.ts';
import { printComparison, printHeading, writeResults } from './report.ts';
import { scale } from './scale.ts';
import { ScratchDirectory } from './scratch.ts';
import { SERVERS } from './servers.ts';
import type { SnapshotBenchOptions } from './snapshots.ts';
import { soak } from './soak.ts';
import type { PairOptions } from './store-load.ts';
import { GROUP_NAMES, quickWorkloads, workloadsOf } from './workloads.ts';

interface CommonOptions {
  serverCpus: string;
  loadCpus: string;
  disk: string;
}

interface CompareOptions extends CommonOptions {
  quick: boolean;
  rounds?: number;
  seconds?: number;
  servers: string;
  json?: string;
}

interface AgreeOptions extends CommonOptions {
  rounds?: number;
  seconds?: number;
}

interface ScaleOptions extends CommonOptions {
  json?: string;
}

interface SoakOptions extends CommonOptions {
  minutes: number;
}

interface Tools {
  bench: Bench;
  loadPlace: Place;
}

const JSON_OPTION = ['--json <file>', 'where results go instead of bench/results'] as const;
const FULL = { rounds: 5, seconds: 3, warmupSeconds: 0.3 };
const QUICK = { rounds: 3, seconds: 0.6, warmupSeconds: 0.3 };

const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interruption.abort(new Error(`stopped by ${signal}`)));
}

try {
  await createProgram().parseAsync();
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  process.exitCode = 1;
}

function createProgram(): Command {
  const program = new Command('bench');
  withCommonOptions(program.command('compare', { isDefault: true }))
    .description('compare aoe-server to vblade and to a reflector')
    .argument('[groups...]', `parts to run: ${GROUP_NAMES.join(', ')}`)
    .option('--quick', 'a selection that takes a minute', false)
    .option('--rounds <count>', 'runs of each server', positive)
    .option('--seconds <count>', 'measured in each run', positive)
    .option('--servers <names>', 'of the servers, first to last', 'aoe-server,vblade,reflector')
    .option(...JSON_OPTION)
    .action(runCompare);
  withCommonOptions(program.command('agree'))
    .description('compare the load generator to the one whose source AOELOAD_C names')
    .option('--rounds <count>', 'runs of each generator', positive)
    .option('--seconds <count>', 'measured in each run', positive)
    .action(runAgree);
  withPairOptions(program.command('store'))
    .description('compare the content-addressed store to a file, in one process')
    .action(runStore);
  program
    .command('amplification')
    .description('show what overwriting a nearly full content-addressed store writes to the disk')
    .option('--live <percent>', 'of its capacity that is live', positive, 70)
    .option('--disk <directory>', 'for the store', '/dev/shm')
    .action(runAmplification);
  program
    .command('metadata')
    .description('show what a content-addressed store writes besides the blocks themselves')
    .option('--gib <count>', 'size of the volume', positive, 10)
    .option('--disk <directory>', 'for the store', '/var/tmp')
    .action(runMetadata);
  program
    .command('snapshots')
    .description('time snapshots of a content-addressed store under random writes')
    .option('--count <count>', 'snapshots', positive, 20)
    .option('--gib <count>', 'size of the volume', positive, 64)
    .option('--disk <directory>', 'for the store', '/var/tmp')
    .action(runSnapshots);
  program
    .command('growth')
    .description('fill a content-addressed store: throughput, dedup and memory by its size')
    .option('--gib <count>', 'size of all volumes together', positive, 64)
    .option('--disk <directory>', 'for the store', '/var/tmp')
    .action(runGrowth);
  program
    .command('recovery')
    .description('time the opening of a content-addressed store after a crash, by its log')
    .option('--disk <directory>', 'for the store', '/var/tmp')
    .action(runRecovery);
  withPairOptions(program.command('interference'))
    .description('show what clients notice of background work on a content-addressed store')
    .action(runInterference);
  withCommonOptions(program.command('scale'))
    .description('show what idle targets of aoe-server take: memory, processor time, threads')
    .option(...JSON_OPTION)
    .action(runScale);
  withCommonOptions(program.command('soak'))
    .description('watch the memory of aoe-server under full load')
    .option('--minutes <count>', 'of load', positive, 10)
    .action(runSoak);
  withCommonOptions(program.command('garbage'))
    .description('show what the JavaScript of aoe-server allocates for a request')
    .action(runGarbage);
  return program;
}

/** For loads of a store in this process, each measured in pairs. */
function withPairOptions(command: Command): Command {
  return command
    .option('--rounds <count>', 'pairs of runs', positive, FULL.rounds)
    .option('--seconds <count>', 'measured in each run', positive, FULL.seconds)
    .option('--only <text>', 'loads whose name contains it', '')
    .option('--disk <directory>', 'for the store, and the image', '/var/tmp');
}

function withCommonOptions(command: Command): Command {
  return command
    .option('--server-cpus <list>', 'for the server', '0')
    .option('--load-cpus <list>', 'for the load generator', '1')
    .option('--disk <directory>', 'for the images on disk', '/var/tmp');
}

async function runCompare(groups: string[], options: CompareOptions): Promise<void> {
  const defaults = options.quick ? QUICK : FULL;
  const { rounds = defaults.rounds, seconds = defaults.seconds } = options;
  const names = groups.length > 0 ? groups : GROUP_NAMES;
  const workloads = options.quick ? quickWorkloads() : workloadsOf(names);
  const servers = options.servers.split(',').map(serverNamed);
  const path = options.json ?? resultsPath();

  const comparisons: Comparison[] = [];
  try {
    await withTools(options, servers.length, async ({ bench }) => {
      printHeading();
      for (const workload of workloads) {
        const duration = { warmupSeconds: defaults.warmupSeconds, seconds };
        const comparison = await compare(bench, workload, servers, duration, rounds);
        printComparison(comparison);
        comparisons.push(comparison);
      }
    });
  } finally {
    await writeResults(path, { ...options, rounds, seconds }, { comparisons });
    console.log(`\nresults: ${path}`);
  }
  if (comparisons.some(({ faults }) => faults.length > 0)) process.exitCode = 1;
}

function resultsPath(): string {
  const stamp = new Date().toISOString().replaceAll(':', '').slice(0, 17);
  return join(ROOT, 'bench/results', `${stamp}.json`);
}

async function runAgree(options: AgreeOptions): Promise<void> {
  const source = process.env['AOELOAD_C'];
  if (source === undefined)
    throw new Error('AOELOAD_C must name the source of the other generator');
  const { rounds = FULL.rounds, seconds = FULL.seconds } = options;
  const duration = { warmupSeconds: FULL.warmupSeconds, seconds };
  await withTools(options, 1, ({ bench, loadPlace }) =>
    agree(bench, source, loadPlace, duration, rounds),
  );
}

/** For what runs in this process. */
function useAddon(): void {
  process.env['AOE_SERVER_ADDON'] ??= join(ROOT, 'build/Release/aoe_native.node');
}

async function runAmplification(options: AmplificationOptions): Promise<void> {
  useAddon();
  const { benchAmplification } = await import('./amplification.ts');
  await benchAmplification(options);
}

async function runMetadata(options: MetadataOptions): Promise<void> {
  useAddon();
  const { benchMetadata } = await import('./metadata.ts');
  await benchMetadata(options);
}

async function runSnapshots(options: SnapshotBenchOptions): Promise<void> {
  useAddon();
  const { benchSnapshots } = await import('./snapshots.ts');
  await benchSnapshots(options, interruption.signal);
}

async function runGrowth(options: GrowthOptions): Promise<void> {
  useAddon();
  const { benchGrowth } = await import('./growth.ts');
  await benchGrowth(options, interruption.signal);
}

async function runRecovery(options: { disk: string }): Promise<void> {
  useAddon();
  const { benchRecovery } = await import('./recovery.ts');
  await benchRecovery(options, interruption.signal);
}

async function runInterference(options: PairOptions): Promise<void> {
  useAddon();
  const { benchInterference } = await import('./interference.ts');
  await benchInterference(options, interruption.signal);
}

async function runStore(options: PairOptions): Promise<void> {
  useAddon();
  const { benchStore } = await import('./store.ts');
  await benchStore(options, interruption.signal);
}

async function runSoak({ minutes, ...options }: SoakOptions): Promise<void> {
  await withTools(options, 1, ({ bench }) => soak(bench, minutes * 60));
}

async function runScale(options: ScaleOptions): Promise<void> {
  const path = options.json ?? resultsPath();
  await withTools(options, 1, async ({ bench }) => {
    await writeResults(path, options, { scale: await scale(bench, options.disk) });
  });
  console.log(`\nresults: ${path}`);
}

async function runGarbage(options: CommonOptions): Promise<void> {
  await withTools(options, 1, ({ bench }) => garbage(bench));
}

/** Makes what every command needs, and takes it away again whatever happens. */
async function withTools(
  options: CommonOptions,
  linkCount: number,
  body: (tools: Tools) => Promise<void>,
): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('needs root, for network namespaces');
  await using programs = await ScratchDirectory.create(tmpdir());
  await using tmpfs = await ScratchDirectory.create('/dev/shm');
  await using disk = await ScratchDirectory.create(options.disk);
  const loadProgram = await compile(join(ROOT, 'bench/load.c'), programs.path, 'load');
  await compile(join(ROOT, 'bench/reflector.c'), programs.path, 'reflector');
  await using network = await Network.create(linkCount);
  const { signal } = interruption;
  const loadPlace = { namespace: network.loadNamespace, cpus: options.loadCpus };
  const load = new Load(loadProgram, loadPlace, signal);
  const serverPlace = { namespace: network.serverNamespace, cpus: options.serverCpus };
  const images = new Images({ tmpfs: tmpfs.path, disk: disk.path });
  const bench = { network, images, load, serverPlace, directory: programs.path, signal };
  await body({ bench, loadPlace });
}

function serverNamed(name: string): (typeof SERVERS)[number] {
  const server = SERVERS.find((one) => one.name === name);
  if (server !== undefined) return server;
  throw new Error(`no server "${name}"; known: ${SERVERS.map((one) => one.name).join(', ')}`);
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('must be a number above 0');
  return value;
}
