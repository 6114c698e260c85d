/** What targets take of which nobody asks anything: memory, processor time, threads. */
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './compare.ts';
import { cpuSeconds, memoryOf, ServerProcess } from './process.ts';
import { ScratchDirectory } from './scratch.ts';
import { AOE_SERVER, askServer, type ServerHome, writeConfig } from './servers.ts';
import { idleWorkloads, type Workload } from './workloads.ts';

const IMAGE_BYTES = 2 ** 30;
const START_SECONDS_MAX = 60;
/** Each question costs the server a millisecond. */
const POLL_MS = 200;
/** After the start: V8 still compiles, and collects what the start has left. */
const SETTLE_SECONDS = 3;
const IDLE_SECONDS = 10;

export interface IdleFigures {
  targets: number;
  rssMib: number;
  startCpuSeconds: number;
  /** In {@link IDLE_SECONDS}. */
  idleCpuSeconds: number;
  threads: number;
}

/** Prints and returns what each number of targets takes. @param disk for their images, sparse */
export async function scale(bench: Bench, disk: string): Promise<IdleFigures[]> {
  console.log(' targets     MiB  CPU s to start  CPU s in 10 idle s  threads');
  const all: IdleFigures[] = [];
  for (const workload of idleWorkloads()) {
    const figures = await measure(bench, workload, disk);
    const cells = [
      `${figures.targets}`.padStart(8),
      figures.rssMib.toFixed(1).padStart(8),
      figures.startCpuSeconds.toFixed(2).padStart(16),
      figures.idleCpuSeconds.toFixed(2).padStart(20),
      `${figures.threads}`.padStart(9),
    ];
    console.log(cells.join(''));
    all.push(figures);
  }
  return all;
}

async function measure(bench: Bench, workload: Workload, disk: string): Promise<IdleFigures> {
  await using scratch = await ScratchDirectory.create(disk);
  const images = Array.from({ length: workload.targets }, (_, index) =>
    join(scratch.path, `${index}.img`),
  );
  for (const image of images) await makeSparse(image);
  await bench.network.setMtu(workload.mtu);
  const { serverPlace: place, directory, signal } = bench;
  const interfaceName = bench.network.link(0).server;
  const configPath = await writeConfig({ place, interfaceName, workload, images, directory });
  await using server = new ServerProcess(place, process.execPath, [AOE_SERVER, configPath]);
  const pids = [server.pid];
  await waitUntilServing(server, { interfaceName, directory }, signal);
  const started = cpuSeconds(pids);
  await sleep(SETTLE_SECONDS * 1000, undefined, { signal });
  const settled = cpuSeconds(pids);
  await sleep(IDLE_SECONDS * 1000, undefined, { signal });
  return {
    targets: workload.targets,
    rssMib: memoryOf(pids).rssMib,
    startCpuSeconds: started,
    idleCpuSeconds: cpuSeconds(pids) - settled,
    threads: threadCount(server.pid),
  };
}

async function makeSparse(path: string): Promise<void> {
  await using file = await open(path, 'w');
  await file.truncate(IMAGE_BYTES);
}

/** @throws {Error} with the server's log, when it does not serve in time */
async function waitUntilServing(
  server: ServerProcess,
  home: ServerHome,
  signal: AbortSignal,
): Promise<void> {
  const end = performance.now() + START_SECONDS_MAX * 1000;
  for (;;) {
    await sleep(POLL_MS, undefined, { signal });
    try {
      // What is not asked of the targets costs the same however many there are.
      await askServer(home, '/v1/openapi.json');
      return;
    } catch (error) {
      if (server.isRunning && performance.now() < end) continue;
      throw new Error(`${(error as Error).message}\n${server.log}`, { cause: error });
    }
  }
}

function threadCount(pid: number): number {
  return Number(/^Threads:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
