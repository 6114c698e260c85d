/** aoe-server under load, with a probe inside that reports lines of JSON. */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Bench } from './compare.ts';
import type { Duration, LoadResult } from './load.ts';
import { ServerProcess } from './process.ts';
import { aoeServerArgs, writeConfig } from './servers.ts';
import type { Workload } from './workloads.ts';

/**
 * Starts a server, loads it and stops it.
 *
 * @param probe the module that is loaded into the server and writes to file descriptor 3
 * @param hear called with each report
 * @throws {Error} with the end of the server's log
 */
export async function observe<Report>(
  bench: Bench,
  workload: Workload,
  duration: Duration,
  probe: string,
  hear: (report: Report) => void,
): Promise<LoadResult> {
  await bench.network.setMtu(workload.mtu);
  const images = await bench.images.prepare(workload, 'observed', bench.signal);
  const { serverPlace: place, directory } = bench;
  const link = bench.network.link(0);
  const options = { place, interfaceName: link.server, workload, images, directory };
  const configPath = await writeConfig(options);
  const args = aoeServerArgs(configPath, ['--import', join(import.meta.dirname, probe)]);
  await using server = new ServerProcess(place, process.execPath, args, 1);
  const lines = createInterface(server.child.stdio[3] as Readable);
  lines.on('line', (line) => hear(JSON.parse(line) as Report));
  try {
    await bench.load.waitForTargets(link, workload);
    return await bench.load.run(link, workload, duration);
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${server.log}`, { cause: error });
  }
}
