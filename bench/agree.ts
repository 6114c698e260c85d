/** Does another load generator see the same server? */
import type { Bench } from './compare.ts';
import { compile, type Duration } from './load.ts';
import { inPlace, type Place, run } from './process.ts';
import { SERVERS } from './servers.ts';
import { median } from './statistics.ts';
import { describeWorkload, type Workload, workloadsOf } from './workloads.ts';

interface Observation {
  requestsPerS: number;
  p50Us: number;
}

const COMPARED = workloadsOf(['cached']);
const NAME_WIDTH = 34;

/**
 * Lets both load vblade in turn and prints the ratios of what they saw: of medians, and the least
 * and the most of a single round.
 *
 * @param source a C program with the options of aoeload: `-m MODE -n SECTORS -q DEPTH -t SECONDS
 * INTERFACE SHELF.SLOT`, and `iops` and `p50_us` in the JSON that it prints
 */
export async function agree(
  bench: Bench,
  source: string,
  loadPlace: Place,
  duration: Duration,
  roundCount: number,
): Promise<void> {
  const link = bench.network.link(0);
  const other = await compile(source, bench.directory, 'other-load');
  const titles = ['ours', 'other', 'ratio', '(rounds)'].map(padCell).join('');
  console.log(`${'requests/s, then p50 us'.padEnd(NAME_WIDTH)}${titles}${titles}`);
  for (const workload of COMPARED) {
    const ours: Observation[] = [];
    const theirs: Observation[] = [];
    await withVblade(bench, workload, async () => {
      for (let round = 0; round < roundCount; round++) {
        const result = await bench.load.run(link, workload, duration);
        ours.push({ requestsPerS: result.requests_per_s, p50Us: result.p50_us });
        theirs.push(await runOther(bench, other, loadPlace, workload, duration));
      }
    });
    const cells = [...ratio(ours, theirs, 'requestsPerS'), ...ratio(ours, theirs, 'p50Us')];
    console.log(describeWorkload(workload).padEnd(NAME_WIDTH) + cells.map(padCell).join(''));
  }
}

async function withVblade(
  bench: Bench,
  workload: Workload,
  body: () => Promise<void>,
): Promise<void> {
  await bench.network.setMtu(workload.mtu);
  const images = await bench.images.prepare(workload, 'vblade', bench.signal);
  const vblade = SERVERS.find(({ name }) => name === 'vblade');
  const { serverPlace: place, directory } = bench;
  const link = bench.network.link(0);
  const options = { place, interfaceName: link.server, workload, images, directory };
  const processes = (await vblade?.start(options)) ?? [];
  try {
    await bench.load.waitForTargets(link, workload);
    await body();
  } finally {
    for (const process of processes) await process[Symbol.asyncDispose]();
  }
}

async function runOther(
  { network, signal }: Bench,
  program: string,
  place: Place,
  { mode, sectors, depth }: Workload,
  { warmupSeconds, seconds }: Duration,
): Promise<Observation> {
  // It has no warm-up of its own and takes whole seconds.
  const time = Math.max(1, Math.round(warmupSeconds + seconds));
  const options = ['-m', mode, '-n', `${sectors}`, '-q', `${depth}`, '-t', `${time}`];
  const args = [...options, network.link(0).load, '1.0'];
  const output = await run(...inPlace(place, program, args), {
    timeoutMs: (time + 30) * 1000,
    signal,
  });
  const result = JSON.parse(output) as { iops: number; p50_us: number };
  return { requestsPerS: result.iops, p50Us: result.p50_us };
}

function ratio(
  ours: readonly Observation[],
  theirs: readonly Observation[],
  key: keyof Observation,
): string[] {
  const our = median(ours.map((one) => one[key]));
  const their = median(theirs.map((one) => one[key]));
  const pairs = ours.map((one, round) => one[key] / (theirs[round]?.[key] ?? Number.NaN));
  const spread = `(${Math.min(...pairs).toFixed(2)}-${Math.max(...pairs).toFixed(2)})`;
  return [our.toFixed(0), their.toFixed(0), (our / their).toFixed(2), spread];
}

/** @param index of four columns, again and again */
function padCell(cell: string, index: number): string {
  return cell.padStart([10, 8, 7, 12][index % 4] ?? 0);
}
