/**
 * The AoE common header (AoEr11 §2), read and written in place in a whole Ethernet frame.
 *
 *     0        6        12       14       15      16           18      19     20        24
 *     | dst    | src    | 88 A2  | ver|fl | error | shelf (BE) | slot  | cmd  | tag     | argument
 *
 * All functions are pure: they touch `frame` from byte `at` on and keep no reference to it.
 * Offsets in {@link Aoe} count from the destination MAC.
 */
export const ETHERTYPE_AOE = 0x88a2;

/** Offsets of the header's fields, and its size, in bytes. */
export const Aoe = {
  destination: 0,
  source: 6,
  etherType: 12,
  versionFlags: 14,
  error: 15,
  shelf: 16,
  slot: 18,
  command: 19,
  tag: 20,
  headerSize: 24,
} as const;

/** Ethernet's least frame without FCS; shorter replies are padded with zeroes to this. */
export const FRAME_SIZE_MIN = 60;

export const AOE_VERSION = 1;
const VERSION_SHIFT = 4;
export const FLAG_RESPONSE = 0x08;
const FLAG_ERROR = 0x04;

/** A shelf or slot that every target answers to. */
export const SHELF_WILDCARD = 0xffff;
export const SLOT_WILDCARD = 0xff;

export const AoeCommand = { ata: 0, config: 1, macMask: 2, reserve: 3 } as const;

/** Values of the error field when the error flag is set (AoEr11 §2.4). */
export const AoeError = {
  badCommand: 1,
  badArgument: 2,
  deviceUnavailable: 3,
  configStringPresent: 4,
  unsupportedVersion: 5,
  targetReserved: 6,
} as const;
export type AoeError = (typeof AoeError)[keyof typeof AoeError];

const ETHERTYPE_AND_REPLY_FLAGS =
  ((ETHERTYPE_AOE << 16) | (AOE_VERSION << (VERSION_SHIFT + 8)) | (FLAG_RESPONSE << 8)) >>> 0;
const ETHERTYPE_AND_REQUEST_FLAGS =
  ((ETHERTYPE_AOE << 16) | (AOE_VERSION << (VERSION_SHIFT + 8))) >>> 0;

/** Reads the MAC address at byte `at` as a number below 2^48. */
export function readMac(frame: DataView, at: number): number {
  return frame.getUint16(at) * 0x1_0000_0000 + frame.getUint32(at + 2);
}

/** Writes the MAC address `mac`, a number below 2^48, at byte `at`. */
export function writeMac(frame: DataView, at: number, mac: number): void {
  frame.setUint16(at, mac / 0x1_0000_0000);
  frame.setUint32(at + 2, mac);
}

/** The version nibble, 0..15. It is reported, not judged. */
export function aoeVersion(frame: DataView, at: number): number {
  return frame.getUint8(at + Aoe.versionFlags) >> VERSION_SHIFT;
}

/** The error code of a response, or 0 when its error flag is clear. */
export function aoeErrorOf(frame: DataView, at: number): number {
  const failed = (frame.getUint8(at + Aoe.versionFlags) & FLAG_ERROR) !== 0;
  return failed ? frame.getUint8(at + Aoe.error) : 0;
}

/**
 * An address as one number: shelf * 256 + slot. Targets are looked up by it, and it sorts as
 * people expect.
 */
export function addressOf({ shelf, slot }: { shelf: number; slot: number }): number {
  return (shelf << 8) | slot;
}

/** The address that a frame is for, or from, as {@link addressOf} makes it. */
export function aoeAddress(frame: DataView, at: number): number {
  return (frame.getUint16(at + Aoe.shelf) << 8) | frame.getUint8(at + Aoe.slot);
}

/** Does `address` (shelf * 256 + slot) name `shelf` and `slot`, exactly or by a wildcard? */
export function addressMatches(address: number, shelf: number, slot: number): boolean {
  const wantShelf = address >>> 8;
  const wantSlot = address & 0xff;
  return (
    (wantShelf === shelf || wantShelf === SHELF_WILDCARD) &&
    (wantSlot === slot || wantSlot === SLOT_WILDCARD)
  );
}

export function isWildcard(address: number): boolean {
  return address >>> 8 === SHELF_WILDCARD || (address & 0xff) === SLOT_WILDCARD;
}

/**
 * Writes the header of a response to the request at `request[requestAt]`: destination, command
 * and tag are the request's, everything else is ours. The error flag and field are clear.
 */
export function writeResponseHeader(
  response: DataView,
  at: number,
  request: DataView,
  requestAt: number,
  source: number,
  address: number,
): void {
  const from = requestAt + Aoe.source;
  response.setUint32(at + Aoe.destination, request.getUint32(from));
  response.setUint16(at + Aoe.destination + 4, request.getUint16(from + 4));
  writeMac(response, at + Aoe.source, source);
  response.setUint32(at + Aoe.etherType, ETHERTYPE_AND_REPLY_FLAGS);
  response.setUint16(at + Aoe.shelf, address >>> 8);
  response.setUint8(at + Aoe.slot, address);
  response.setUint8(at + Aoe.command, request.getUint8(requestAt + Aoe.command));
  response.setUint32(at + Aoe.tag, request.getUint32(requestAt + Aoe.tag));
}

/** Turns a response into an error response with code `error`. */
export function setAoeError(response: DataView, at: number, error: AoeError): void {
  const flags = response.getUint8(at + Aoe.versionFlags);
  response.setUint8(at + Aoe.versionFlags, flags | FLAG_ERROR);
  response.setUint8(at + Aoe.error, error);
}

/** What {@link writeUnsolicitedHeader} and {@link writeRequestHeader} put in a header. */
export interface HeaderFields {
  readonly destination: number;
  readonly source: number;
  /** shelf * 256 + slot */
  readonly address: number;
  readonly command: number;
  readonly tag: number;
}

/** Writes the header of a response that nobody asked for: an announcement. */
export function writeUnsolicitedHeader(frame: DataView, at: number, fields: HeaderFields): void {
  writeHeader(frame, at, ETHERTYPE_AND_REPLY_FLAGS, fields);
}

/** Writes the header of an initiator's request. */
export function writeRequestHeader(frame: DataView, at: number, fields: HeaderFields): void {
  writeHeader(frame, at, ETHERTYPE_AND_REQUEST_FLAGS, fields);
}

function writeHeader(
  frame: DataView,
  at: number,
  typeAndFlags: number,
  fields: HeaderFields,
): void {
  writeMac(frame, at + Aoe.destination, fields.destination);
  writeMac(frame, at + Aoe.source, fields.source);
  frame.setUint32(at + Aoe.etherType, typeAndFlags);
  frame.setUint16(at + Aoe.shelf, fields.address >>> 8);
  frame.setUint8(at + Aoe.slot, fields.address);
  frame.setUint8(at + Aoe.command, fields.command);
  frame.setUint32(at + Aoe.tag, fields.tag);
}
