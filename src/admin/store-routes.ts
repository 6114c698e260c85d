/** What can be asked about the stores of a running server. */
import type { z } from 'zod';
import {
  cloneSchema,
  deletedSchema,
  jobRequestSchema,
  jobSchema,
  jobStatusSchema,
  rollbackSchema,
  snapshotSchema,
  storeListSchema,
  takeSnapshotSchema,
  volumeSchema,
} from '../stores/contract.ts';
import type { ServedStore } from '../stores/served-store.ts';
import type { Operations } from './operations.ts';
import { RequestError, refusing } from './request.ts';
import type { Asked, Route } from './routes.ts';

export type StoreAsked<Body> = Asked<Body> & { readonly store: ServedStore };

export const STORE_ROUTES: readonly Route[] = [
  storeRoute({
    ...{ method: 'GET', path: '', summary: 'List the volumes and snapshots of a store' },
    answer: storeListSchema,
    act: ({ store }) => store.list(),
  }),
  storeRoute({
    ...{ method: 'POST', path: '/snapshots' },
    summary: 'Keep the present state of a volume under a name; it has all that was acknowledged',
    ...{ body: takeSnapshotSchema, answer: snapshotSchema },
    act: ({ store, body: { volume, name } }: StoreAsked<z.infer<typeof takeSnapshotSchema>>) =>
      store.snapshot(volume, name),
  }),
  storeRoute({
    ...{ method: 'POST', path: '/clones' },
    summary: 'Make a new volume with the content of a snapshot; a reload can serve it at once',
    ...{ body: cloneSchema, answer: volumeSchema },
    act: ({ store, body: { source, name } }: StoreAsked<z.infer<typeof cloneSchema>>) =>
      store.clone(source, name),
  }),
  storeRoute({
    ...{ method: 'POST', path: '/rollback' },
    summary: 'Give a volume the content of a snapshot, and announce its target; its own is lost',
    ...{ body: rollbackSchema, answer: volumeSchema },
    act: ({ store, body, signal }: StoreAsked<z.infer<typeof rollbackSchema>>) =>
      store.rollback(body.volume, body.source, body.force ?? false, signal),
  }),
  storeRoute({
    ...{ method: 'DELETE', path: '/roots/{name}' },
    summary: 'Delete a volume or snapshot that no target serves',
    answer: deletedSchema,
    act: ({ store, named }) => store.delete(named['name'] as string),
  }),
  storeRoute({
    ...{ method: 'POST', path: '/jobs' },
    summary: 'Start work that takes its time; one collect or scrub runs at once, and one of others',
    ...{ body: jobRequestSchema, answer: jobStatusSchema },
    async act({ store, body }: StoreAsked<z.infer<typeof jobRequestSchema>>) {
      const job = store.startJob(body);
      if (job !== undefined) return job;
      throw new RequestError(503, 'too many jobs wait already', 'wait for them, or cancel some');
    },
  }),
  storeRoute({
    ...{ method: 'GET', path: '/jobs/{job}' },
    summary: 'Tell how far a job is, and what came of it; the last few that ended are kept',
    answer: jobSchema,
    act: async ({ store, named }) => store.job(Number(named['job'])) ?? noJob(named),
  }),
  storeRoute({
    ...{ method: 'DELETE', path: '/jobs/{job}' },
    summary: 'Cancel a job',
    answer: jobStatusSchema,
    act: async ({ store, named }) => store.cancelJob(Number(named['job'])) ?? noJob(named),
  }),
];

/** @param route its path goes on behind that of the store */
export function storeRoute({
  path,
  act,
  ...route
}: Omit<Route, 'run'> & { act(asked: StoreAsked<never>): Promise<unknown> }): Route {
  return {
    ...route,
    path: `/v1/stores/{store}${path}`,
    async run(operations, asked) {
      const store = operations.store(asked.named['store'] as string);
      if (store === undefined) throw await noStore(operations, asked.named);
      return refusing(act({ ...asked, store }));
    },
  };
}

function noJob({ job }: Asked<never>['named']): never {
  throw new RequestError(
    404,
    `there is no job ${job}`,
    'see which ones there are: aoe-server status',
  );
}

async function noStore(
  operations: Operations,
  { store }: Asked<never>['named'],
): Promise<RequestError> {
  const { stores } = await operations.status();
  const paths = stores.map(({ path }) => path).join(', ');
  return new RequestError(404, `there is no store ${store} open`, `those open are: ${paths}`);
}
