/**
 * What the server tells about itself: plain data, the same in every thread, as JSON on the control
 * socket and in the program's output. Counters count from the start of the server.
 */
import type { FrameCounters } from './aoe/counters.ts';
import type { DeviceCounters } from './core/counted-device.ts';
import type { LinkCounters } from './net/link.ts';

export interface TargetStatus {
  /** `e<shelf>.<slot>` */
  readonly name: string;
  readonly shelf: number;
  readonly slot: number;
  readonly sizeBytes: number;
  /** The kind of storage: file, device, memory, cas. */
  readonly backend: string;
  readonly readOnly: boolean;
  /** Are writes acknowledged before they are durable? */
  readonly writeCache: boolean;
  /** A flush failed: no write succeeds until the server is restarted. */
  readonly failed: boolean;
  /** Requests that are not answered yet. */
  readonly inFlight: number;
  /** Not UTF-8 is shown as U+FFFD. */
  readonly configString: string;
  /** MAC addresses of the initiators that are answered, by configuration; empty for any. */
  readonly allow: readonly string[];
  /** The same by MAC mask list, which initiators set; empty for any. */
  readonly maskList: readonly string[];
  /** MAC addresses of the initiators that hold the reservation; empty for none. */
  readonly reserveList: readonly string[];
  /** ATA commands refused because another initiator holds the reservation. */
  readonly reservationConflicts: number;
  /** Writes that the last flush made durable. */
  readonly lastGroupCount: number;
  readonly counters: Readonly<DeviceCounters>;
}

/** An interface that is served, or would be if it were up. */
export interface LinkStatus {
  readonly interface: string;
  /** Null, as the rest, when the interface cannot be used now. */
  readonly mac: string | null;
  /** Bytes. */
  readonly mtu: number | null;
  /** Since the link was opened: anew after each change of the interface. */
  readonly counters: LinkCounters | null;
}

/** The status of one data path. */
export interface PartStatus {
  /** Requests that are not answered yet. */
  readonly inFlight: number;
  /** The most requests that can be in flight. */
  readonly inFlightMax: number;
  readonly frames: Readonly<FrameCounters>;
  readonly links: readonly LinkStatus[];
  readonly targets: readonly TargetStatus[];
}

/** The status of the whole server: its data paths together. */
export interface ServerStatus extends PartStatus {
  readonly version: string;
  readonly pid: number;
  /** ISO 8601. */
  readonly startedAt: string;
  /** Threads that serve. */
  readonly workers: number;
  readonly logLevel: string;
}

/** Puts the status of data paths together that serve different targets on the same interfaces. */
export function mergeStatus(parts: readonly PartStatus[]): PartStatus {
  const [first, ...others] = parts;
  if (first === undefined) throw new Error('there is no data path');
  return others.reduce(mergeTwo, first);
}

function mergeTwo(a: PartStatus, b: PartStatus): PartStatus {
  return {
    inFlight: a.inFlight + b.inFlight,
    inFlightMax: a.inFlightMax + b.inFlightMax,
    frames: addCounters(a.frames, b.frames),
    links: a.links.map((link, index) => mergeLinks(link, b.links[index])),
    targets: [...a.targets, ...b.targets].sort((x, y) => x.shelf - y.shelf || x.slot - y.slot),
  };
}

/** A link counts as open when it is open in any thread. */
function mergeLinks(a: LinkStatus, b: LinkStatus | undefined): LinkStatus {
  if (b === undefined || b.counters === null) return a;
  if (a.counters === null) return b;
  return { ...a, counters: addCounters(a.counters, b.counters) };
}

function addCounters<T extends { readonly [K in keyof T]: number }>(a: T, b: T): T {
  const names = Object.keys(a) as (keyof T)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + b[name]])) as T;
}
