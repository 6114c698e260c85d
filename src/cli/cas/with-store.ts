import type { CasStore, StoreOptions } from '../../backends/cas/index.ts';
import { StartupError } from '../../core/startup-error.ts';
import { SECTORS_PER_BLOCK } from '../../stores/sectors.ts';

/**
 * Opens an existing store, works on it and closes it. What is found damaged on the way goes to
 * standard error.
 *
 * @throws {StartupError} there is none, it is open elsewhere, or it cannot be read
 */
export async function withStore<T>(
  path: string,
  work: (store: CasStore) => T | Promise<T>,
): Promise<T> {
  // Loaded on demand: the other commands work where the native addon does not.
  const { isStore } = await import('../../backends/cas/index.ts');
  if (!isStore(path)) {
    throw new StartupError(
      `there is no store at ${path}`,
      'name the directory that targets have as blob_store.path; aoe-server import makes a new one',
    );
  }
  return await withStoreOrNew(path, work);
}

/** The same; makes a store when there is none. */
export async function withStoreOrNew<T>(
  path: string,
  work: (store: CasStore) => T | Promise<T>,
  options: Partial<StoreOptions> = {},
): Promise<T> {
  const { openCasStore, openOwnBlobs } = await import('../../backends/cas/index.ts');
  const remote = await openOwnBlobs(path);
  const store = await openCasStore(path, {
    ...options,
    onProblem: (problem) => warn(`the store is damaged: ${problem}`),
    onDamage: ({ volume, lba, error }) =>
      warn(`${volume} is damaged at LBA ${lba * SECTORS_PER_BLOCK}: ${error.message}`),
    onFailed: ({ message }) => warn(message),
    remote: remote && {
      ...remote,
      onTrouble: ({ message }) => warn(`the blob store: ${message}`),
      onLocalDamage: ({ message }) => warn(message),
    },
  });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

function warn(message: string): void {
  console.error(`warning: ${message}`);
}
