/** The content-addressed stores: space, volumes and snapshots, work that goes on. */
import type { ServerStatus } from '../status.ts';
import type { JobStatus, StoreStatus } from '../stores/contract.ts';
import { askStore } from './client.ts';
import { fill, find, make, makeButton, setText } from './dom.ts';
import { formatDigits, formatDuration, formatSize } from './format.ts';
import { type Changed, makeRoots, readRoots } from './roots.ts';

const JOBS: readonly (readonly [kind: JobStatus['kind'], label: string, words: string])[] = [
  ['collect', 'Collect garbage', 'Collection'],
  ['scrub', 'Scrub', 'Scrub'],
  ['stats', 'Measure', 'Measurement'],
];

/** What the list of volumes and snapshots of a store was made for, to notice that it is old. */
const shown = new Map<string, string>();

/** @param changed makes a change of a store, and says so */
export function showStores({ stores, targets }: ServerStatus, changed: Changed): void {
  find('no-stores').hidden = stores.length > 0;
  fill(
    find('stores'),
    stores,
    ({ path }) => path,
    ({ path }) => makeStore(path, changed),
    (article, store) => {
      updateStore(article, store, changed);
      const served = targets.filter(({ backend }) => backend === 'cas').map(({ name }) => name);
      const state = JSON.stringify([store.volumes, store.snapshots, served]);
      if (shown.get(store.path) === state) return;
      shown.set(store.path, state);
      readRoots(article, store.path, served, changed).catch(() => shown.delete(store.path));
    },
  );
}

/** The lists are read again: the server may have changed. */
export function forgetLists(): void {
  shown.clear();
}

function makeStore(path: string, changed: Changed): HTMLElement {
  const buttons = JOBS.map(([kind, label, words]) =>
    makeButton(label, path, () => {
      const start = () => askStore(path, 'POST', '/jobs', { kind }).then(() => true);
      void changed(`${words} of ${path} has been started.`, start);
    }),
  );
  return make(
    'article',
    {},
    make('div', { className: 'heading' }, make('h3', {}, path), make('p', { className: 'state' })),
    make('dl', { className: 'space' }),
    makeRoots(path),
    make('div', { className: 'buttons' }, ...buttons),
    // Last: it grows and shrinks.
    make('ul', { className: 'jobs' }),
  );
}

function updateStore(article: HTMLElement, store: StoreStatus, changed: Changed): void {
  const [heading, space, , , jobs] = Array.from(article.children) as HTMLElement[];
  const state = describeState(store);
  setText(heading?.querySelector('.state') as Element, state);
  article.className = state === 'ok' ? '' : 'bad';
  fill(
    space as HTMLElement,
    figuresOf(store),
    ([name]) => name,
    ([name]) => make('div', {}, make('dt', {}, name), make('dd'), make('dd')),
    (figure, [, text, detail]) => {
      setText(figure.children[1] as Element, text);
      setText(figure.children[2] as Element, detail);
    },
  );
  fill(
    jobs as HTMLElement,
    jobsToShow(store.jobs),
    ({ id }) => `${id}`,
    (job) => makeJob(store.path, job, changed),
    updateJob,
  );
}

function describeState({ failed, damaged, blobStore }: StoreStatus): string {
  if (failed) return 'failed';
  if (damaged || blobStore?.localDamage) return 'damaged';
  return blobStore?.unreachable ? 'behind' : 'ok';
}

function figuresOf({
  measured,
  physicalBytes,
  usedBytes,
}: StoreStatus): [string, string, string][] {
  const figures = measured?.figures;
  const size = (bytes: number | undefined) => (bytes === undefined ? '–' : formatSize(bytes));
  const ratio = (words: string, amount = 0, by = 0) =>
    by > 0 ? `${words} ${formatDigits(amount / by)} : 1` : '';
  const { logicalBytes, uniqueBytes, compressedBytes, garbageBytes } = figures ?? {};
  const age = measured && formatDuration(Date.now() - Date.parse(measured.at));
  return [
    ['Logical', size(logicalBytes), age === null ? 'not measured yet' : `measured ${age} ago`],
    ['Unique', size(uniqueBytes), ratio('dedup', logicalBytes, uniqueBytes)],
    ['Compressed', size(compressedBytes), ratio('compression', uniqueBytes, compressedBytes)],
    ['Garbage', size(garbageBytes), ''],
    ['Physical', formatSize(physicalBytes), `${formatSize(usedBytes)} used`],
  ];
}

/** All that go on, and the last of each kind that ended. */
function jobsToShow(jobs: readonly JobStatus[]): JobStatus[] {
  return jobs.filter((job, index) => {
    return isGoingOn(job) || !jobs.slice(index + 1).some(({ kind }) => kind === job.kind);
  });
}

function makeJob(store: string, { id, kind }: JobStatus, changed: Changed): HTMLElement {
  const words = JOBS.find(([known]) => known === kind)?.[2] ?? kind;
  const progress = make('progress', { ariaLabel: `Progress of ${words} of ${store}` });
  const cancel = makeButton('Cancel', `${words} of ${store}`, () => {
    const end = () => askStore(store, 'DELETE', `/jobs/${id}`).then(() => true);
    void changed(`${words} of ${store} has been cancelled.`, end);
  });
  return make('li', {}, make('b', {}, words), make('span'), progress, cancel);
}

function updateJob(line: HTMLElement, job: JobStatus): void {
  const { state, phase, doneBytes, totalBytes, startedAt } = job;
  const [, text, progress, cancel] = Array.from(line.children);
  const ago = `${formatDuration(Date.now() - Date.parse(startedAt))} ago`;
  const done = totalBytes > 0 ? `, ${formatSize(doneBytes)} of ${formatSize(totalBytes)}` : '';
  const goesOn = isGoingOn(job);
  line.className = state;
  setText(text as Element, goesOn ? `${phase ?? state}${done}` : `${state}, started ${ago}`);
  const bar = progress as HTMLProgressElement;
  bar.hidden = !goesOn;
  (cancel as HTMLButtonElement).hidden = !goesOn;
  // Without a value it says that something goes on.
  if (totalBytes === 0) bar.removeAttribute('value');
  else bar.value = Math.min(1, doneBytes / totalBytes);
}

function isGoingOn({ state }: JobStatus): boolean {
  return state === 'waiting' || state === 'running';
}
