import { pino } from 'pino';
import type { ServedStoreOptions } from '../../src/stores/served-store.ts';
import { ServedStores } from '../../src/stores/served-stores.ts';

/** Serves the stores of this process, without targets and, if nothing else is said, without a log. */
export function quietStores(options: Partial<ServedStoreOptions> = {}): ServedStores {
  return new ServedStores({
    findTarget: async () => undefined,
    whilePaused: (_target, work) => work(),
    log: pino({ enabled: false }),
    ...options,
  });
}
