/**
 * Snapshots on their way from and to the stores of a running server. Who asks for one sees all that
 * is on a disk, so the dashboard does not have these.
 */
import { nameSchema, type ReceivedSnapshot, receivedSchema } from '../stores/contract.ts';
import { BYTES, type Bytes, RequestError, refusingBytes } from './request.ts';
import type { Route } from './routes.ts';
import { type StoreAsked, storeRoute } from './store-routes.ts';

const FROM = 'Snapshot, volume, or root hash that the receiver has: only what differs is sent.';
const QUERY = { from: FROM };

export const STREAM_ROUTES: readonly Route[] = [
  storeRoute({
    ...{ method: 'GET', path: '/streams/{root}', query: QUERY, answer: BYTES },
    summary: 'Send a snapshot to another store; a stream that breaks off has no end',
    act: send,
  }),
  storeRoute({
    ...{ method: 'POST', path: '/streams/{root}', query: QUERY, body: BYTES, answer: BYTES },
    summary: 'The same without what is in a list of what the receiver has',
    act: send,
  }),
  storeRoute({
    ...{ method: 'PUT', path: '/streams/{root}', body: BYTES, answer: receivedSchema },
    summary: 'Make a snapshot of a stream; durable when answered, and nothing stays of a wrong one',
    act: receive,
  }),
  storeRoute({
    ...{ method: 'GET', path: '/hashes', answer: BYTES },
    summary: 'List what the store has, for a sender',
    act: async ({ store, signal }) => refusingBytes(store.streams.hashes(signal)),
  }),
];

async function send(asked: StoreAsked<Bytes | undefined>): Promise<Bytes> {
  const { store, named, query, body: list, signal } = asked;
  const from = query.get('from') ?? undefined;
  return refusingBytes(store.streams.send(named['root'] as string, { from, list }, signal));
}

async function receive(asked: StoreAsked<Bytes>): Promise<ReceivedSnapshot> {
  const { store, named, body, signal } = asked;
  const { data: name, error } = nameSchema.safeParse(named['root']);
  if (name === undefined) throw new RequestError(400, error?.issues[0]?.message as string);
  return store.streams.receive(name, body, signal);
}
