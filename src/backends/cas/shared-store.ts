/**
 * The stores that this process has open, by path: each once, for all targets in it and whatever else
 * works with it.
 *
 * Invariants: a store is in `shared` from before it is opened until after it is closed. It is closed
 * when the last of its users and visits ends.
 */
import { resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { StartupError } from '../../core/startup-error.ts';
import { openCasStore } from './open.ts';
import type { CasStore } from './store.ts';
import type { StoreOptions } from './store-options.ts';

interface SharedStore {
  readonly options: Partial<StoreOptions>;
  readonly store: Promise<CasStore>;
  /** Undefined while it is being opened or closed. */
  opened: CasStore | undefined;
  /** Devices on it. */
  users: number;
  /** Works that go on besides: see {@link withOpenStore}. */
  visits: number;
  isClosing: boolean;
}

/** How long to wait for what ends by itself, such as a request for figures. */
const VISIT_MS_MAX = 1000;
const CLOSE_MS_MAX = 60_000;
const POLL_MS = 5;

const shared = new Map<string, SharedStore>();

/**
 * Opens a store for one more user of this process.
 *
 * @param options count for the first one; they must say the same about how the store is kept
 * @returns the store, and a function that gives it back: the last one closes it
 * @throws {StartupError} it is open with other options, or cannot be opened
 */
export async function shareCasStore(
  path: string,
  options: Partial<StoreOptions> = {},
): Promise<{ readonly store: CasStore; release(): Promise<void> }> {
  const key = resolve(path);
  let entry = shared.get(key);
  while (entry !== undefined && !canShare(entry, options)) {
    await whenStoreClosed(key);
    entry = shared.get(key);
  }
  entry ??= {
    options,
    store: openCasStore(key, options),
    opened: undefined,
    users: 0,
    visits: 0,
    isClosing: false,
  };
  shared.set(key, entry);
  entry.users++;
  try {
    entry.opened = await entry.store;
  } catch (error) {
    if (--entry.users === 0) shared.delete(key);
    throw error;
  }
  const taken = entry;
  return {
    store: entry.opened,
    release: () => {
      taken.users--;
      return closeUnused(key, taken);
    },
  };
}

/**
 * Waits for a store to be closed that this process should not use any more.
 *
 * @throws {StartupError} it stays open: why, and the remedy
 */
export async function whenStoreClosed(path: string): Promise<void> {
  const key = resolve(path);
  const startMs = performance.now();
  for (let entry = shared.get(key); entry !== undefined; entry = shared.get(key)) {
    const waitMsMax = entry.isClosing ? CLOSE_MS_MAX : VISIT_MS_MAX;
    const isOver = performance.now() - startMs >= waitMsMax;
    if (isOver || entry.users > 0) throw staysOpen(key, entry);
    await sleep(POLL_MS);
  }
}

/** Waits for all stores to be closed that no device is open on: what still works with them ends. */
export async function whenUnusedStoresClosed(): Promise<void> {
  while ([...shared.values()].some(({ users }) => users === 0)) await sleep(POLL_MS);
}

/** The paths of the stores that this process has open. */
export function openStorePaths(): string[] {
  return [...shared].filter(([, { opened }]) => opened !== undefined).map(([path]) => path);
}

/**
 * Works with a store that this process has open, which stays open for as long.
 *
 * @returns undefined when it is not open
 */
export async function withOpenStore<T>(
  path: string,
  work: (store: CasStore) => Promise<T>,
): Promise<{ readonly result: T } | undefined> {
  const visit = visitOpenStore(path);
  if (visit === undefined) return undefined;
  try {
    return { result: await work(visit.store) };
  } finally {
    await visit.leave();
  }
}

/**
 * The same for what is no function: the store stays open until `leave` is called, once.
 *
 * @returns undefined when it is not open
 */
export function visitOpenStore(
  path: string,
): { readonly store: CasStore; leave(): Promise<void> } | undefined {
  const entry = shared.get(path);
  if (entry?.opened === undefined) return undefined;
  entry.visits++;
  return {
    store: entry.opened,
    leave: () => {
      entry.visits--;
      return closeUnused(path, entry);
    },
  };
}

async function closeUnused(key: string, entry: SharedStore): Promise<void> {
  const store = entry.opened;
  if (entry.users + entry.visits > 0 || store === undefined) return;
  entry.opened = undefined;
  entry.isClosing = true;
  try {
    await store.close();
  } finally {
    shared.delete(key);
  }
}

function canShare({ isClosing, options }: SharedStore, other: Partial<StoreOptions>): boolean {
  return !isClosing && isDeepStrictEqual(keepingOf(options), keepingOf(other));
}

/** How a store is kept: in how much memory, and where besides this disk. */
function keepingOf({ indexBytesMax, remote }: Partial<StoreOptions>): object {
  if (remote === undefined) return { indexBytesMax };
  const { location, durability, cacheBytes, lagBytesMax } = remote;
  return { indexBytesMax, location, durability, cacheBytes, lagBytesMax };
}

function staysOpen(path: string, { isClosing, users }: SharedStore): StartupError {
  if (isClosing) {
    return new StartupError(`the store ${path} is still being closed`, 'wait, and try again');
  }
  if (users > 0) {
    return new StartupError(
      `other targets have the store ${path} open`,
      'drain all targets of the store first',
    );
  }
  return new StartupError(
    `a job, or a snapshot that is sent or received, has the store ${path} open`,
    'wait for its end, or cancel it: aoe-server cas cancel for a job, else interrupt the command',
  );
}
