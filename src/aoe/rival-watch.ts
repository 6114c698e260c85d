/**
 * Looks out for other servers that answer for our addresses. Initiators would take both for one
 * disk and stripe their requests over it, which destroys its data.
 *
 * A rival that is there first keeps the server from starting. One that comes later is reported
 * at each look: the disk of whoever is connected must not go away.
 */
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import { formatMacAddress } from '../net/ethernet.ts';
import { readInterfaceState } from '../net/interface-state.ts';
import { discoverTargets, type FoundTarget } from './initiator/discover.ts';
import { Initiator } from './initiator/initiator.ts';

/** The names of our targets by their addresses, shelf * 256 + slot. */
type TargetNames = ReadonlyMap<number, string>;

/** As often as Linux initiators look for targets. */
const LOOK_INTERVAL_MS = 60_000;

/**
 * Asks the segments of `interfaces` who else answers for `targets`.
 *
 * @throws {StartupError} somebody does
 */
export async function refuseRivals(
  targets: TargetNames,
  interfaces: readonly string[],
): Promise<void> {
  await Promise.all(
    interfaces.map(async (name) => {
      // An interface that cannot be used now is not served now either.
      const [rival] = await findRivals(targets, name).catch(() => []);
      if (rival === undefined) return;
      throw new StartupError(
        `${targets.get(rival.address)} is already served on ${name}, by ${formatMacAddress(rival.mac)}`,
        'stop that server, or give the target another shelf or slot',
      );
    }),
  );
}

export class RivalWatch {
  readonly #targets: TargetNames;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;

  /** @param intervalMs from one look to the next */
  constructor(
    targets: TargetNames,
    interfaces: readonly string[],
    log: Logger,
    intervalMs = LOOK_INTERVAL_MS,
  ) {
    this.#targets = targets;
    this.#log = log;
    this.#timer = setInterval(() => void this.#look(interfaces), intervalMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(interfaces: readonly string[]): Promise<void> {
    const ours = new Set(interfaces.map((name) => readInterfaceState(name)?.mac));
    for (const name of interfaces) {
      // An interface that is down right now is looked at again the next time.
      const rivals = await findRivals(this.#targets, name).catch(() => []);
      for (const rival of rivals) {
        if (!ours.has(formatMacAddress(rival.mac))) this.#report(name, rival);
      }
    }
  }

  #report(name: string, { address, mac }: FoundTarget): void {
    this.#log.error(
      { target: this.#targets.get(address), interface: name, mac: formatMacAddress(mac) },
      'another server answers for this target: initiators that use both DESTROY ITS DATA',
    );
  }
}

async function findRivals(targets: TargetNames, name: string): Promise<FoundTarget[]> {
  await using initiator = Initiator.open({ interface: name });
  const found = await discoverTargets(initiator);
  return found.filter(({ address }) => targets.has(address));
}
