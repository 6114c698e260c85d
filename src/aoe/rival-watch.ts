/**
 * Looks out for other servers that answer for our addresses. Initiators would take both for one
 * disk and stripe their requests over it, which destroys its data.
 *
 * A rival that is there first keeps the server from starting. One that comes later is reported
 * at each look: the disk of whoever is connected must not go away.
 */
import type { Logger } from 'pino';
import { StartupError } from '../core/startup-error.ts';
import { formatMacAddress, type MacAddress } from '../net/ethernet.ts';
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
  if (targets.size === 0) return;
  await Promise.all(
    interfaces.map(async (name) => {
      // An interface that cannot be used now is not served now either.
      const found = await findTargets(name).catch(() => []);
      const rival = found.find(({ address }) => targets.has(address));
      if (rival === undefined) return;
      throw new StartupError(
        `${targets.get(rival.address)} is already served on ${name}, by ${formatMacAddress(rival.mac)}`,
        'stop that server, or give the target another shelf or slot',
      );
    }),
  );
}

export class RivalWatch {
  /** Those that are served now: a change of them lets no look be left out. */
  targets: TargetNames = new Map();
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;

  /** @param intervalMs from one look to the next */
  constructor(interfaces: readonly string[], log: Logger, intervalMs = LOOK_INTERVAL_MS) {
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
      const { targets } = this;
      // An interface that is down right now is looked at again the next time.
      const found = await findTargets(name).catch(() => []);
      for (const { address, mac } of found) {
        const target = targets.get(address);
        // One that has come or gone meanwhile may have changed places with the other server's.
        if (target === undefined || !this.targets.has(address)) continue;
        if (!ours.has(formatMacAddress(mac))) this.#report(target, name, mac);
      }
    }
  }

  #report(target: string, name: string, mac: MacAddress): void {
    this.#log.error(
      { target, interface: name, mac: formatMacAddress(mac) },
      'another server answers for this target: initiators that use both DESTROY ITS DATA',
    );
  }
}

async function findTargets(name: string): Promise<FoundTarget[]> {
  await using initiator = Initiator.open({ interface: name });
  return await discoverTargets(initiator);
}
