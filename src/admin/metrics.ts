/**
 * The status as Prometheus text. A scrape makes every value anew from the status, so nothing is
 * counted twice and nothing is kept. Of a thousand targets there are ten megabytes to tell: they are
 * written as they are sent, and the thread that does it serves others meanwhile.
 */
import type { Distribution } from '../core/histogram.ts';
import { inSlices } from '../core/slices.ts';
import type { ServerStatus } from '../status.ts';
import {
  COUNTERS,
  DISTRIBUTIONS,
  type DistributionMetric,
  GAUGES,
  type Labels,
  type Metric,
  type Sample,
} from './metric-table.ts';

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };

/** Writes `status` in the text format of Prometheus, piece by piece. */
export async function* renderMetrics(status: ServerStatus): AsyncGenerator<Uint8Array> {
  for await (const texts of inSlices(writeAll(status))) yield Buffer.from(texts.join(''));
}

function* writeAll(status: ServerStatus): Generator<string> {
  for (const metric of GAUGES) yield* writeFamily(metric, 'gauge', status, writeNumber);
  for (const metric of COUNTERS) yield* writeFamily(metric, 'counter', status, writeNumber);
  for (const metric of DISTRIBUTIONS) {
    yield* writeFamily(metric, 'histogram', status, writeDistribution);
  }
}

/** Writes all that is told by one name, which must stand together. */
function* writeFamily<Value, Kind extends Metric<Value>>(
  metric: Kind,
  type: string,
  status: ServerStatus,
  write: (metric: Kind, sample: Sample<Value>) => string,
): Generator<string> {
  yield `# HELP ${metric.name} ${metric.help}\n# TYPE ${metric.name} ${type}\n`;
  for (const sample of metric.samples(status)) yield write(metric, sample);
}

function writeNumber({ name }: Metric, [labels, value]: Sample<number>): string {
  const written = writeLabels(labels);
  return `${name}${written === '' ? '' : `{${written}}`} ${value}\n`;
}

function writeDistribution(
  { name, scale, bits: [least, most] }: DistributionMetric,
  [labels, { count, sum, counts }]: Sample<Distribution>,
): string {
  const written = writeLabels(labels);
  const lines: string[] = [];
  let below = 0;
  for (let bit = 0; bit <= most; bit++) {
    below += counts[bit] ?? 0;
    // Values are whole: those below a power of two are at most one less.
    const le = (2 ** bit - 1) / scale;
    if (bit >= least) lines.push(`${name}_bucket{${written},le="${le}"} ${below}\n`);
  }
  lines.push(
    `${name}_bucket{${written},le="+Inf"} ${count}\n`,
    `${name}_sum{${written}} ${sum / scale}\n`,
    `${name}_count{${written}} ${count}\n`,
  );
  return lines.join('');
}

function writeLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(
      ([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (found) => ESCAPES[found] ?? '')}"`,
    )
    .join();
}
