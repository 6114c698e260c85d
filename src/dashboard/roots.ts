/** The volumes and snapshots of a store, and what can be done with them. */
import type { StoreList } from '../stores/contract.ts';
import { askStore } from './client.ts';
import { ask, type Question } from './dialog.ts';
import { fill, make, makeButton } from './dom.ts';
import { formatSize } from './format.ts';

/**
 * Makes a change, after the token was asked for if need be, and then says so, or what is wrong.
 *
 * @param change resolves to whether it was made, not given up
 */
export type Changed = (said: string, change: () => Promise<boolean>) => Promise<void>;

const NAME_PATTERN = '[A-Za-z0-9_.:@+\\-]{1,128}';
const NAME_HINT = 'Up to 128 letters, digits and . _ - + : @.';

export function makeRoots(store: string): HTMLElement {
  const heads = ['Name', 'Size', 'Made', 'Actions'].map((text) =>
    make('th', { scope: 'col' }, text),
  );
  const caption = make('caption', { className: 'unseen' }, `Volumes and snapshots of ${store}`);
  const head = make('thead', {}, make('tr', {}, ...heads));
  const table = make('table', { className: 'roots' }, caption, head, make('tbody'));
  const region = make('section', { className: 'scroll', tabIndex: 0 }, table);
  region.ariaLabel = `Volumes and snapshots of ${store}`;
  return region;
}

/** Fills the table. @param served names of volumes that targets serve */
export async function readRoots(
  article: HTMLElement,
  store: string,
  served: readonly string[],
  changed: Changed,
): Promise<void> {
  const { volumes, snapshots } = (await askStore(store, 'GET', '')) as StoreList;
  const question = (label: string, name: string, said: string, asked: Question) =>
    makeButton(label, name, () => void changed(said, () => ask(asked)));
  const remove = (name: string) =>
    question('Delete…', name, `${name} has been deleted.`, deletion(store, name));
  const rows = volumes.flatMap(({ name, sizeBytes }) => [
    rowOf(
      [name, served.includes(name) ? 'volume, served' : 'volume'],
      [formatSize(sizeBytes), ''],
      question('Snapshot…', name, `A snapshot of ${name} has been taken.`, taking(store, name)),
      ...(served.includes(name) ? [] : [remove(name)]),
    ),
    ...snapshots.filter(({ volume }) => volume === name).map(snapshotRow),
  ]);
  // Of volumes that are gone.
  const others = snapshots.filter(({ volume }) => volumes.every(({ name }) => name !== volume));
  // Rows that say the same stay, and with them the place of who uses the keyboard.
  fill(
    article.querySelector('tbody') as HTMLElement,
    [...rows, ...others.map(snapshotRow)],
    ({ textContent }) => textContent ?? '',
    (row) => row,
    () => {},
  );

  function snapshotRow({ name, volume, sizeBytes, created }: StoreList['snapshots'][number]) {
    const row = rowOf(
      [name, `snapshot of ${volume}`],
      [formatSize(sizeBytes), formatDate(created)],
      question('Clone…', name, `${name} has been cloned.`, cloning(store, name)),
      question('Roll back…', name, `${volume} is as ${name} was.`, goingBack(store, name, volume)),
      remove(name),
    );
    row.className = 'snapshot';
    return row;
  }
}

function rowOf([name, kind]: string[], figures: string[], ...actions: HTMLElement[]): HTMLElement {
  return make(
    'tr',
    {},
    make('th', { scope: 'row' }, make('span', {}, name ?? ''), make('small', {}, kind ?? '')),
    ...figures.map((figure) => make('td', { className: 'made' }, figure)),
    make('td', {}, make('div', { className: 'actions' }, ...actions)),
  );
}

function formatDate(date: string): string {
  return new Date(date).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
}

function taking(store: string, volume: string): Question {
  return {
    title: `Take a snapshot of ${volume}`,
    text: `It has every write that was acknowledged. ${NAME_HINT}`,
    fields: [{ name: 'name', label: 'Name of the snapshot', type: 'text', pattern: NAME_PATTERN }],
    action: 'Take snapshot',
    act: ({ name }) => askStore(store, 'POST', '/snapshots', { volume, name }),
  };
}

function cloning(store: string, source: string): Question {
  return {
    title: `Clone ${source}`,
    text: `Makes a new volume with this content. To serve it on shelf 1, slot 1, name it e1.1, add that target to the configuration, and reload. ${NAME_HINT}`,
    fields: [{ name: 'name', label: 'Name of the volume', type: 'text', pattern: NAME_PATTERN }],
    action: 'Clone',
    act: ({ name }) => askStore(store, 'POST', '/clones', { source, name }),
  };
}

function goingBack(store: string, source: string, volume: string): Question {
  return {
    title: `Roll ${volume} back to ${source}`,
    text: 'What was written since is lost, unless a snapshot has it. Unmount it on all initiators first: a mounted filesystem is damaged, and one that is idle cannot be seen from here.',
    fields: [{ name: 'force', label: 'Even if initiators use it now', type: 'checkbox' }],
    action: 'Roll back',
    isDangerous: true,
    act: ({ force }) =>
      askStore(store, 'POST', '/rollback', { volume, source, force: force === 'on' }),
  };
}

function deletion(store: string, name: string): Question {
  return {
    title: `Delete ${name}`,
    text: 'What only this holds is lost. The next collection gives its room back.',
    fields: [],
    action: 'Delete',
    isDangerous: true,
    act: () => askStore(store, 'DELETE', `/roots/${encodeURIComponent(name)}`),
  };
}
