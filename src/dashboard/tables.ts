/** Targets, initiators and interfaces. */
import type { LinkStatus, ServerStatus, TargetStatus } from '../status.ts';
import { type Cell, fillRows, find, type Row, setText } from './dom.ts';
import {
  formatCount,
  formatDuration,
  formatLatency,
  formatMegabytes,
  formatNumberOf,
  formatSize,
} from './format.ts';
import type { History } from './history.ts';

/** What is dropped without an answer, and worth to be known. */
const DROPS: readonly (readonly [keyof ServerStatus['frames'], string])[] = [
  ['overload', 'too many in flight'],
  ['tooOld', 'too old'],
  ['denied', 'not allowed'],
  ['malformed', 'malformed'],
  ['badSource', 'impossible source'],
];

export function showTables(status: ServerStatus, history: History): void {
  fillRows(
    find('targets'),
    status.targets.map((target) => targetRow(target, history)),
  );
  const initiators = initiatorRows(status.targets);
  fillRows(find('initiators'), initiators);
  find('no-initiators').hidden = initiators.length > 0;
  fillRows(find('interfaces'), status.links.map(linkRow));
  const { frames, targets } = status;
  const drops = DROPS.map(([counter, reason]) => `${formatCount(frames[counter])} ${reason}`);
  const stale = targets.reduce((sum, { counters }) => sum + counters.stale, 0);
  setText(
    find('drops'),
    `Requests not taken up: ${drops.join(', ')}. Writes overtaken by a resend: ${formatCount(stale)}.`,
  );
}

function targetRow(target: TargetStatus, history: History): Row {
  const { name, backend, sizeBytes, failed, inFlight, maskList, reserveList, allow } = target;
  const rates = history.latest(name);
  const rate = (value: number | undefined) =>
    number(value === undefined ? '–' : formatCount(value));
  const answers = [allow, maskList].map((list) => list.length).filter((length) => length > 0);
  const reserved =
    reserveList.length === 0 ? 'not reserved' : `reserved for ${reserveList.join(', ')}`;
  return {
    key: name,
    className: failed ? 'bad' : '',
    cells: [
      { text: name, ...(target.configString && { detail: target.configString }) },
      { text: formatSize(sizeBytes), detail: backend },
      { text: describeState(target), detail: describeWrites(target), className: 'state' },
      rate(rates?.reads),
      rate(rates?.writes),
      number(formatMegabytes(rates?.readBytes)),
      number(formatMegabytes(rates?.writtenBytes)),
      number(formatLatency(rates?.p50Us)),
      number(formatLatency(rates?.p99Us)),
      number(`${inFlight}`),
      {
        text:
          answers.length === 0
            ? 'any initiator'
            : `${formatNumberOf(Math.min(...answers), 'initiator')}`,
        detail: reserved,
      },
    ],
  };
}

function describeState({ failed, drained }: TargetStatus): string {
  if (failed) return 'failed';
  return drained ? 'drained' : 'ok';
}

function describeWrites({ failed, readOnly, writeCache }: TargetStatus): string {
  if (failed) return 'a flush failed';
  if (readOnly) return 'read-only';
  return writeCache ? 'write cache' : 'durable';
}

/** Each once, whatever it uses; by address, so that none changes places while one reads. */
function initiatorRows(targets: readonly TargetStatus[]): Row[] {
  const found = new Map<string, { targets: string[]; requests: number; seenMs: number }>();
  for (const { name, clients } of targets) {
    for (const { mac, requests, lastSeen } of clients) {
      const initiator = found.get(mac) ?? { targets: [], requests: 0, seenMs: 0 };
      initiator.targets.push(name);
      initiator.requests += requests;
      initiator.seenMs = Math.max(initiator.seenMs, Date.parse(lastSeen));
      found.set(mac, initiator);
    }
  }
  return [...found]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([mac, { targets: used, requests, seenMs }]) => ({
      key: mac,
      cells: [
        { text: mac },
        { text: used.join(', ') },
        number(formatCount(requests)),
        number(`${formatDuration(Date.now() - seenMs)} ago`),
      ],
    }));
}

function linkRow({ interface: name, mac, mtu, counters }: LinkStatus): Row {
  const lost = counters && counters.dropped + counters.truncated + counters.unsent;
  const figures = [mtu, counters?.received, counters?.sent, lost];
  return {
    key: name,
    className: mac === null ? 'bad' : '',
    cells: [
      { text: name, detail: mac ?? 'down' },
      ...figures.map((figure) => number(figure == null ? '–' : formatCount(figure))),
    ],
  };
}

function number(text: string): Cell {
  return { text, className: 'number live' };
}
