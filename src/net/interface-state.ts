/** What the kernel says about a network interface, read from sysfs. */
import { readFileSync } from 'node:fs';

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

const FLAG_UP = 0x1;
/** Some drivers do not tell whether there is a cable. */
const CONNECTED = ['up', 'unknown'];

/** The state of interface `name`; undefined when there is none. */
export function readInterfaceState(name: string): InterfaceState | undefined {
  const read = (file: string) => readFileSync(`/sys/class/net/${name}/${file}`, 'utf8').trim();
  try {
    return {
      index: Number(read('ifindex')),
      mtu: Number(read('mtu')),
      mac: read('address'),
      up: (Number(read('flags')) & FLAG_UP) !== 0,
      // Not from `carrier`, which waits for whoever configures an interface.
      connected: CONNECTED.includes(read('operstate')),
    };
  } catch {
    // It is gone, or goes away right now.
    return undefined;
  }
}
