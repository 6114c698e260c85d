/** The page: asks the server once a second, while somebody can see it, and shows what it tells. */
import type { ServerStatus } from '../status.ts';
import { Chart } from './chart.ts';
import { forgetToken, hasToken, RefusedError, readStatus } from './client.ts';
import { askToken } from './dialog.ts';
import { fill, find, make, setText } from './dom.ts';
import { formatDigits, formatLatency } from './format.ts';
import { History } from './history.ts';
import { type Connection, showConnection, showOverview } from './overview.ts';
import type { Changed } from './roots.ts';
import { forgetLists, showStores } from './stores.ts';
import { showTables } from './tables.ts';

const INTERVAL_MS = 1000;

const history = new History();
const chartTarget = find<HTMLSelectElement>('chart-target');
const tokenButton = find('token');
const throughput = new Chart(find('throughput'), {
  title: 'Throughput, MB/s',
  lines: [
    { name: 'read', measure: ({ readBytes }) => readBytes / 1e6 },
    { name: 'write', measure: ({ writtenBytes }) => writtenBytes / 1e6 },
  ],
  least: 1,
  format: (value = 0) => formatDigits(value),
});
const latency = new Chart(find('latency'), {
  title: 'Latency',
  lines: [
    { name: 'p50', measure: ({ p50Us }) => p50Us },
    { name: 'p99', measure: ({ p99Us }) => p99Us },
  ],
  least: 100,
  format: formatLatency,
});

let status: ServerStatus | undefined;
let answeredAt: Date | null = null;
let timer: number | undefined;

chartTarget.addEventListener('change', showCharts);
document.addEventListener('visibilitychange', pollWhileSeen);
tokenButton.addEventListener('click', () => {
  if (hasToken()) forgetToken();
  else void askToken().then(pollWhileSeen);
  showToken();
});
showToken();
pollWhileSeen();

function pollWhileSeen(): void {
  clearTimeout(timer);
  if (document.visibilityState === 'visible') void poll();
}

async function poll(): Promise<void> {
  clearTimeout(timer);
  const startMs = performance.now();
  const connection = await read();
  showConnection(connection, status);
  showCharts();
  const isLocked = connection.state === 'locked' && !(await askToken());
  showToken();
  clearTimeout(timer);
  if (isLocked || document.visibilityState !== 'visible') return;
  timer = setTimeout(poll, Math.max(0, startMs + INTERVAL_MS - performance.now()));
}

async function read(): Promise<Connection> {
  let next: ServerStatus;
  try {
    next = await readStatus();
  } catch (error) {
    if (!(error instanceof RefusedError && error.isForToken)) {
      return { state: 'silent', since: answeredAt };
    }
    if (!hasToken()) return { state: 'locked' };
    // The server has another one now; to look, it may need none.
    forgetToken();
    return read();
  }
  if (status?.startedAt !== next.startedAt) forgetLists();
  status = next;
  answeredAt = new Date();
  history.add(next, performance.now());
  showOverview(next, history);
  showTables(next, history);
  showStores(next, change);
  return { state: 'answering' };
}

const change: Changed = async (said, work) => {
  const message = find('message');
  setText(message, '');
  try {
    if (!(await askToken())) return;
    if (await work()) setText(message, said);
  } catch (error) {
    if (error instanceof RefusedError && error.isForToken) forgetToken();
    setText(message, (error as Error).message);
  }
  forgetLists();
};

function showCharts(): void {
  const names = status?.targets.map(({ name }) => name) ?? [];
  fill(
    chartTarget,
    ['', ...names],
    (name) => name,
    (name) => make('option', { value: name }, name || 'all targets'),
    () => {},
  );
  const name = chartTarget.value;
  for (const chart of [throughput, latency]) {
    chart.show(history.of(name), performance.now(), name || 'all targets');
  }
}

function showToken(): void {
  setText(tokenButton, hasToken() ? 'Forget token' : 'Enter token…');
}
