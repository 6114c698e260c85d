/** What the kernel says about a network interface. */
import { existsSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { native } from '../native.ts';
import { formatMacAddress } from './ethernet.ts';

export interface InterfaceState {
  /** Differs when an interface was removed and made again under the same name. */
  readonly index: number;
  readonly mtu: number;
  readonly mac: string;
  /** Brought up by the operator; a cable may still be missing. */
  readonly up: boolean;
  /** Does it lead anywhere, as far as the kernel can tell? */
  readonly connected: boolean;
  /** The bridge or bond that it is part of, and that gets what comes in, as far as sysfs tells. */
  readonly master: string | undefined;
}

/** What sysfs has of a part of a bridge, and of one of a bond. Other masters leave frames alone. */
const PART_NOTES = ['brport', 'bonding_slave'];

/** The state of the interface `name`; undefined when there is none. */
export function readInterfaceState(name: string): InterfaceState | undefined {
  const state = native.readInterface(name);
  return state && { ...state, mac: formatMacAddress(state.mac), master: masterOf(name) };
}

function masterOf(name: string): string | undefined {
  const path = `/sys/class/net/${name}`;
  if (!PART_NOTES.some((note) => existsSync(`${path}/${note}`))) return undefined;
  try {
    return basename(readlinkSync(`${path}/master`));
  } catch {
    return undefined;
  }
}
