/** Which frames the kernel passes to a server, and to an initiator. */
import { Ancillary, PacketFilter, PacketType } from '../net/packet-filter.ts';
import {
  Aoe,
  ETHERTYPE_AOE,
  FLAG_RESPONSE,
  SHELF_WILDCARD,
  SLOT_WILDCARD,
} from './codec/header.ts';
import type { Share } from './share.ts';

/** Requests for the targets of a share, and for wildcard addresses. */
export function requestFilter({ index, count }: Share): Uint32Array {
  const filter = aoeFilter().loadByte(Aoe.versionFlags).and(FLAG_RESPONSE).require(0);
  if (count === 1) return filter.build();
  return filter
    .loadHalf(Aoe.shelf)
    .acceptIf(SHELF_WILDCARD)
    .keep()
    .loadByte(Aoe.slot)
    .acceptIf(SLOT_WILDCARD)
    .addKept()
    .modulo(count)
    .require(index)
    .build();
}

export function responseFilter(): Uint32Array {
  return aoeFilter().loadByte(Aoe.versionFlags).and(FLAG_RESPONSE).require(FLAG_RESPONSE).build();
}

/**
 * AoE frames that are addressed to us or to everybody. Others appear on promiscuous and bridged
 * interfaces; what comes in a VLAN, broadcasts too, the kernel takes for another host's, and
 * removes its tag. Broadcasts are told by their address: on the loopback interface, which has no
 * broadcast address, they pass for multicasts.
 */
function aoeFilter(): PacketFilter {
  return new PacketFilter()
    .loadHalf(Aoe.etherType)
    .require(ETHERTYPE_AOE)
    .loadWord(Ancillary.packetType)
    .unless(PacketType.host, (filter) =>
      filter
        .refuse(PacketType.otherHost)
        .loadWord(Aoe.destination)
        .require(0xffff_ffff)
        .loadHalf(Aoe.destination + 4)
        .require(0xffff),
    );
}
