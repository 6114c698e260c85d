/**
 * Loaded into a server with `node --import`: samples what its JavaScript allocates, also what is
 * collected at once, and reports it as a line of JSON to file descriptor 3.
 */
import { writeSync } from 'node:fs';
import { type HeapProfiler, Session } from 'node:inspector/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const REPORT_FD = 3;
/** Until then code is compiled and caches fill; V8 takes longer where others use the processor. */
const SETTLE_SECONDS = 14;
const SAMPLE_SECONDS = 10;
/** Mean distance between samples, in bytes. */
const INTERVAL_BYTES = 1024;

/** Bytes that a function allocated itself. */
export interface Allocation {
  where: string;
  bytes: number;
}

export interface HeapReport {
  /** How long allocations were sampled. */
  seconds: number;
  allocations: Allocation[];
}

async function sample(): Promise<void> {
  const session = new Session();
  session.connect();
  await sleep(SETTLE_SECONDS * 1000);
  await session.post('HeapProfiler.startSampling', {
    samplingInterval: INTERVAL_BYTES,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  await sleep(SAMPLE_SECONDS * 1000);
  const { profile } = await session.post('HeapProfiler.stopSampling');
  const report: HeapReport = {
    seconds: SAMPLE_SECONDS,
    allocations: allocationsIn(profile.head),
  };
  writeSync(REPORT_FD, `${JSON.stringify(report)}\n`);
  session.disconnect();
}

function allocationsIn(node: HeapProfiler.SamplingHeapProfileNode): Allocation[] {
  const { functionName, url, lineNumber } = node.callFrame;
  const file = url.split('/').slice(-2).join('/');
  const own = {
    where: `${functionName || '(anonymous)'} ${file}:${lineNumber + 1}`,
    bytes: node.selfSize,
  };
  return [own, ...node.children.flatMap(allocationsIn)].filter(({ bytes }) => bytes > 0);
}

void sample();
