/** The server as a whole: what it is, whether it answers, what is wrong, what it does now. */
import type { ServerStatus } from '../status.ts';
import type { StoreStatus } from '../stores/contract.ts';
import { fill, find, make, setText } from './dom.ts';
import { formatCount, formatDuration, formatMegabytes, formatNumberOf } from './format.ts';
import type { History } from './history.ts';

export type Connection =
  | { readonly state: 'answering' }
  /** @property since when the server last answered; null for never */
  | { readonly state: 'silent'; readonly since: Date | null }
  | { readonly state: 'locked' };

const CONNECTION_TEXTS = {
  answering: 'Connected',
  silent: 'No answer',
  locked: 'Locked',
} as const;

interface Notice {
  readonly subject: string;
  readonly text: string;
}

export function showConnection(connection: Connection, status: ServerStatus | undefined): void {
  document.body.dataset['state'] = connection.state;
  setText(find('connection'), CONNECTION_TEXTS[connection.state]);
  const notices = [...noticesOfConnection(connection), ...(status ? noticesOf(status) : [])];
  fill(
    find('notices'),
    notices,
    ({ subject }) => subject,
    () => make('p', {}, make('strong'), make('span')),
    (line, { subject, text }) => {
      setText(line.children[0] as Element, `${subject} `);
      setText(line.children[1] as Element, text);
    },
  );
}

export function showOverview(status: ServerStatus, history: History): void {
  const up = formatDuration(Date.now() - Date.parse(status.startedAt));
  const facts = [`version ${status.version}`, `up ${up}`, formatNumberOf(status.workers, 'thread')];
  setText(find('facts'), facts.join(' · '));
  const rates = history.latest();
  const requests = rates && rates.reads + rates.writes;
  setText(find('reading'), `${formatMegabytes(rates?.readBytes)} MB/s`);
  setText(find('writing'), `${formatMegabytes(rates?.writtenBytes)} MB/s`);
  setText(find('requests'), requests === undefined ? '–' : `${formatCount(requests)} /s`);
  setText(find('in-flight'), `${status.inFlight} of ${formatCount(status.inFlightMax)}`);
  setText(find('dropped'), formatCount(countDropped(status)));
}

/** Frames that initiators had to send again, or gave up. */
function countDropped({ frames, links }: ServerStatus): number {
  const lost = links.map(({ counters }) =>
    counters === null ? 0 : counters.dropped + counters.truncated + counters.unsent,
  );
  return lost.reduce((sum, count) => sum + count, frames.overload + frames.tooOld);
}

function noticesOfConnection(connection: Connection): Notice[] {
  if (connection.state === 'locked') {
    return [{ subject: 'The token is needed', text: 'to see this server from another machine.' }];
  }
  if (connection.state === 'answering') return [];
  const { since } = connection;
  const text =
    since === null
      ? 'Is it running?'
      : `since ${since.toLocaleTimeString('en-GB')}. What is shown here is from then.`;
  return [{ subject: 'The server does not answer', text }];
}

function noticesOf({ targets, stores, links }: ServerStatus): Notice[] {
  const down = links.filter(({ mac }) => mac === null);
  const failed = targets.filter((target) => target.failed);
  const drained = targets.filter((target) => target.drained);
  const failedStores = stores.filter((store) => store.failed);
  const damaged = stores.filter((store) => store.damaged);
  return [
    ...failed.map(({ name }) => ({
      subject: `${name} has failed:`,
      text: 'a flush failed, so no write succeeds until it is opened anew, by readd or a restart. It can be read.',
    })),
    ...drained.map(({ name }) => ({
      subject: `${name} is drained:`,
      text: 'it is silent for initiators until it is resumed.',
    })),
    ...failedStores.map(({ path }) => ({
      subject: `${path} has failed:`,
      text: 'nothing can be written to this store until it is opened anew, by readd or a restart.',
    })),
    ...damaged.map(({ path }) => ({
      subject: `${path} is damaged:`,
      text: 'this store was found so when it was opened, and is for reading only.',
    })),
    ...stores.flatMap(noticesOfBlobStore),
    ...down.map((link) => ({
      subject: `${link.interface} is down:`,
      text: 'initiators reach no target there.',
    })),
  ];
}

function noticesOfBlobStore({ path, blobStore }: StoreStatus): Notice[] {
  if (blobStore?.localDamage) {
    const text = `the local disk keeps it from being stored elsewhere: ${blobStore.localDamage}`;
    return [{ subject: `${path} is damaged:`, text }];
  }
  if (!blobStore?.unreachable) return [];
  const text = `its blob store does not take what is written: ${blobStore.unreachable}`;
  return [{ subject: `${path} is behind:`, text }];
}
