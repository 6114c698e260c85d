/** Where a server listens for operators: on this machine, or where others reach it. */
import { BlockList, isIP } from 'node:net';

/** A unix socket, or a port of an address. */
export type ListenAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

const PORT_MAX = 65_535;

/**
 * Reads `127.0.0.1:9465`, `[::1]:9465`, or a path, which is text with a slash.
 *
 * @returns undefined for anything else
 */
export function parseListenAddress(text: string): ListenAddress | undefined {
  if (/^[^\0]*\/[^\0]*$/.test(text)) return { path: text };
  const [, bracketed, plain, digits] = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  const isAddress = isIP(host) === (bracketed === undefined ? 4 : 6);
  return isAddress && port > 0 && port <= PORT_MAX ? { host, port } : undefined;
}

/** Can only this machine reach it? */
export function isLocal(address: ListenAddress): boolean {
  if ('path' in address) return true;
  return loopback.check(address.host, isIP(address.host) === 6 ? 'ipv6' : 'ipv4');
}
