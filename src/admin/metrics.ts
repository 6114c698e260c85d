/**
 * The status as Prometheus text. A scrape makes every value anew from the status, so nothing is
 * counted twice and nothing is kept.
 */
import { Counter, Gauge, type Histogram, Registry } from 'prom-client';
import type { Distribution } from '../core/histogram.ts';
import type { ServerStatus } from '../status.ts';
import {
  COUNTERS,
  DISTRIBUTIONS,
  type DistributionMetric,
  GAUGES,
  type Metric,
  type Sample,
} from './metric-table.ts';

export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** Writes `status` in the text format of Prometheus. */
export function renderMetrics(status: ServerStatus): Promise<string> {
  const registry = new Registry();
  // Without a sample a gauge or counter would tell 0, of nothing.
  const isTold = (metric: Metric) => metric.samples(status).length > 0;
  for (const metric of GAUGES.filter(isTold)) {
    const gauge = new Gauge(describe(metric, status, registry));
    for (const [labels, value] of metric.samples(status)) gauge.set(labels, value);
  }
  for (const metric of COUNTERS.filter(isTold)) {
    const counter = new Counter(describe(metric, status, registry));
    for (const [labels, value] of metric.samples(status)) counter.inc(labels, value);
  }
  for (const metric of DISTRIBUTIONS) {
    registry.registerMetric(showDistributions(metric, status));
  }
  return registry.metrics();
}

/** A histogram as the registry wants it: one that it only reads need not observe anything. */
function showDistributions(metric: DistributionMetric, status: ServerStatus): Histogram {
  const { name, help, samples } = metric;
  const values = samples(status).flatMap((sample) => distributionValues(metric, sample));
  const get = async () => ({ name, help, type: 'histogram', values, aggregator: 'sum' });
  return { name, get } as unknown as Histogram;
}

function distributionValues(
  { name, scale, bits: [least, most] }: DistributionMetric,
  [labels, { count, sum, counts }]: Sample<Distribution>,
) {
  const bucket = (le: number | string, value: number) => ({
    metricName: `${name}_bucket`,
    labels: { ...labels, le },
    value,
  });
  const buckets = [];
  let below = 0;
  for (let bit = 0; bit <= most; bit++) {
    below += counts[bit] ?? 0;
    // Values are whole: those below a power of two are at most one less.
    if (bit >= least) buckets.push(bucket((2 ** bit - 1) / scale, below));
  }
  return [
    ...buckets,
    bucket('+Inf', count),
    { metricName: `${name}_sum`, labels, value: sum / scale },
    { metricName: `${name}_count`, labels, value: count },
  ];
}

function describe({ name, help, samples }: Metric, status: ServerStatus, registry: Registry) {
  const [first] = samples(status);
  return { name, help, labelNames: Object.keys(first?.[0] ?? {}), registers: [registry] };
}
