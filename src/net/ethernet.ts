/** Ethernet addresses (IEEE 802.3): numbers in the program, text towards people. */

/**
 * A MAC address as a number below 2^48: the six octets in the order they are sent, the first one
 * most significant. Exact in a double, so addresses are compared and hashed without allocation.
 */
export type MacAddress = number;

/** Both addresses and the type. */
export const ETHERNET_HEADER_BYTES = 6 + 6 + 2;

export const BROADCAST_MAC: MacAddress = 0xffff_ffff_ffff;

const MAC_TEXT = /^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/i;
const GROUP_BIT_WEIGHT = 2 ** 40;

/** Reads `02:00:00:00:00:0a` or `02-00-00-00-00-0A`; undefined for anything else. */
export function parseMacAddress(text: string): MacAddress | undefined {
  return MAC_TEXT.test(text) ? Number.parseInt(text.replace(/[:-]/g, ''), 16) : undefined;
}

/** Writes the lower-case form with colons. */
export function formatMacAddress(mac: MacAddress): string {
  const octets = mac.toString(16).padStart(12, '0').match(/../g) as string[];
  return octets.join(':');
}

/** Tells whether one station can have this address: neither a group's nor all zeroes. */
export function isUnicastMac(mac: MacAddress): boolean {
  return mac !== 0 && Math.floor(mac / GROUP_BIT_WEIGHT) % 2 === 0;
}
