/**
 * Requests as an initiator writes them: from fields to a whole frame, at least
 * {@link FRAME_SIZE_MIN} bytes long. Nothing is checked, so that tests can send any nonsense.
 */
import type { MacAddress } from '../../net/ethernet.ts';
import { Ata, writeLba } from '../codec/ata.ts';
import { Config, writeConfigRequest } from '../codec/config-query.ts';
import {
  AoeCommand,
  FRAME_SIZE_MIN,
  type HeaderFields,
  writeRequestHeader,
} from '../codec/header.ts';
import { type DirectiveFields, MacMask, writeMacMaskRequest } from '../codec/mac-mask.ts';
import { Reserve, writeReserveList } from '../codec/reserve-release.ts';

/** Where a request goes, and its tag. */
export type Route = Omit<HeaderFields, 'command'>;

export type Frame = Uint8Array<ArrayBuffer>;

export interface AtaRequest {
  readonly command: number;
  /** Bits of {@link AtaFlag}; 0 when absent. */
  readonly aflags?: number;
  readonly feature?: number;
  readonly sectorCount?: number;
  readonly lba?: number;
  readonly data?: Uint8Array;
}

export function encodeAta(route: Route, request: AtaRequest): Frame {
  const { data } = request;
  const view = newRequest(route, AoeCommand.ata, Ata.headerSize + (data?.length ?? 0));
  view.setUint8(Ata.aflags, request.aflags ?? 0);
  view.setUint8(Ata.errorFeature, request.feature ?? 0);
  view.setUint8(Ata.sectorCount, request.sectorCount ?? 0);
  view.setUint8(Ata.commandStatus, request.command);
  writeLba(view, 0, request.lba ?? 0);
  const frame = bytesOf(view);
  if (data !== undefined) frame.set(data, Ata.headerSize);
  return frame;
}

export function encodeConfig(
  route: Route,
  command: number,
  configString: Uint8Array = EMPTY,
): Frame {
  const view = newRequest(route, AoeCommand.config, Config.headerSize + configString.length);
  writeConfigRequest(view, 0, command, configString);
  return bytesOf(view);
}

export function encodeMacMask(
  route: Route,
  command: number,
  directives: readonly DirectiveFields[] = [],
): Frame {
  const size = MacMask.headerSize + directives.length * MacMask.directiveSize;
  const view = newRequest(route, AoeCommand.macMask, size);
  writeMacMaskRequest(view, 0, command, directives);
  return bytesOf(view);
}

export function encodeReserve(
  route: Route,
  command: number,
  macs: readonly MacAddress[] = [],
): Frame {
  const size = Reserve.headerSize + macs.length * Reserve.addressSize;
  const view = newRequest(route, AoeCommand.reserve, size);
  writeReserveList(view, 0, command, macs);
  return bytesOf(view);
}

const EMPTY = new Uint8Array(0);

function newRequest(route: Route, command: number, size: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(Math.max(size, FRAME_SIZE_MIN)));
  writeRequestHeader(view, 0, { ...route, command });
  return view;
}

function bytesOf(view: DataView<ArrayBuffer>): Frame {
  return new Uint8Array(view.buffer);
}
