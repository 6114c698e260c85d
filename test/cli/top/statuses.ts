/** Statuses as a server tells them, for what is made of them. */
import type { Sample } from '../../../src/cli/top/activity.ts';
import { Histogram } from '../../../src/core/histogram.ts';
import type { LinkStatus, ServerStatus, TargetStatus } from '../../../src/status.ts';

export const STARTED = Date.parse('2026-01-01T00:00:00Z');
const FRAMES = { malformed: 0, badSource: 0, notOurs: 0, denied: 0 };
const LOSSES = { dropped: 0, truncated: 0, unsent: 0 };

/** What has happened at a target since it is there. */
export interface Past {
  reads?: number;
  writes?: number;
  stale?: number;
  failures?: number;
  inFlight?: number;
  /** Latencies of all its reads, in microseconds. */
  readUs?: readonly number[];
  writeUs?: readonly number[];
}

function distribution(values: readonly number[] = []) {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram.distribution();
}

/** A target whose requests have 4096 bytes each. */
export function target(name: string, past: Past = {}): TargetStatus {
  const { reads = 0, writes = 0, stale = 0, failures = 0, inFlight = 0 } = past;
  const [shelf = 0, slot = 0] = name.slice(1).split('.').map(Number);
  const bytes = { readBytes: reads * 4096, writtenBytes: writes * 4096 };
  return {
    ...{ name, shelf, slot, sizeBytes: 1 << 20, backend: 'memory', readOnly: false, inFlight },
    ...{ writeCache: false, failed: false, drained: false, lastAccess: null, configString: '' },
    ...{ allow: [], maskList: [], reserveList: [], reservationConflicts: 0 },
    counters: { reads, writes, flushes: 0, trims: 0, ...bytes, failures, stale },
    latencyUs: {
      ...{ read: distribution(past.readUs), write: distribution(past.writeUs) },
      ...{ flush: distribution(), trim: distribution() },
    },
    groups: distribution(),
    clients: [],
  };
}

export function link(received: number, sent: number, losses: object = {}): LinkStatus {
  const counters = { received, sent, ...LOSSES, ...losses };
  return { interface: 'eth0', mac: '02:00:00:00:00:01', mtu: 1500, counters };
}

/**
 * What a server says a time after it was started.
 *
 * @param fields of the status, and `requests`, `overload`, `tooOld` of its frames
 */
export function sample(
  upSeconds: number,
  targets: readonly TargetStatus[],
  fields: Partial<ServerStatus> & { requests?: number; overload?: number; tooOld?: number } = {},
): Sample {
  const { requests = 0, overload = 0, tooOld = 0, ...others } = fields;
  const startedAt = others.startedAt ?? new Date(STARTED).toISOString();
  return {
    tickMs: Date.parse(startedAt) + upSeconds * 1000,
    at: new Date(Date.parse(startedAt) + upSeconds * 1000),
    status: {
      ...{ version: '1.2.3', pid: 7, startedAt, workers: 1, logLevel: 'info', stores: [] },
      ...{ configPath: '/etc/aoe-server.toml', inFlight: 0, inFlightMax: 1024, links: [] },
      frames: { ...FRAMES, requests, overload, tooOld },
      targets: [...targets],
      ...others,
    },
  };
}
