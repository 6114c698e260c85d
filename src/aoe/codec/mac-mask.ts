/**
 * AoE command 2, MAC mask list (AoEr11 §3.3): which initiators a target answers.
 *
 *     24         25     26      27          28
 *     | reserved | mcmd | error | directive | directives, 8 bytes each:
 *     |          |      |       | count     |   | reserved | dcmd | MAC (6) |
 *
 * Offsets count from the destination MAC. A response carries the list as directives with dcmd 0.
 */
import {
  type ControlFrame,
  type ControlResponse,
  LIST_LENGTH_MAX,
  type TargetState,
} from '../target-state.ts';
import { Aoe, AoeError, readMac, writeMac } from './header.ts';

export const MacMask = {
  command: 25,
  error: 26,
  directiveCount: 27,
  /** Header and argument together: where directives start. */
  headerSize: 28,
  directiveSize: 8,
  directiveCommand: 1,
  directiveMac: 2,
} as const;

export const MacMaskCommand = { read: 0, edit: 1 } as const;
export const MacMaskDirective = { none: 0, add: 1, remove: 2 } as const;
export const MacMaskError = { badDirective: 2, listFull: 3 } as const;

/** One step of an edit: a {@link MacMaskDirective} and the address it is about. */
export interface DirectiveFields {
  readonly command: number;
  readonly mac: number;
}

/** A decoded response. */
export interface MacMaskReply {
  /** A {@link MacMaskError}, or 0. */
  readonly error: number;
  /** Which directive failed, 0-based; 0 without an error. */
  readonly failedIndex: number;
  /** The list; empty after an error, which leaves no room for it. */
  readonly maskList: readonly number[];
}

/** Executes a MAC mask command on `state`. */
export function executeMacMask(
  state: TargetState,
  frame: ControlFrame,
): ControlResponse | undefined {
  const { request, requestAt, requestSize } = frame;
  if (requestSize < MacMask.headerSize) return undefined;
  const command = request.getUint8(requestAt + MacMask.command);
  frame.response.setUint8(frame.responseAt + MacMask.command, command);
  switch (command) {
    case MacMaskCommand.read:
      return reply(state.maskList, frame);
    case MacMaskCommand.edit:
      return edit(state, frame);
    default:
      return { size: MacMask.headerSize, error: AoeError.badArgument };
  }
}

/**
 * Writes the argument of a request.
 *
 * @param directives at most {@link LIST_LENGTH_MAX}
 * @returns the size of the whole frame, in bytes
 */
export function writeMacMaskRequest(
  request: DataView,
  at: number,
  command: number,
  directives: readonly DirectiveFields[],
): number {
  request.setUint32(at + Aoe.headerSize, (command << 16) | directives.length);
  directives.forEach((directive, index) => {
    const start = at + directiveOffset(index);
    request.setUint16(start, directive.command);
    writeMac(request, start + MacMask.directiveMac, directive.mac);
  });
  return directiveOffset(directives.length);
}

/** Decodes a response of `size` bytes; undefined when it is cut short. */
export function decodeMacMaskReply(
  response: DataView,
  at: number,
  size: number,
): MacMaskReply | undefined {
  if (size < MacMask.headerSize) return undefined;
  const error = response.getUint8(at + MacMask.error);
  const count = response.getUint8(at + MacMask.directiveCount);
  if (error !== 0) return { error, failedIndex: count, maskList: [] };
  if (directiveOffset(count) > size) return undefined;
  const maskList: number[] = [];
  for (let index = 0; index < count; index++) {
    maskList.push(readMac(response, at + directiveOffset(index) + MacMask.directiveMac));
  }
  return { error, failedIndex: 0, maskList };
}

/** Directives take effect in order; a bad one ends the command and keeps those before it. */
function edit(state: TargetState, frame: ControlFrame): ControlResponse {
  const { request, requestAt, requestSize } = frame;
  const count = request.getUint8(requestAt + MacMask.directiveCount);
  if (directiveOffset(count) > requestSize) {
    return { size: MacMask.headerSize, error: AoeError.badArgument };
  }
  const list = new Set(state.maskList);
  let error = 0;
  let index = 0;
  for (; index < count && error === 0; index++) {
    error = direct(list, request, requestAt + directiveOffset(index));
  }
  const next = { ...state, maskList: [...list] };
  if (error === 0) return { ...reply(next.maskList, frame), next };
  const { response, responseAt } = frame;
  response.setUint8(responseAt + MacMask.error, error);
  response.setUint8(responseAt + MacMask.directiveCount, index - 1);
  return { size: MacMask.headerSize, next };
}

/** @returns the directive's error, or 0 */
function direct(list: Set<number>, request: DataView, at: number): number {
  const mac = readMac(request, at + MacMask.directiveMac);
  switch (request.getUint8(at + MacMask.directiveCommand)) {
    case MacMaskDirective.none:
      return 0;
    case MacMaskDirective.add:
      if (list.size === LIST_LENGTH_MAX && !list.has(mac)) return MacMaskError.listFull;
      list.add(mac);
      return 0;
    case MacMaskDirective.remove:
      list.delete(mac);
      return 0;
    default:
      return MacMaskError.badDirective;
  }
}

/** A list that does not fit in the MTU is cut: the count tells how much of it is there. */
function reply(list: readonly number[], frame: ControlFrame): ControlResponse {
  const { response, responseAt, responseSizeMax } = frame;
  const room = Math.floor((responseSizeMax - MacMask.headerSize) / MacMask.directiveSize);
  const count = Math.min(list.length, room);
  response.setUint8(responseAt + MacMask.directiveCount, count);
  for (let index = 0; index < count; index++) {
    const at = responseAt + directiveOffset(index) + MacMask.directiveMac;
    writeMac(response, at, list[index] as number);
  }
  return { size: directiveOffset(count) };
}

function directiveOffset(index: number): number {
  return MacMask.headerSize + index * MacMask.directiveSize;
}
