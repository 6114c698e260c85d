/**
 * AoE frames as these tests write and expect them: byte by byte, without the program's codec, so
 * that an error in it shows.
 */

import { expect } from 'vitest';

export const INITIATOR_MAC = '02:00:00:00:00:01';
export const TARGET_MAC = '02:00:00:00:00:02';
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';
export const SECTOR_SIZE = 512;
const FRAME_SIZE_MIN = 60;

/** Fields of the common header; all have defaults that make a plain request to e1.0. */
export interface HeaderFields {
  destination?: string;
  source?: string;
  /** Version nibble, flags. */
  versionFlags?: number;
  error?: number;
  shelf?: number;
  slot?: number;
  command?: number;
  tag?: number;
}

export interface AtaFields extends HeaderFields {
  opcode: number;
  lba?: number;
  sectorCount?: number;
  aflags?: number;
  feature?: number;
  data?: Uint8Array;
}

export interface ConfigFields extends HeaderFields {
  ccmd?: number;
  /** Version nibble of the argument. */
  version?: number;
  text?: string | Uint8Array;
  /** The length field, where it shall differ from the text's. */
  length?: number;
}

/** A request with `argument` after the common header, not padded. */
export function aoeRequest(fields: HeaderFields, argument: Uint8Array | number[] = []): Buffer {
  const header = Buffer.alloc(24);
  header.write(hexOfMac(fields.destination ?? TARGET_MAC), 0, 'hex');
  header.write(hexOfMac(fields.source ?? INITIATOR_MAC), 6, 'hex');
  header.writeUInt16BE(0x88a2, 12);
  header.writeUInt8(fields.versionFlags ?? 0x10, 14);
  header.writeUInt8(fields.error ?? 0, 15);
  header.writeUInt16BE(fields.shelf ?? 1, 16);
  header.writeUInt8(fields.slot ?? 0, 18);
  header.writeUInt8(fields.command ?? 0, 19);
  header.writeUInt32BE(fields.tag ?? 0x0102_0304, 20);
  return Buffer.concat([header, Buffer.from(argument)]);
}

export function ataRequest(fields: AtaFields): Buffer {
  const argument = Buffer.alloc(12);
  argument.writeUInt8(fields.aflags ?? 0, 0);
  argument.writeUInt8(fields.feature ?? 0, 1);
  argument.writeUInt8(fields.sectorCount ?? 0, 2);
  argument.writeUInt8(fields.opcode, 3);
  argument.writeUIntLE(fields.lba ?? 0, 4, 6);
  return aoeRequest(fields, Buffer.concat([argument, fields.data ?? Buffer.alloc(0)]));
}

export function configRequest(fields: ConfigFields = {}): Buffer {
  const text = Buffer.from(fields.text ?? '');
  const argument = Buffer.alloc(8);
  argument.writeUInt8(((fields.version ?? 1) << 4) | (fields.ccmd ?? 0), 5);
  argument.writeUInt16BE(fields.length ?? text.length, 6);
  return aoeRequest({ command: 1, ...fields }, Buffer.concat([argument, text]));
}

/** A directive of a MAC mask edit. */
export type Directive = readonly [dcmd: number, mac: string];

export function maskRequest(
  mcmd: number,
  directives: readonly Directive[] = [],
  fields: HeaderFields & { count?: number } = {},
): Buffer {
  const rows = directives.map(([dcmd, mac]) =>
    Buffer.from(`00${hex(dcmd)}${hexOfMac(mac)}`, 'hex'),
  );
  const argument = Buffer.from([0, mcmd, 0, fields.count ?? directives.length]);
  return aoeRequest({ command: 2, ...fields }, Buffer.concat([argument, ...rows]));
}

export function reserveRequest(
  rcmd: number,
  macs: readonly string[] = [],
  fields: HeaderFields & { count?: number } = {},
): Buffer {
  const argument = Buffer.from([rcmd, fields.count ?? macs.length]);
  const rows = macs.map((mac) => Buffer.from(hexOfMac(mac), 'hex'));
  return aoeRequest({ command: 3, ...fields }, Buffer.concat([argument, ...rows]));
}

/** What a reply's header says that does not follow from the request. */
export interface ReplyFields {
  shelf?: number;
  slot?: number;
  /** Error code; sets the error flag, too. */
  aoeError?: number;
  source?: string;
}

/** The whole reply to `request`, with `argument` after the header, and zeroes up to 60 bytes. */
export function aoeReply(
  request: Buffer,
  argument: Uint8Array | number[] = [],
  fields: ReplyFields = {},
): Buffer {
  const header = Buffer.from(request.subarray(0, 24));
  request.copy(header, 0, 6, 12);
  header.write(hexOfMac(fields.source ?? TARGET_MAC), 6, 'hex');
  header[14] = fields.aoeError === undefined ? 0x18 : 0x1c;
  header[15] = fields.aoeError ?? 0;
  if (fields.shelf !== undefined) header.writeUInt16BE(fields.shelf, 16);
  if (fields.slot !== undefined) header.writeUInt8(fields.slot, 18);
  return padded(Buffer.concat([header, Buffer.from(argument)]));
}

export interface AtaReplyFields extends ReplyFields {
  status?: number;
  error?: number;
  sectorCount?: number;
  data?: Uint8Array;
}

export function ataReply(request: Buffer, fields: AtaReplyFields = {}): Buffer {
  const argument = Buffer.alloc(12);
  argument[1] = fields.error ?? 0;
  argument[2] = fields.sectorCount ?? 0;
  argument[3] = fields.status ?? 0x40;
  return aoeReply(request, Buffer.concat([argument, fields.data ?? Buffer.alloc(0)]), fields);
}

export interface ConfigReplyFields extends ReplyFields {
  ccmd?: number;
  text?: string | Uint8Array;
  sectorCount?: number;
}

/** What the server announces: 64 buffers, firmware 1, two sectors at an MTU of 1500. */
export function configReply(request: Buffer, fields: ConfigReplyFields = {}): Buffer {
  const text = Buffer.from(fields.text ?? '');
  const argument = Buffer.from([0, 64, 0, 1, fields.sectorCount ?? 2, 0x10, 0, 0]);
  argument[5] = 0x10 | (fields.ccmd ?? 0);
  argument.writeUInt16BE(text.length, 6);
  return aoeReply(request, Buffer.concat([argument, text]), fields);
}

/** A reply with the MAC mask list, or with the error and the index of a directive. */
export function maskReply(
  request: Buffer,
  mcmd: number,
  macs: readonly string[],
  failure?: { error: number; index: number },
): Buffer {
  const argument = Buffer.from([0, mcmd, failure?.error ?? 0, failure?.index ?? macs.length]);
  const rows = macs.map((mac) => Buffer.from(`0000${hexOfMac(mac)}`, 'hex'));
  return aoeReply(request, Buffer.concat([argument, ...rows]));
}

export function reserveReply(
  request: Buffer,
  rcmd: number,
  macs: readonly string[],
  fields: ReplyFields = {},
): Buffer {
  const rows = macs.map((mac) => Buffer.from(hexOfMac(mac), 'hex'));
  return aoeReply(request, Buffer.concat([Buffer.from([rcmd, macs.length]), ...rows]), fields);
}

/** `frame` with zeroes up to Ethernet's least size. */
export function padded(frame: Buffer): Buffer {
  return Buffer.concat([frame, Buffer.alloc(Math.max(0, FRAME_SIZE_MIN - frame.length))]);
}

/** Sectors filled with bytes that tell them apart. */
export function sectors(count: number, seed: number): Buffer {
  const data = Buffer.alloc(count * SECTOR_SIZE);
  for (let at = 0; at < data.length; at++) data[at] = (at + (at >> 8) * 7 + seed * 31) & 0xff;
  return data;
}

export function statusOf(reply: Buffer): number {
  return reply.readUInt8(27);
}

export function dataOf(reply: Buffer): Buffer {
  return reply.subarray(36);
}

function hexOfMac(mac: string): string {
  return mac.replaceAll(':', '');
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

/** Compares frames so that a difference is readable: as rows of hexadecimal bytes. */
export function expectFrames(actual: readonly Buffer[], expected: readonly Buffer[]): void {
  expect(actual.map(rows)).toEqual(expected.map(rows));
}

function rows(frame: Buffer): string {
  return (frame.toString('hex').match(/.{1,32}/g) ?? []).join('\n');
}
