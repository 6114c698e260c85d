/**
 * AoE command 1, query config information (AoEr11 §3.2).
 *
 *     24          26         28       29          30        32
 *     | buffer    | firmware | sector | ver|ccmd  | string  | config string ...
 *     | count (BE)| version  | count  |           | length  |
 *
 * Offsets count from the destination MAC. In a request only ccmd, length and string matter.
 */
import {
  CONFIG_STRING_BYTES_MAX,
  type ControlFrame,
  type ControlResponse,
  type TargetState,
} from '../target-state.ts';
import { AOE_VERSION, AoeError } from './header.ts';

export const Config = {
  bufferCount: 24,
  firmwareVersion: 26,
  sectorCount: 28,
  versionCommand: 29,
  stringLength: 30,
  /** Header and argument together: where the config string starts. */
  headerSize: 32,
} as const;

export const ConfigCommand = { read: 0, test: 1, prefix: 2, set: 3, forceSet: 4 } as const;

/** What a target tells about itself, apart from its config string. */
export interface ConfigFields {
  /** Requests that an initiator may have in flight; Linux needs at least 2. */
  readonly bufferCount: number;
  readonly firmwareVersion: number;
  /** Most sectors in one frame. */
  readonly sectorCount: number;
}

/** A decoded response. */
export interface ConfigReply extends ConfigFields {
  readonly configString: Uint8Array;
}

/** Executes a config command on `state`. */
export function executeConfig(
  state: TargetState,
  fields: ConfigFields,
  frame: ControlFrame,
): ControlResponse | undefined {
  const { request, requestAt, requestSize } = frame;
  if (requestSize < Config.headerSize) return undefined;
  const command = request.getUint8(requestAt + Config.versionCommand) & 0x0f;
  const { configString } = state;
  const reply = (said: Uint8Array): ControlResponse => {
    const { response, responseAt, responseSizeMax } = frame;
    return {
      size: writeConfigReply(response, responseAt, command, fields, said, responseSizeMax),
    };
  };
  if (command === ConfigCommand.read) return reply(configString);
  const given = givenString(frame);
  if (given === undefined) return undefined;
  switch (command) {
    case ConfigCommand.test:
      return isEqual(given, configString) ? reply(configString) : undefined;
    case ConfigCommand.prefix: {
      const start = configString.subarray(0, given.length);
      return isEqual(given, start) ? reply(configString) : undefined;
    }
    case ConfigCommand.set:
      // A resent Set finds its own string, and must not fail.
      if (configString.length > 0 && !isEqual(given, configString)) {
        return { ...reply(configString), error: AoeError.configStringPresent };
      }
      return { ...reply(given), next: replaced(state, given) };
    case ConfigCommand.forceSet:
      return { ...reply(given), next: replaced(state, given) };
    default:
      return { ...reply(configString), error: AoeError.badArgument };
  }
}

/**
 * Writes the argument and string of a response. A string that would make the frame longer than
 * `sizeMax` bytes is cut: a silent target would not be found at all.
 *
 * @returns the size of the whole frame, in bytes
 */
export function writeConfigReply(
  response: DataView,
  at: number,
  command: number,
  fields: ConfigFields,
  configString: Uint8Array,
  sizeMax: number,
): number {
  response.setUint16(at + Config.bufferCount, fields.bufferCount);
  response.setUint16(at + Config.firmwareVersion, fields.firmwareVersion);
  response.setUint8(at + Config.sectorCount, fields.sectorCount);
  const fitting = configString.subarray(0, sizeMax - Config.headerSize);
  return writeCommandAndString(response, at, command, fitting);
}

/**
 * Writes the argument of a request.
 *
 * @returns the size of the whole frame, in bytes
 */
export function writeConfigRequest(
  request: DataView,
  at: number,
  command: number,
  configString: Uint8Array,
): number {
  request.setUint32(at + Config.bufferCount, 0);
  request.setUint8(at + Config.sectorCount, 0);
  return writeCommandAndString(request, at, command, configString);
}

/** Decodes a response of `size` bytes; undefined when it is cut short. */
export function decodeConfigReply(
  response: DataView,
  at: number,
  size: number,
): ConfigReply | undefined {
  if (size < Config.headerSize) return undefined;
  const length = response.getUint16(at + Config.stringLength);
  if (Config.headerSize + length > size) return undefined;
  return {
    bufferCount: response.getUint16(at + Config.bufferCount),
    firmwareVersion: response.getUint16(at + Config.firmwareVersion),
    sectorCount: response.getUint8(at + Config.sectorCount),
    configString: bytesOf(response, at + Config.headerSize, length).slice(),
  };
}

/** The string in a request, if it is as long as it says and not longer than allowed. */
function givenString(frame: ControlFrame): Uint8Array | undefined {
  const { request, requestAt, requestSize } = frame;
  const length = request.getUint16(requestAt + Config.stringLength);
  if (length > CONFIG_STRING_BYTES_MAX) return undefined;
  if (Config.headerSize + length > requestSize) return undefined;
  return bytesOf(request, requestAt + Config.headerSize, length);
}

function replaced(state: TargetState, given: Uint8Array): TargetState {
  return { ...state, configString: given.slice() };
}

function writeCommandAndString(
  frame: DataView,
  at: number,
  command: number,
  configString: Uint8Array,
): number {
  frame.setUint8(at + Config.versionCommand, (AOE_VERSION << 4) | command);
  frame.setUint16(at + Config.stringLength, configString.length);
  bytesOf(frame, at + Config.headerSize, configString.length).set(configString);
  return Config.headerSize + configString.length;
}

function bytesOf(frame: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(frame.buffer, frame.byteOffset + at, length);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
