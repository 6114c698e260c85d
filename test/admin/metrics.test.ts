import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { renderMetrics } from '../../src/admin/metrics.ts';
import { FrameCounters } from '../../src/aoe/counters.ts';
import { Histogram } from '../../src/core/histogram.ts';
import type { ServerStatus, TargetStatus } from '../../src/status.ts';
import type { StoreStatus } from '../../src/stores/contract.ts';

function distributionOf(...values: number[]) {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram.distribution();
}

function targetOf(name: string, ...readsUs: number[]): TargetStatus {
  const none = distributionOf();
  const counters = { reads: 1, writes: 2, flushes: 3, trims: 4, readBytes: 5, writtenBytes: 6 };
  return {
    ...{ name, sizeBytes: 4096, failed: false, drained: false, writeCache: true, inFlight: 0 },
    ...{ maskList: [], reserveList: [], reservationConflicts: 0 },
    counters: { ...counters, failures: 0, stale: 0 },
    latencyUs: { read: distributionOf(...readsUs), write: none, flush: none, trim: none },
    groups: none,
  } as unknown as TargetStatus;
}

function statusOf(targets: TargetStatus[], stores: Partial<StoreStatus>[] = []): ServerStatus {
  return {
    ...{ version: '1.2.3', startedAt: '2026-01-01T00:00:00.500Z', inFlight: 0, inFlightMax: 8 },
    ...{ frames: new FrameCounters(), links: [], targets, stores },
  } as unknown as ServerStatus;
}

function linesOf(told: string, name: string): string[] {
  return told.split('\n').filter((line) => line.startsWith(name));
}

it('tells what there is in the text format of Prometheus', async () => {
  const told = await text(renderMetrics(statusOf([targetOf('e1.0', 3, 20, 1 << 26)])));
  expect(told).toMatch(
    /^# HELP aoe_info .+\n# TYPE aoe_info gauge\naoe_info\{version="1.2.3"\} 1\n# HELP/,
  );
  expect(told).toContain('\naoe_start_time_seconds 1767225600.5\n');
  expect(told).toContain('\n# TYPE aoe_target_requests_total counter\n');
  expect(linesOf(told, 'aoe_target_requests_total')).toEqual([
    'aoe_target_requests_total{target="e1.0",operation="read"} 1',
    'aoe_target_requests_total{target="e1.0",operation="write"} 2',
    'aoe_target_requests_total{target="e1.0",operation="flush"} 3',
    'aoe_target_requests_total{target="e1.0",operation="trim"} 4',
  ]);
  expect(told).toContain('\n# TYPE aoe_target_latency_seconds histogram\n');
  const name = 'aoe_target_latency_seconds';
  const reads = linesOf(told, name).filter((line) => line.includes('"read"'));
  const labels = 'target="e1.0",operation="read"';
  expect(reads.slice(0, 3)).toEqual([
    `${name}_bucket{${labels},le="0.000015"} 1`,
    `${name}_bucket{${labels},le="0.000031"} 2`,
    `${name}_bucket{${labels},le="0.000063"} 2`,
  ]);
  expect(reads.slice(-4)).toEqual([
    `${name}_bucket{${labels},le="16.777215"} 2`,
    `${name}_bucket{${labels},le="+Inf"} 3`,
    `${name}_sum{${labels}} ${(23 + (1 << 26)) / 1e6}`,
    `${name}_count{${labels}} 3`,
  ]);
  expect(told.endsWith('\n')).toBe(true);
});

it('keeps what is told by one name together, of many targets as well', async () => {
  const told = await text(renderMetrics(statusOf([targetOf('e1.0'), targetOf('e1.1')])));
  const families = told.split('# HELP ').slice(1);
  const names = families.map((family) => family.slice(0, family.indexOf(' ')));
  expect(new Set(names).size).toBe(names.length);
  for (const [index, family] of families.entries()) {
    const samples = family.split('\n').slice(2, -1);
    expect(samples.filter((line) => !line.startsWith(names[index] as string))).toEqual([]);
  }
});

it('escapes what stands in a path', async () => {
  const store = { path: '/a "b"\\c\nd', damaged: true, jobs: [], measured: null, blobStore: null };
  const told = await text(renderMetrics(statusOf([], [store])));
  expect(told).toContain('\naoe_store_damaged{store="/a \\"b\\"\\\\c\\nd"} 1\n');
});

it('tells nothing of what is not known', async () => {
  const link = { interface: 'eth0', mac: null, mtu: null, counters: null };
  const store = { path: '/a', freeBytes: null, jobs: [], measured: null, blobStore: null };
  const status = { ...statusOf([], [store]), links: [link] } as ServerStatus;
  const told = await text(renderMetrics(status));
  expect(linesOf(told, 'aoe_link_')).toEqual(['aoe_link_up{interface="eth0"} 0']);
  for (const name of ['free', 'lag', 'measured']) {
    expect(linesOf(told, `aoe_store_${name}_`)).toEqual([]);
  }
});

it('lets requests be served while it tells of many targets', async () => {
  const targets = Array.from({ length: 1000 }, (_, index) => targetOf(`e1.${index}`, index));
  let [turnCount, isDone] = [0, false];
  setImmediate(function count() {
    turnCount++;
    if (!isDone) setImmediate(count);
  });
  for await (const _ of renderMetrics(statusOf(targets)));
  isDone = true;
  expect(turnCount).toBeGreaterThan(5);
});
