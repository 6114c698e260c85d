/**
 * The metrics, and where in the status each finds its values. `docs/CONTROL.md` tells what they
 * mean.
 */
import type { FrameCounters } from '../aoe/counters.ts';
import type { DeviceCounters } from '../core/counted-device.ts';
import type { Distribution } from '../core/histogram.ts';
import type { LinkCounters } from '../net/link.ts';
import type { LinkStatus, ServerStatus, TargetStatus } from '../status.ts';
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
  perLink('aoe_link_up', 'Whether the interface is served now', ({ mac }, labels) => [
    [labels, mac === null ? 0 : 1],
  ]),
  perLink('aoe_link_mtu_bytes', 'The MTU in use on the interface', ({ mtu }, labels) =>
    mtu === null ? [] : [[labels, mtu]],
  ),
  perTarget('aoe_target_size_bytes', 'The size of the target', (target, labels) => [
    [labels, target.sizeBytes],
  ]),
  perTarget(
    'aoe_target_failed',
    'Whether a flush failed and no write succeeds',
    (target, labels) => [[labels, Number(target.failed)]],
  ),
  perTarget('aoe_target_drained', 'Whether the target is kept silent', (target, labels) => [
    [labels, Number(target.drained)],
  ]),
  perTarget(
    'aoe_target_write_cache',
    'Whether writes are acknowledged before they are durable',
    (target, labels) => [[labels, Number(target.writeCache)]],
  ),
  perTarget(
    'aoe_target_requests_in_flight',
    'Requests to the target that are not answered yet',
    (target, labels) => [[labels, target.inFlight]],
  ),
  perTarget(
    'aoe_target_mask_entries',
    'Length of the MAC mask list; at 0 any initiator is answered',
    (target, labels) => [[labels, target.maskList.length]],
  ),
  perTarget(
    'aoe_target_reserve_entries',
    'Length of the reserve list; at 0 there is no reservation',
    (target, labels) => [[labels, target.reserveList.length]],
  ),
  perStore('aoe_store_damaged', 'Whether it is for reading only', (store, labels) => [
    [labels, Number(store.damaged)],
  ]),
  perStore('aoe_store_failed', 'Whether nothing can be written any more', (store, labels) => [
    [labels, Number(store.failed)],
  ]),
  perStore('aoe_store_volumes', 'Volumes in the store', (store, labels) => [
    [labels, store.volumes],
  ]),
  perStore('aoe_store_snapshots', 'Snapshots in the store', (store, labels) => [
    [labels, store.snapshots],
  ]),
  perStore('aoe_store_physical_bytes', 'Segment files, spares included', (store, labels) => [
    [labels, store.physicalBytes],
  ]),
  perStore('aoe_store_used_bytes', 'Records in segments', (store, labels) => [
    [labels, store.usedBytes],
  ]),
  perStore(
    'aoe_store_free_bytes',
    'Room in the filesystem for more segment files',
    ({ freeBytes }, labels) => (freeBytes === null ? [] : [[labels, freeBytes]]),
  ),
  perStore(
    'aoe_store_lag_bytes',
    'Log that is not in the blob store yet',
    ({ blobStore }, labels) => (blobStore === null ? [] : [[labels, blobStore.lagBytes]]),
  ),
  perStore(
    'aoe_store_lag_seconds',
    'How long the oldest of what is not in the blob store has waited',
    ({ blobStore }, labels) => (blobStore === null ? [] : [[labels, blobStore.lagSeconds]]),
  ),
  perStore('aoe_store_index_bytes', 'Memory of the dedup index', (store, labels) => [
    [labels, store.indexBytes],
  ]),
  perStore(
    'aoe_store_measured_bytes',
    'What the store held when it was last measured, by figure',
    ({ measured }, labels) =>
      measured === null ? [] : split(measured.figures, 'figure', FIGURES, labels),
  ),
  perStore(
    'aoe_store_measured_time_seconds',
    'When the store was last measured, since the epoch',
    ({ measured }, labels) => (measured === null ? [] : [[labels, Date.parse(measured.at) / 1000]]),
  ),
  perStore('aoe_store_jobs_running', 'Jobs that run, by kind', ({ jobs }, labels) =>
    JOB_KINDS.map((kind) => [
      { ...labels, kind },
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
  perLink('aoe_link_received_frames_total', 'Frames received', ({ counters }, labels) =>
    counters === null ? [] : [[labels, counters.received]],
  ),
  perLink('aoe_link_sent_frames_total', 'Frames sent', ({ counters }, labels) =>
    counters === null ? [] : [[labels, counters.sent]],
  ),
  perLink('aoe_link_lost_frames_total', 'Frames lost, by reason', ({ counters }, labels) =>
    counters === null ? [] : split(counters, 'reason', LOST, labels),
  ),
  perTarget('aoe_target_requests_total', 'Requests that succeeded', ({ counters }, labels) =>
    split(counters, 'operation', ENDED, labels),
  ),
  perTarget('aoe_target_bytes_total', 'Bytes that were read or written', ({ counters }, labels) =>
    split(counters, 'operation', MOVED, labels),
  ),
  perTarget(
    'aoe_target_failures_total',
    'Requests that failed because of the storage',
    ({ counters }, labels) => [[labels, counters.failures]],
  ),
  perTarget(
    'aoe_target_stale_writes_total',
    'Writes that were overtaken by newer ones and not executed',
    ({ counters }, labels) => [[labels, counters.stale]],
  ),
  perTarget(
    'aoe_target_reservation_conflicts_total',
    'Commands refused because another initiator holds the reservation',
    (target, labels) => [[labels, target.reservationConflicts]],
  ),
];

export const DISTRIBUTIONS: readonly DistributionMetric[] = [
  {
    ...perTarget<Distribution>(
      'aoe_target_latency_seconds',
      'From the arrival of a request until its response was sent',
      ({ latencyUs }, labels) =>
        Object.entries(latencyUs).map(([operation, latency]) => [
          { ...labels, operation },
          latency,
        ]),
    ),
    scale: 1e6,
    bits: [4, 24],
  },
  {
    ...perTarget<Distribution>(
      'aoe_target_group_size',
      'Writes and flushes that one flush answered',
      ({ groups }, labels) => [[labels, groups]],
    ),
    scale: 1,
    bits: [1, 8],
  },
];

function perTarget<Value = number>(
  name: string,
  help: string,
  samples: (target: TargetStatus, labels: Labels) => readonly Sample<Value>[],
): Metric<Value> {
  return {
    name,
    help,
    *samples({ targets }) {
      for (const one of targets) yield* samples(one, { target: one.name });
    },
  };
}

function perStore(
  name: string,
  help: string,
  samples: (store: StoreStatus, labels: Labels) => readonly Sample<number>[],
): Metric {
  return {
    name,
    help,
    *samples({ stores }) {
      for (const one of stores) yield* samples(one, { store: one.path });
    },
  };
}

function perLink(
  name: string,
  help: string,
  samples: (link: LinkStatus, labels: Labels) => readonly Sample<number>[],
): Metric {
  return {
    name,
    help,
    *samples({ links }) {
      for (const one of links) yield* samples(one, { interface: one.interface });
    },
  };
}

/** One sample for each value of `label`. */
function split<Counters extends { readonly [Name in keyof Counters]: number }>(
  counters: Counters,
  label: string,
  values: Split<Counters>,
  labels: Labels = {},
): Sample<number>[] {
  return Object.entries(values).map(([value, name]) => [
    { ...labels, [label]: value },
    counters[name],
  ]);
}
