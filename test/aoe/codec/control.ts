/** Control commands for tests: requests as frames, and what a target with some state answers. */
import { expect } from 'vitest';
import { Config, executeConfig, writeConfigRequest } from '../../../src/aoe/codec/config-query.ts';
import {
  Aoe,
  AoeCommand,
  setAoeError,
  writeRequestHeader,
  writeResponseHeader,
} from '../../../src/aoe/codec/header.ts';
import {
  type DirectiveFields,
  executeMacMask,
  MacMask,
  writeMacMaskRequest,
} from '../../../src/aoe/codec/mac-mask.ts';
import {
  executeReserve,
  Reserve,
  writeReserveList,
} from '../../../src/aoe/codec/reserve-release.ts';
import type { ControlFrame, ControlResponse, TargetState } from '../../../src/aoe/target-state.ts';
import { placeFrame } from '../../support/frames.ts';

/** Who asks, if a test does not say otherwise. */
export const INITIATOR = 0x0200_0000_0001;
export const TARGET = 0x0200_0000_00aa;
export const OTHER = 0x0200_0000_000a;
export const THIRD = 0x0200_0000_000b;
/** e1.0 */
export const ADDRESS = 1 << 8;

export const CONFIG_FIELDS = { bufferCount: 16, firmwareVersion: 1, sectorCount: 2 };

export const EMPTY_STATE: TargetState = {
  configString: new Uint8Array(),
  maskList: [],
  reserveList: [],
};

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** `count` different addresses. */
export const addresses = (count: number): number[] =>
  Array.from({ length: count }, (_, index) => 0x0200_0000_1000 + index);

interface Lie {
  /** What the length or count field says, instead of the truth. */
  readonly says?: number;
  readonly source?: number;
}

export function configRequest(command: number, text: string | Uint8Array, lie: Lie = {}) {
  const string = typeof text === 'string' ? bytes(text) : text;
  return request(AoeCommand.config, lie.source, (view) => {
    const size = writeConfigRequest(view, 0, command, string);
    if (lie.says !== undefined) view.setUint16(Config.stringLength, lie.says);
    return size;
  });
}

export function macMaskRequest(
  command: number,
  directives: readonly DirectiveFields[],
  lie: Lie = {},
) {
  return request(AoeCommand.macMask, lie.source, (view) => {
    const size = writeMacMaskRequest(view, 0, command, directives);
    if (lie.says !== undefined) view.setUint8(MacMask.directiveCount, lie.says);
    return size;
  });
}

export function reserveRequest(command: number, list: readonly number[], lie: Lie = {}) {
  return request(AoeCommand.reserve, lie.source, (view) => {
    const size = writeReserveList(view, 0, command, list);
    if (lie.says !== undefined) view.setUint8(Reserve.count, lie.says);
    return size;
  });
}

function request(
  command: number,
  source: number | undefined,
  write: (view: DataView) => number,
): Uint8Array {
  const frame = new Uint8Array(4096);
  const view = new DataView(frame.buffer);
  const tag = 0x8000_0007;
  writeRequestHeader(view, 0, {
    destination: TARGET,
    source: source ?? INITIATOR,
    address: ADDRESS,
    command,
    tag,
  });
  return frame.slice(0, write(view));
}

/** The same frame as it arrives over real Ethernet. */
export function padded(frame: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.max(60, frame.length));
  result.set(frame);
  return result;
}

export interface Answer {
  /** The response, before padding. */
  readonly frame: Uint8Array;
  readonly view: DataView;
  readonly error: number | undefined;
  readonly next: TargetState | undefined;
}

const REQUEST_AT = 37;
const RESPONSE_AT = 64;
const FOREIGN_BYTE = 0xaa;

/**
 * What a target with `state` answers; undefined for silence.
 *
 * Whatever the request is: no byte outside the response is touched, the response fits in the MTU,
 * and what it does not define stays zero.
 */
export function answer(state: TargetState, frame: Uint8Array, mtu = 1500): Answer | undefined {
  const responseSizeMax = 14 + mtu;
  const memory = new Uint8Array(RESPONSE_AT + responseSizeMax + 4096).fill(FOREIGN_BYTE);
  memory.fill(0, RESPONSE_AT + Aoe.headerSize, RESPONSE_AT + responseSizeMax);
  const response = new DataView(memory.buffer);
  const ring = placeFrame(frame, REQUEST_AT);
  if (frame.length >= Aoe.headerSize) {
    writeResponseHeader(response, RESPONSE_AT, ring, REQUEST_AT, TARGET, ADDRESS);
  }

  const outcome = execute(state, {
    request: ring,
    requestAt: REQUEST_AT,
    requestSize: frame.length,
    response,
    responseAt: RESPONSE_AT,
    responseSizeMax,
  });

  const end = RESPONSE_AT + responseSizeMax;
  expect(consistsOf(FOREIGN_BYTE, memory.subarray(0, RESPONSE_AT))).toBe(true);
  expect(consistsOf(FOREIGN_BYTE, memory.subarray(end))).toBe(true);
  if (outcome === undefined) return undefined;
  const { size, error, next } = outcome;
  expect(size).toBeLessThanOrEqual(responseSizeMax);
  expect(consistsOf(0, memory.subarray(RESPONSE_AT + size, end))).toBe(true);
  if (error !== undefined) setAoeError(response, RESPONSE_AT, error);
  const result = memory.slice(RESPONSE_AT, RESPONSE_AT + size);
  return { frame: result, view: new DataView(result.buffer), error, next };
}

function execute(state: TargetState, frame: ControlFrame): ControlResponse | undefined {
  if (frame.requestSize < Aoe.headerSize) return undefined;
  switch (frame.request.getUint8(frame.requestAt + Aoe.command)) {
    case AoeCommand.config:
      return executeConfig(state, CONFIG_FIELDS, frame);
    case AoeCommand.macMask:
      return executeMacMask(state, frame);
    default:
      return executeReserve(state, frame);
  }
}

function consistsOf(byte: number, part: Uint8Array): boolean {
  return part.every((found) => found === byte);
}
