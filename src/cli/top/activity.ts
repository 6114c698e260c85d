/**
 * What a server did between two moments: differences of the counters of two statuses, by time.
 *
 * Counters count from a start: of the server, of a target that was added, of an interface that
 * changed. Where one begins anew between the two moments, it is taken from 0; no rate is negative.
 */
import type { LinkStatus, ServerStatus, TargetStatus } from '../../status.ts';

/** A status, and when it was told. */
export interface Sample {
  readonly status: ServerStatus;
  /** By a clock that no one sets, from any start. */
  readonly tickMs: number;
  /** By the clock that the server has, too. */
  readonly at: Date;
}

/** Rates are by second; latencies are null when nothing was measured. */
export interface TargetActivity {
  readonly name: string;
  readonly failed: boolean;
  /** It is kept silent. */
  readonly drained: boolean;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly readP50Us: number | null;
  readonly readP99Us: number | null;
  readonly writeP50Us: number | null;
  readonly writeP99Us: number | null;
  readonly inFlight: number;
  /** Resends of writes that were overtaken; others look as new requests do. */
  readonly resends: number;
  readonly failures: number;
  /** Initiators answered lately. */
  readonly clients: number;
}

export interface LinkActivity {
  readonly interface: string;
  readonly up: boolean;
  readonly received: number;
  readonly sent: number;
  readonly lost: number;
}

/** An interval of a server, as `--json` prints it. */
export interface Activity {
  readonly at: string;
  readonly seconds: number;
  readonly version: string;
  readonly startedAt: string;
  /** It was started in the interval, which therefore is shorter. */
  readonly restarted: boolean;
  readonly inFlight: number;
  readonly inFlightMax: number;
  readonly requests: number;
  /** Frames dropped because the server was too busy; initiators send them again. */
  readonly overload: number;
  readonly tooOld: number;
  readonly interfaces: readonly LinkActivity[];
  readonly targets: readonly TargetActivity[];
  /** Names of targets that were not there before, and that are not there any more. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

type Counters<Name extends string> = { readonly [_ in Name]: number };

/** What is known of rates between two moments. */
export function measureActivity(before: Sample, after: Sample): Activity {
  const { status } = after;
  const restarted =
    status.startedAt !== before.status.startedAt || status.pid !== before.status.pid;
  const old = restarted ? undefined : before.status;
  const upMs = after.at.getTime() - Date.parse(status.startedAt);
  const seconds = Math.max(1, restarted ? upMs : after.tickMs - before.tickMs) / 1000;
  const frames = ratesOf(status.frames, old?.frames, seconds);
  const names = status.targets.map(({ name }) => name);
  const oldNames = before.status.targets.map(({ name }) => name);
  return {
    at: after.at.toISOString(),
    seconds,
    version: status.version,
    startedAt: status.startedAt,
    restarted,
    inFlight: status.inFlight,
    inFlightMax: status.inFlightMax,
    requests: frames.requests,
    overload: frames.overload,
    tooOld: frames.tooOld,
    interfaces: status.links.map((link) =>
      measureLink(
        link,
        old?.links.find((one) => one.interface === link.interface),
        seconds,
      ),
    ),
    targets: status.targets.map((target) =>
      measureTarget(
        target,
        old?.targets.find(({ name }) => name === target.name),
        seconds,
      ),
    ),
    added: names.filter((name) => !oldNames.includes(name)),
    removed: oldNames.filter((name) => !names.includes(name)),
  };
}

function measureTarget(
  target: TargetStatus,
  old: TargetStatus | undefined,
  seconds: number,
): TargetActivity {
  // A target that was removed and added again counts anew, its latencies too.
  const isNew = old === undefined || hasFallen(target.counters, old.counters);
  const same = isNew ? undefined : old;
  const rates = ratesOf(target.counters, same?.counters, seconds);
  const { read, write } = target.latencyUs;
  const reads = subtract(read.counts, same?.latencyUs.read.counts);
  const writes = subtract(write.counts, same?.latencyUs.write.counts);
  return {
    name: target.name,
    failed: target.failed,
    drained: target.drained,
    reads: rates.reads,
    writes: rates.writes,
    flushes: rates.flushes,
    readBytes: rates.readBytes,
    writtenBytes: rates.writtenBytes,
    readP50Us: estimateQuantile(reads, 0.5),
    readP99Us: estimateQuantile(reads, 0.99),
    writeP50Us: estimateQuantile(writes, 0.5),
    writeP99Us: estimateQuantile(writes, 0.99),
    inFlight: target.inFlight,
    resends: rates.stale,
    failures: rates.failures,
    clients: target.clients.length,
  };
}

function measureLink(link: LinkStatus, old: LinkStatus | undefined, seconds: number): LinkActivity {
  const { counters } = link;
  if (counters === null) {
    return { interface: link.interface, up: false, received: 0, sent: 0, lost: 0 };
  }
  const { received, sent, dropped, truncated, unsent } = ratesOf(counters, old?.counters, seconds);
  const lost = dropped + truncated + unsent;
  return { interface: link.interface, up: true, received, sent, lost };
}

/** Counters by second; from 0, when there are no older ones or they began anew since. */
function ratesOf<Name extends string>(
  counters: Counters<Name>,
  old: Counters<Name> | null | undefined,
  seconds: number,
): Counters<Name> {
  const from = old == null || hasFallen(counters, old) ? undefined : old;
  const names = Object.keys(counters) as Name[];
  const rates = names.map((name) => [name, (counters[name] - (from?.[name] ?? 0)) / seconds]);
  return Object.fromEntries(rates) as Counters<Name>;
}

function hasFallen<Name extends string>(counters: Counters<Name>, old: Counters<Name>): boolean {
  return (Object.keys(counters) as Name[]).some((name) => counters[name] < old[name]);
}

function subtract(counts: readonly number[], old: readonly number[] | undefined): number[] {
  return counts.map((count, index) => Math.max(0, count - (old?.[index] ?? 0)));
}

/**
 * The value that a share of all values does not exceed, as if they lay evenly in their power of
 * two; null when there are none.
 *
 * @param counts element i: how many are below 2^i and not below 2^(i-1)
 */
export function estimateQuantile(counts: readonly number[], share: number): number | null {
  const rank = share * counts.reduce((total, count) => total + count, 0);
  let below = 0;
  for (const [bits, count] of counts.entries()) {
    if (count > 0 && below + count >= rank) {
      const [low, high] = [bits === 0 ? 0 : 2 ** (bits - 1), 2 ** bits];
      return Math.round(low + ((high - low) * (rank - below)) / count);
    }
    below += count;
  }
  return null;
}
