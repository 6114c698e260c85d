/** What the kernel says about a network interface. */
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
}

/** The state of the interface `name`; undefined when there is none. */
export function readInterfaceState(name: string): InterfaceState | undefined {
  const state = native.readInterface(name);
  return state && { ...state, mac: formatMacAddress(state.mac) };
}
