import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { StartupError } from '../core/startup-error.ts';

const NETWORK_CLASS = '/sys/class/net';
const ARPHRD_ETHER = 1;
const IFF_UP = 0x1;

/**
 * Ethernet interfaces that are up. Ports of a bridge or bond hear nothing themselves.
 *
 * @throws {StartupError} there is none
 */
export function listInterfaces(): string[] {
  const read = (name: string, attribute: string) =>
    Number(readFileSync(`${NETWORK_CLASS}/${name}/${attribute}`, 'utf8'));
  const names = readdirSync(NETWORK_CLASS).filter(
    (name) =>
      existsSync(`${NETWORK_CLASS}/${name}/type`) &&
      read(name, 'type') === ARPHRD_ETHER &&
      (read(name, 'flags') & IFF_UP) !== 0 &&
      !existsSync(`${NETWORK_CLASS}/${name}/master`),
  );
  if (names.length > 0) return names;
  throw new StartupError('no Ethernet interface is up', 'bring one up, or name one: see ip link');
}
