/** What holds between targets, and what is unwise though it works. */
import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { formatMacAddress } from '../net/ethernet.ts';
import { isLocal, parseListenAddress } from '../net/listen-address.ts';
import { type BackendConfig, type TargetConfig, targetName } from './config.ts';
import { valueAt } from './explain.ts';
import type { Finding } from './problem.ts';
import type { KeyPath } from './scanner.ts';
import type { ConfigDocument } from './schema.ts';
import { formatSize } from './size.ts';

/** Of the page cache, in bytes. Initiators address it best, and most disks have sectors of it. */
const PAGE_SIZE = 4096;

/** A target and its place among the [[target]] tables of the file, 0-based. */
export interface PlacedTarget {
  readonly index: number;
  readonly target: TargetConfig;
}

/** Two targets with one address: an initiator would take them for two paths to one disk. */
export function findSharedAddresses(targetTables: readonly unknown[]): Finding[] {
  const indexByName = new Map<string, number>();
  return targetTables.flatMap((table, index) => {
    const shelf = valueAt(table, ['shelf']);
    const slot = valueAt(table, ['slot']);
    if (typeof shelf !== 'number' || typeof slot !== 'number') return [];
    const name = targetName(shelf, slot);
    const first = indexByName.get(name);
    if (first === undefined) {
      indexByName.set(name, index);
      return [];
    }
    return {
      path: ['target', index, 'slot'],
      message: `gives the address ${name} a second time`,
      remedy: `target[${first}] has it already. Choose another slot or shelf.`,
    };
  });
}

/** Two targets on one stretch of storage, of which at least one writes. */
export function findSharedStorage(targets: readonly PlacedTarget[]): Finding[] {
  const extents = targets.flatMap(extentOf);
  return extents.flatMap((extent, position) => {
    const others = extents.slice(0, position);
    const other = others.find((earlier) => collide(earlier, extent, 1));
    if (other === undefined) return findSharedPage(extent, others);
    return {
      path: extent.path,
      message: `holds data of target ${other.name} too`,
      remedy:
        'Give each target storage of its own, or ranges of an image that do not overlap (offset ' +
        'and length), or make all targets of an image read_only.',
    };
  });
}

/** What one target writes past the page cache would be overwritten by what the cache holds of it. */
function findSharedPage(extent: Extent, others: readonly Extent[]): Finding[] {
  if (extent.mayShare) return [];
  const other = others
    .filter(({ direct, mayShare }) => direct !== extent.direct && !mayShare)
    .find((earlier) => collide(earlier, extent, PAGE_SIZE));
  if (other === undefined) return [];
  return [
    {
      path: extent.path,
      message: `shares ${PAGE_SIZE} bytes with target ${other.name}, of which one is direct`,
      remedy: `Let offset and length be multiples of ${PAGE_SIZE}, or direct the same in both.`,
    },
  ];
}

/** Two targets of one content-addressed store that say different things about it. */
export function findTornStores(targets: readonly PlacedTarget[]): Finding[] {
  const stores = targets.flatMap(({ index, target: { name, backend } }) =>
    backend.type === 'cas' ? [{ index, name, store: backend.blobStore }] : [],
  );
  return stores.flatMap(({ index, store }, position) => {
    const other = stores.slice(0, position).find((earlier) => earlier.store.path === store.path);
    if (other === undefined || isDeepStrictEqual(other.store, store)) return [];
    return {
      path: ['target', index, 'cas', 'blob_store'],
      message: `is not the same as that of target ${other.name}, though the path is`,
      remedy: 'Targets with one path share a store: write the same keys, or another path.',
    };
  });
}

/** A store that several threads would have to have open. */
export function findThreadedStores(
  document: Record<string, unknown>,
  targets: readonly PlacedTarget[],
): Finding[] {
  const path = ['server', 'workers'];
  const workers = valueAt(document, path);
  const stored = targets.find(({ target }) => target.backend.type === 'cas');
  if (stored === undefined || typeof workers !== 'number' || workers <= 1) return [];
  return [
    {
      path,
      message: `cannot be, because ${stored.target.name} is in a content-addressed store`,
      remedy: 'One thread must have a store for itself. Write workers = 1.',
    },
  ];
}

/** What works, but hardly as meant. */
export function findWarnings(
  document: ConfigDocument,
  targets: readonly PlacedTarget[],
): Finding[] {
  const serverAllow = document.server.allow;
  const ofTargets = targets.flatMap(({ index, target }) => [
    ...warnOfShelf(index, target),
    ...warnOfAlignment(index, target.backend),
    ...target.allow.flatMap((mac, position) => {
      if (serverAllow.length === 0 || serverAllow.includes(mac)) return [];
      return {
        path: ['target', index, 'allow', position],
        message: 'is not answered, because server.allow leaves it out',
        remedy: `Add "${formatMacAddress(mac)}" to server.allow, or remove it here.`,
      };
    }),
  ]);
  return [...warnOfDashboard(document.server.dashboard), ...ofTargets];
}

interface Extent {
  readonly name: string;
  readonly path: KeyPath;
  readonly storage: string;
  readonly startBytes: number;
  readonly endBytes: number;
  /** May others read it, too? A device is opened for one target only, even to be read. */
  readonly mayShare: boolean;
  readonly direct: boolean;
}

function extentOf({ index, target }: PlacedTarget): Extent[] {
  const { name, readOnly, backend } = target;
  if (backend.type !== 'file' && backend.type !== 'device') return [];
  const startBytes = backend.type === 'file' ? backend.offsetBytes : 0;
  const lengthBytes = backend.type === 'file' ? backend.lengthBytes : undefined;
  return [
    {
      name,
      path: ['target', index, backend.type, 'path'],
      storage: identifyStorage(backend.path),
      startBytes,
      endBytes: startBytes + (lengthBytes ?? Number.POSITIVE_INFINITY),
      mayShare: readOnly && backend.type === 'file',
      direct: backend.direct,
    },
  ];
}

/** @param unitBytes what cannot be divided */
function collide(a: Extent, b: Extent, unitBytes: number): boolean {
  const unitOf = (bytes: number) => Math.floor(bytes / unitBytes);
  const overlap =
    unitOf(a.startBytes) <= unitOf(b.endBytes - 1) &&
    unitOf(b.startBytes) <= unitOf(a.endBytes - 1);
  return overlap && a.storage === b.storage && !(a.mayShare && b.mayShare);
}

/** A text that is equal for paths that lead to the same file or device, whatever the names. */
function identifyStorage(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return stat.isBlockDevice() ? `device ${stat.rdev}` : `inode ${stat.dev} ${stat.ino}`;
  } catch {
    return identifyMissing(path);
  }
}

function identifyMissing(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path;
  }
}

function warnOfDashboard(text: string | undefined): Finding[] {
  const address = text === undefined ? undefined : parseListenAddress(text);
  if (address === undefined || isLocal(address)) return [];
  return [
    {
      path: ['server', 'dashboard'],
      message: 'can be reached from other machines, and nothing encrypts its token on the way',
      remedy:
        'Better: dashboard = "127.0.0.1:8088", with a tunnel, or a proxy that speaks TLS and asks ' +
        'who is there: to look takes no token then.',
    },
  ];
}

function warnOfShelf(index: number, { shelf }: TargetConfig): Finding[] {
  if (shelf !== 4095) return [];
  return [
    {
      path: ['target', index, 'shelf'],
      message: 'is refused by Linux initiators',
      remedy: 'Choose another shelf, unless only other initiators use this target.',
    },
  ];
}

function warnOfAlignment(index: number, backend: BackendConfig): Finding[] {
  return alignedKeys(backend).flatMap(([key, valueBytes]) => {
    if (valueBytes === undefined || valueBytes % PAGE_SIZE === 0) return [];
    const next = formatSize(Math.ceil(valueBytes / PAGE_SIZE) * PAGE_SIZE);
    return {
      path: ['target', index, backend.type, key],
      message: `is not a multiple of ${PAGE_SIZE} bytes`,
      remedy: `Linux initiators then move single sectors, slowly. Better: ${key} = "${next}"`,
    };
  });
}

function alignedKeys(backend: BackendConfig): [key: string, valueBytes: number | undefined][] {
  switch (backend.type) {
    case 'file':
      return [
        ['size', backend.sizeBytes],
        ['offset', backend.offsetBytes],
        ['length', backend.lengthBytes],
      ];
    case 'memory':
      return [['size', backend.sizeBytes]];
    case 'device':
    case 'cas':
      return [];
  }
}
