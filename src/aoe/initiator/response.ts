/** Responses as an initiator reads them. Offsets count from the destination MAC. */
import type { MacAddress } from '../../net/ethernet.ts';
import { Ata } from '../codec/ata.ts';
import { type ConfigReply, decodeConfigReply } from '../codec/config-query.ts';
import { Aoe, aoeAddress, aoeErrorOf, readMac } from '../codec/header.ts';
import { decodeMacMaskReply, type MacMaskReply } from '../codec/mac-mask.ts';
import { readReserveList } from '../codec/reserve-release.ts';
import { AtaCommandError, MalformedResponseError, RefusedError } from './errors.ts';

/** Status bits of a failed command: error, data request, device fault, busy. */
const STATUS_FAILED = 0x01 | 0x08 | 0x20 | 0x80;

/** A response: a copy of the whole frame, at least an AoE header long, with its padding. */
export class AoeResponse {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** From the last send of this tag to here; 0 for a frame that nobody asked for. */
  readonly roundTripMs: number;

  constructor(bytes: Uint8Array<ArrayBuffer>, roundTripMs: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.roundTripMs = roundTripMs;
  }

  get source(): MacAddress {
    return readMac(this.view, Aoe.source);
  }

  /** shelf * 256 + slot */
  get address(): number {
    return aoeAddress(this.view, 0);
  }
}

/** @throws {RefusedError} the error flag is set */
export function assertAccepted(response: AoeResponse): void {
  if (aoeErrorOf(response.view, 0) !== 0) throw new RefusedError(response);
}

/**
 * Reads the data of a successful ATA command.
 *
 * @param dataBytes how much the command must bring
 * @throws {AtaCommandError} the status says that it failed
 * @throws {MalformedResponseError} there is less data
 */
export function decodeAtaData(response: AoeResponse, dataBytes: number): Uint8Array<ArrayBuffer> {
  assertSize(response, Ata.headerSize);
  if ((response.view.getUint8(Ata.commandStatus) & STATUS_FAILED) !== 0) {
    throw new AtaCommandError(response);
  }
  assertSize(response, Ata.headerSize + dataBytes);
  return response.bytes.subarray(Ata.headerSize, Ata.headerSize + dataBytes);
}

/** @throws {MalformedResponseError} the frame is cut short */
export function decodeConfig({ view, bytes }: AoeResponse): ConfigReply {
  return requireWhole(decodeConfigReply(view, 0, bytes.length));
}

/** @throws {MalformedResponseError} the frame is cut short */
export function decodeMacMask({ view, bytes }: AoeResponse): MacMaskReply {
  return requireWhole(decodeMacMaskReply(view, 0, bytes.length));
}

/** @throws {MalformedResponseError} the frame is cut short */
export function decodeReserveList({ view, bytes }: AoeResponse): readonly MacAddress[] {
  return requireWhole(readReserveList(view, 0, bytes.length));
}

function requireWhole<Reply>(reply: Reply | undefined): Reply {
  if (reply === undefined) throw new MalformedResponseError('the response is cut short');
  return reply;
}

function assertSize({ bytes }: AoeResponse, size: number): void {
  if (bytes.length >= size) return;
  throw new MalformedResponseError(`${bytes.length} bytes where ${size} are due`);
}
