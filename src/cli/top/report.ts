/** Writes the activity of a server for people: lines of text, as wide as they come. */
import { formatAge } from '../status.ts';
import type { Activity, LinkActivity, TargetActivity } from './activity.ts';

interface Column {
  readonly head: string;
  value(target: TargetActivity): number | null;
  format(value: number): string;
}

const COLUMNS: readonly Column[] = [
  { head: 'R/S', value: ({ reads }) => reads, format: formatRate },
  { head: 'W/S', value: ({ writes }) => writes, format: formatRate },
  { head: 'RMB/S', value: ({ readBytes }) => readBytes, format: formatMegabytes },
  { head: 'WMB/S', value: ({ writtenBytes }) => writtenBytes, format: formatMegabytes },
  { head: 'RP50', value: ({ readP50Us }) => readP50Us, format: formatMilliseconds },
  { head: 'RP99', value: ({ readP99Us }) => readP99Us, format: formatMilliseconds },
  { head: 'WP50', value: ({ writeP50Us }) => writeP50Us, format: formatMilliseconds },
  { head: 'WP99', value: ({ writeP99Us }) => writeP99Us, format: formatMilliseconds },
  { head: 'FLIGHT', value: ({ inFlight }) => inFlight, format: String },
  { head: 'RESENT', value: ({ resends }) => resends, format: formatRate },
  { head: 'FAILED', value: ({ failures }) => failures, format: formatRate },
  { head: 'CLIENTS', value: ({ clients }) => clients, format: String },
];

/** Targets can stand in the order of any column; 0 is that of their addresses. */
export const ORDER_COUNT = COLUMNS.length + 1;

/** All columns fit into 80 when numbers are small. */
const GAP = ' ';
const MARK = '*';

/** @param order a column from 1, by whose values targets are sorted, the highest first; or 0 */
export function formatActivity(activity: Activity, order = 0): string[] {
  return [
    headLine(activity),
    `dropped/s: ${formatRate(activity.overload)} overload, ${formatRate(activity.tooOld)} too old`,
    ...activity.interfaces.map(linkLine),
    ...noteLines(activity),
    '',
    'Targets; reads and writes by second, the median and 99 % of their latencies in ms:',
    ...targetLines(sortTargets(activity.targets, order), order),
  ];
}

function headLine(activity: Activity): string {
  const { version, startedAt, targets, requests, inFlight, inFlightMax } = activity;
  const load = `${formatRate(requests)} requests/s, ${inFlight} of ${inFlightMax} in flight`;
  return `aoe-server ${version}, up ${formatAge(startedAt)}, targets: ${targets.length}, ${load}`;
}

function linkLine({ interface: name, up, received, sent, lost }: LinkActivity): string {
  if (!up) return `${name}: DOWN`;
  const [receivedRate, sentRate, lostRate] = [received, sent, lost].map(formatRate);
  return `${name}: ${receivedRate} received/s, ${sentRate} sent/s, ${lostRate} lost/s`;
}

function noteLines({ restarted, added, removed }: Activity): string[] {
  return [
    ...(restarted ? ['The server was started again; this is since then.'] : []),
    ...(added.length > 0 ? [`New: ${added.join(', ')}`] : []),
    ...(removed.length > 0 ? [`Gone: ${removed.join(', ')}`] : []),
  ];
}

function sortTargets(targets: readonly TargetActivity[], order: number): TargetActivity[] {
  const column = COLUMNS[order - 1];
  if (column === undefined) return [...targets];
  return targets.toSorted((x, y) => (column.value(y) ?? -1) - (column.value(x) ?? -1));
}

/** Numbers stand below one another. */
function targetLines(targets: readonly TargetActivity[], order: number): string[] {
  const heads = COLUMNS.map(({ head }, index) => (index === order - 1 ? head + MARK : head));
  const rows = targets.map((target) => [
    formatName(target),
    ...COLUMNS.map(({ value, format }) => {
      const found = value(target);
      return found === null ? '-' : format(found);
    }),
  ]);
  const table = [['TARGET', ...heads], ...rows];
  const widths = heads.map((_, index) =>
    Math.max(...table.map((row) => cell(row, index + 1).length)),
  );
  const nameWidth = Math.max(...table.map((row) => cell(row, 0).length));
  return table.map((row) => {
    const numbers = widths.map((width, index) => cell(row, index + 1).padStart(width));
    return [cell(row, 0).padEnd(nameWidth), ...numbers].join(GAP);
  });
}

function formatName({ name, failed, drained }: TargetActivity): string {
  if (failed) return `${name} FAILED`;
  return drained ? `${name} drained` : name;
}

function cell(row: readonly string[], column: number): string {
  return row[column] ?? '';
}

function formatRate(rate: number): string {
  return rate.toFixed(rate > 0 && rate < 10 ? 1 : 0);
}

function formatMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function formatMilliseconds(us: number): string {
  return (us / 1000).toFixed(2);
}
