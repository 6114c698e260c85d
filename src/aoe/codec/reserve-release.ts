/**
 * AoE command 3, reserve/release (AoEr11 §3.4): which initiators may use a target.
 *
 *     24     25      26
 *     | rcmd | count | MAC addresses, 6 bytes each
 *
 * Offsets count from the destination MAC. A response carries the list.
 */
import type { ControlFrame, ControlResponse, TargetState } from '../target-state.ts';
import { Aoe, AoeError, readMac, writeMac } from './header.ts';

export const Reserve = {
  command: 24,
  count: 25,
  /** Header and argument together: where addresses start. */
  headerSize: 26,
  addressSize: 6,
} as const;

export const ReserveCommand = { read: 0, set: 1, forceSet: 2 } as const;

/** Executes a reserve/release command on `state`. An empty list releases. */
export function executeReserve(
  state: TargetState,
  frame: ControlFrame,
): ControlResponse | undefined {
  const { request, requestAt, requestSize } = frame;
  if (requestSize < Reserve.headerSize) return undefined;
  const command = request.getUint8(requestAt + Reserve.command);
  if (command === ReserveCommand.read) return writeList(state.reserveList, command, frame);
  if (command > ReserveCommand.forceSet) {
    return { size: Reserve.headerSize, error: AoeError.badArgument };
  }
  const count = request.getUint8(requestAt + Reserve.count);
  if (Reserve.headerSize + count * Reserve.addressSize > requestSize) {
    return { size: Reserve.headerSize, error: AoeError.badArgument };
  }
  const source = readMac(request, requestAt + Aoe.source);
  if (command === ReserveCommand.set && isReservedAgainst(state, source)) {
    return { ...writeList(state.reserveList, command, frame), error: AoeError.targetReserved };
  }
  const reserveList: number[] = [];
  for (let index = 0; index < count; index++) {
    reserveList.push(readMac(request, requestAt + addressOffset(index)));
  }
  return { ...writeList(reserveList, command, frame), next: { ...state, reserveList } };
}

/** Is the target reserved, and not for `source`? */
export function isReservedAgainst(state: TargetState, source: number): boolean {
  return state.reserveList.length > 0 && !state.reserveList.includes(source);
}

function writeList(list: readonly number[], command: number, frame: ControlFrame): ControlResponse {
  const { response, responseAt, responseSizeMax } = frame;
  const room = Math.floor((responseSizeMax - Reserve.headerSize) / Reserve.addressSize);
  const count = Math.min(list.length, room);
  response.setUint8(responseAt + Reserve.command, command);
  response.setUint8(responseAt + Reserve.count, count);
  for (let index = 0; index < count; index++) {
    writeMac(response, responseAt + addressOffset(index), list[index] as number);
  }
  return { size: addressOffset(count) };
}

function addressOffset(index: number): number {
  return Reserve.headerSize + index * Reserve.addressSize;
}
