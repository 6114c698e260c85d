/** Finds the targets on a segment. */
import { BROADCAST_MAC, type MacAddress } from '../../net/ethernet.ts';
import { ConfigCommand, type ConfigReply, decodeConfigReply } from '../codec/config-query.ts';
import {
  Aoe,
  AoeCommand,
  addressOf,
  aoeErrorOf,
  SHELF_WILDCARD,
  SLOT_WILDCARD,
} from '../codec/header.ts';
import type { Initiator } from './initiator.ts';
import { encodeConfig } from './request.ts';
import type { AoeResponse } from './response.ts';

/** One query, or a response to it, can be lost. */
const QUERY_COUNT = 2;
const QUERY_MS = 500;
const EVERY_TARGET = addressOf({ shelf: SHELF_WILDCARD, slot: SLOT_WILDCARD });

/** A target at one MAC address. One that is served on two ports is found twice. */
export interface FoundTarget {
  /** shelf * 256 + slot */
  readonly address: number;
  readonly mac: MacAddress;
  readonly config: ConfigReply;
  /** The shortest of the queries'. */
  readonly roundTripMs: number;
}

/** Asks all targets on the initiator's segment, for one second; sorted by address, then MAC. */
export async function discoverTargets(initiator: Initiator): Promise<FoundTarget[]> {
  const found = new Map<string, FoundTarget>();
  for (let query = 0; query < QUERY_COUNT; query++) {
    const route = initiator.route(BROADCAST_MAC, EVERY_TARGET);
    const responses = await initiator.collect(encodeConfig(route, ConfigCommand.read), QUERY_MS);
    for (const response of responses) note(found, response);
  }
  return [...found.values()].sort((a, b) => a.address - b.address || a.mac - b.mac);
}

function note(found: Map<string, FoundTarget>, response: AoeResponse): void {
  const config = configOf(response);
  if (config === undefined) return;
  const { address, source: mac } = response;
  const key = `${address} ${mac}`;
  const earlier = found.get(key)?.roundTripMs ?? Number.POSITIVE_INFINITY;
  const roundTripMs = Math.min(earlier, response.roundTripMs);
  found.set(key, { address, mac, config, roundTripMs });
}

/** Anything on the segment can answer a broadcast; what makes no sense is passed over. */
function configOf({ view, bytes }: AoeResponse): ConfigReply | undefined {
  if (view.getUint8(Aoe.command) !== AoeCommand.config || aoeErrorOf(view, 0) !== 0) {
    return undefined;
  }
  return decodeConfigReply(view, 0, bytes.length);
}
