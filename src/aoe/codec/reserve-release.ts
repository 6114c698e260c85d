/**
 * AoE command 3, reserve/release (AoEr11 §3.4): which initiators may use a target.
 *
 *     24     25      26
 *     | rcmd | count | MAC addresses, 6 bytes each
 *
 * Offsets count from the destination MAC. A response carries the list in the same layout.
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
  if (command === ReserveCommand.read) return reply(state.reserveList, command, frame);
  const source = readMac(request, requestAt + Aoe.source);
  if (command === ReserveCommand.set && isReservedAgainst(state, source)) {
    return { ...reply(state.reserveList, command, frame), error: AoeError.targetReserved };
  }
  const reserveList = readReserveList(request, requestAt, requestSize);
  if (command > ReserveCommand.forceSet || reserveList === undefined) {
    return { ...reply(state.reserveList, command, frame), error: AoeError.badArgument };
  }
  return { ...reply(reserveList, command, frame), next: { ...state, reserveList } };
}

/** Is the target reserved, and not for `source`? */
export function isReservedAgainst(state: TargetState, source: number): boolean {
  return state.reserveList.length > 0 && !state.reserveList.includes(source);
}

/**
 * Writes the argument of a request or a response.
 *
 * @param list at most 255 addresses
 * @returns the size of the whole frame, in bytes
 */
export function writeReserveList(
  frame: DataView,
  at: number,
  command: number,
  list: readonly number[],
): number {
  frame.setUint8(at + Reserve.command, command);
  frame.setUint8(at + Reserve.count, list.length);
  list.forEach((mac, index) => {
    writeMac(frame, at + addressOffset(index), mac);
  });
  return addressOffset(list.length);
}

/** Reads the list in a frame of `size` bytes; undefined when it is cut short. */
export function readReserveList(frame: DataView, at: number, size: number): number[] | undefined {
  if (size < Reserve.headerSize) return undefined;
  const count = frame.getUint8(at + Reserve.count);
  if (addressOffset(count) > size) return undefined;
  const list: number[] = [];
  for (let index = 0; index < count; index++) list.push(readMac(frame, at + addressOffset(index)));
  return list;
}

/** A list that does not fit in the MTU is cut: the count tells how much of it is there. */
function reply(list: readonly number[], command: number, frame: ControlFrame): ControlResponse {
  const { response, responseAt, responseSizeMax } = frame;
  const room = Math.floor((responseSizeMax - Reserve.headerSize) / Reserve.addressSize);
  return { size: writeReserveList(response, responseAt, command, list.slice(0, room)) };
}

function addressOffset(index: number): number {
  return Reserve.headerSize + index * Reserve.addressSize;
}
