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
import { AoeError, readMac, writeMac } from './header.ts';

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

/** Executes a MAC mask command on `state`. */
export function executeMacMask(
  state: TargetState,
  frame: ControlFrame,
): ControlResponse | undefined {
  const { request, requestAt, requestSize } = frame;
  if (requestSize < MacMask.headerSize) return undefined;
  switch (request.getUint8(requestAt + MacMask.command)) {
    case MacMaskCommand.read:
      return reply(state.maskList, MacMaskCommand.read, frame);
    case MacMaskCommand.edit:
      return edit(state, frame);
    default:
      return { size: MacMask.headerSize, error: AoeError.badArgument };
  }
}

/** Directives take effect in order; a bad one ends the command and keeps those before it. */
function edit(state: TargetState, frame: ControlFrame): ControlResponse {
  const { request, requestAt, requestSize } = frame;
  const count = request.getUint8(requestAt + MacMask.directiveCount);
  if (MacMask.headerSize + count * MacMask.directiveSize > requestSize) {
    return { size: MacMask.headerSize, error: AoeError.badArgument };
  }
  const list = new Set(state.maskList);
  let error = 0;
  let index = 0;
  for (; index < count && error === 0; index++) {
    error = direct(list, request, requestAt + directiveOffset(index));
  }
  const next = { ...state, maskList: [...list] };
  if (error === 0) return { ...reply(next.maskList, MacMaskCommand.edit, frame), next };
  const { response, responseAt } = frame;
  response.setUint8(responseAt + MacMask.command, MacMaskCommand.edit);
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
function reply(list: readonly number[], command: number, frame: ControlFrame): ControlResponse {
  const { response, responseAt, responseSizeMax } = frame;
  const room = Math.floor((responseSizeMax - MacMask.headerSize) / MacMask.directiveSize);
  const count = Math.min(list.length, room);
  response.setUint8(responseAt + MacMask.command, command);
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
