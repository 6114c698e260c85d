/**
 * The metrics, and where in the status each finds its values. `docs/CONTROL.md` tells what they
 * mean.
 */
import type { FrameCounters } from '../aoe/counters.ts';
import type { DeviceCounters } from '../core/counted-device.ts';
import type { Distribution } from '../core/histogram.ts';
import type { LinkCounters } from '../net/link.ts';
import type { ServerStatus } from '../status.ts';
import { JOB_KINDS, type StoreStatus } from '../stores/contract.ts';

export type Labels = Readonly<Record<string, string>>;
export type Sample<Value> = readonly [labels: Labels, value: Value];

export interface Metric<Value = number> {
  readonly name: string;
  readonly help: string;
  samples(status: ServerStatus): Iterable<Sample<Value>>;
}

/** How values of the status are distributed, which must be divided by `scale`. */
export interface DistributionMetric extends Metric<Distribution> {
  readonly scale: number;
  /** The bounds of buckets are the powers of two from this one to that, before the division. */
  readonly bits: readonly [least: number, most: number];
}

/** A value, or several with labels of their own; nothing where there is none. */
type Measured<Value> = Value | readonly Sample<Value>[] | null | undefined;

/** The values of one label, and the counter behind each. */
type Split<Counters> = Readonly<Record<string, keyof Counters>>;

const UNANSWERED: Split<FrameCounters> = {
  malformed: 'malformed',
  bad_source: 'badSource',
  not_ours: 'notOurs',
  denied: 'denied',
  too_old: 'tooOld',
  overload: 'overload',
};
const LOST: Split<LinkCounters> = {
  ring_full: 'dropped',
  too_long: 'truncated',
  unsent: 'unsent',
};
const ENDED: Split<DeviceCounters> = {
  read: 'reads',
  write: 'writes',
  flush: 'flushes',
  trim: 'trims',
};
const FIGURES: Split<NonNullable<StoreStatus['measured']>['figures']> = {
  logical: 'logicalBytes',
  unique: 'uniqueBytes',
  compressed: 'compressedBytes',
  live: 'liveBytes',
  garbage: 'garbageBytes',
};
const MOVED: Split<DeviceCounters> = { read: 'readBytes', write: 'writtenBytes' };

const perTarget = perEach(
  'target',
  ({ targets }) => targets,
  ({ name }) => name,
);
const perStore = perEach(
  'store',
  ({ stores }) => stores,
  ({ path }) => path,
);
const perLink = perEach(
  'interface',
  ({ links }) => links,
  (link) => link.interface,
);

/** Values that go up and down. */
export const GAUGES: readonly Metric[] = [
  {
    name: 'aoe_info',
    help: 'Always 1; the label is the version of the server',
    samples: ({ version }) => [[{ version }, 1]],
  },
  {
    name: 'aoe_start_time_seconds',
    help: 'When the server was started, since the epoch',
    samples: ({ startedAt }) => [[{}, Date.parse(startedAt) / 1000]],
  },
  {
    name: 'aoe_requests_in_flight',
    help: 'Requests that are not answered yet',
    samples: ({ inFlight }) => [[{}, inFlight]],
  },
  {
    name: 'aoe_requests_in_flight_max',
    help: 'The most requests that can be in flight; frames beyond them are dropped',
    samples: ({ inFlightMax }) => [[{}, inFlightMax]],
  },
  perLink('aoe_link_up', 'Whether the interface is served now', ({ mac }) => Number(mac !== null)),
  perLink('aoe_link_mtu_bytes', 'The MTU in use on the interface', ({ mtu }) => mtu),
  perTarget('aoe_target_size_bytes', 'The size of the target', ({ sizeBytes }) => sizeBytes),
  perTarget('aoe_target_failed', 'Whether a flush failed and no write succeeds', ({ failed }) =>
    Number(failed),
  ),
  perTarget('aoe_target_drained', 'Whether the target is kept silent', ({ drained }) =>
    Number(drained),
  ),
  perTarget(
    'aoe_target_write_cache',
    'Whether writes are acknowledged before they are durable',
    ({ writeCache }) => Number(writeCache),
  ),
  perTarget(
    'aoe_target_requests_in_flight',
    'Requests to the target that are not answered yet',
    ({ inFlight }) => inFlight,
  ),
  perTarget(
    'aoe_target_mask_entries',
    'Length of the MAC mask list; at 0 any initiator is answered',
    ({ maskList }) => maskList.length,
  ),
  perTarget(
    'aoe_target_reserve_entries',
    'Length of the reserve list; at 0 there is no reservation',
    ({ reserveList }) => reserveList.length,
  ),
  perStore('aoe_store_damaged', 'Whether it is for reading only', ({ damaged }) => Number(damaged)),
  perStore('aoe_store_failed', 'Whether nothing can be written any more', ({ failed }) =>
    Number(failed),
  ),
  perStore('aoe_store_volumes', 'Volumes in the store', ({ volumes }) => volumes),
  perStore('aoe_store_snapshots', 'Snapshots in the store', ({ snapshots }) => snapshots),
  perStore(
    'aoe_store_physical_bytes',
    'Segment files, spares included',
    ({ physicalBytes }) => physicalBytes,
  ),
  perStore('aoe_store_used_bytes', 'Records in segments', ({ usedBytes }) => usedBytes),
  perStore(
    'aoe_store_free_bytes',
    'Room in the filesystem for more segment files',
    ({ freeBytes }) => freeBytes,
  ),
  perStore(
    'aoe_store_lag_bytes',
    'Log that is not in the blob store yet',
    ({ blobStore }) => blobStore?.lagBytes,
  ),
  perStore(
    'aoe_store_lag_seconds',
    'How long the oldest of what is not in the blob store has waited',
    ({ blobStore }) => blobStore?.lagSeconds,
  ),
  perStore('aoe_store_index_bytes', 'Memory of the dedup index', ({ indexBytes }) => indexBytes),
  perStore(
    'aoe_store_measured_bytes',
    'What the store held when it was last measured, by figure',
    ({ measured }) => measured && split(measured.figures, 'figure', FIGURES),
  ),
  perStore(
    'aoe_store_measured_time_seconds',
    'When the store was last measured, since the epoch',
    ({ measured }) => measured && Date.parse(measured.at) / 1000,
  ),
  perStore('aoe_store_jobs_running', 'Jobs that run, by kind', ({ jobs }) =>
    JOB_KINDS.map((kind) => [
      { kind },
      jobs.filter((job) => job.kind === kind && job.state === 'running').length,
    ]),
  ),
];

/** Values that only go up, until something starts anew. */
export const COUNTERS: readonly Metric[] = [
  {
    name: 'aoe_frames_taken_up_total',
    help: 'Requests that were taken up, whatever became of them',
    samples: ({ frames }) => [[{}, frames.requests]],
  },
  {
    name: 'aoe_frames_unanswered_total',
    help: 'Frames that were not taken up, by reason',
    samples: ({ frames }) => split(frames, 'reason', UNANSWERED),
  },
  perLink(
    'aoe_link_received_frames_total',
    'Frames received',
    ({ counters }) => counters?.received,
  ),
  perLink('aoe_link_sent_frames_total', 'Frames sent', ({ counters }) => counters?.sent),
  perLink(
    'aoe_link_lost_frames_total',
    'Frames lost, by reason',
    ({ counters }) => counters && split(counters, 'reason', LOST),
  ),
  perTarget('aoe_target_requests_total', 'Requests that succeeded', ({ counters }) =>
    split(counters, 'operation', ENDED),
  ),
  perTarget('aoe_target_bytes_total', 'Bytes that were read or written', ({ counters }) =>
    split(counters, 'operation', MOVED),
  ),
  perTarget(
    'aoe_target_failures_total',
    'Requests that failed because of the storage',
    ({ counters }) => counters.failures,
  ),
  perTarget(
    'aoe_target_stale_writes_total',
    'Writes that were overtaken by newer ones and not executed',
    ({ counters }) => counters.stale,
  ),
  perTarget(
    'aoe_target_reservation_conflicts_total',
    'Commands refused because another initiator holds the reservation',
    ({ reservationConflicts }) => reservationConflicts,
  ),
];

export const DISTRIBUTIONS: readonly DistributionMetric[] = [
  {
    ...perTarget(
      'aoe_target_latency_seconds',
      'From the arrival of a request until its response was sent',
      ({ latencyUs }) =>
        Object.entries(latencyUs).map(([operation, latency]) => [{ operation }, latency]),
    ),
    scale: 1e6,
    bits: [4, 24],
  },
  {
    ...perTarget(
      'aoe_target_group_size',
      'Writes and flushes that one flush answered',
      ({ groups }) => groups,
    ),
    scale: 1,
    bits: [1, 8],
  },
];

/** @returns what makes metrics of which each of `all` has samples, with its name as `label` */
function perEach<One>(
  label: string,
  all: (status: ServerStatus) => readonly One[],
  nameOf: (one: One) => string,
) {
  return <Value = number>(
    name: string,
    help: string,
    measure: (one: One) => Measured<Value>,
  ): Metric<Value> => ({
    name,
    help,
    *samples(status) {
      for (const one of all(status)) {
        const own = { [label]: nameOf(one) };
        for (const [labels, value] of samplesOf(measure(one))) yield [{ ...own, ...labels }, value];
      }
    },
  });
}

function samplesOf<Value>(measured: Measured<Value>): readonly Sample<Value>[] {
  if (measured === null || measured === undefined) return [];
  return Array.isArray(measured) ? measured : [[{}, measured as Value]];
}

/** One sample for each value of `label`. */
function split<Counters extends { readonly [Name in keyof Counters]: number }>(
  counters: Counters,
  label: string,
  values: Split<Counters>,
): Sample<number>[] {
  return Object.entries(values).map(([value, name]) => [{ [label]: value }, counters[name]]);
}
