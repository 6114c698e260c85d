import type { Command } from 'commander';
import type { LinkStatus, ServerStatus, TargetStatus } from '../status.ts';
import type { JobStatus, StoreStatus } from '../stores/contract.ts';
import { ask } from './control-client.ts';
import { controlCommand } from './control-command.ts';
import { type PrintOptions, print } from './print.ts';
import { formatRoundSize } from './round-size.ts';
import { formatTable } from './table.ts';

/** How many addresses of a list are shown before it is cut short. */
const LISTED_MAX = 2;
/** How many initiators of a target are shown; --json shows all. */
const CLIENTS_SHOWN_MAX = 16;

/** Why frames were not taken up, where that is no matter of course. */
const UNANSWERED: readonly (readonly [keyof ServerStatus['frames'], string])[] = [
  ['overload', 'too many requests in flight'],
  ['tooOld', 'waited too long'],
  ['denied', 'initiator not allowed'],
  ['malformed', 'malformed'],
  ['badSource', 'impossible source address'],
];

const AFTER_HELP = `
States:
  up, DOWN   an interface receives and sends, or is taken up once it is there again
  ok         a target or store is served
  drained    a target is kept silent until it is resumed
  FAILED     writing has failed: nothing more is written until it is opened anew (readd)
  DAMAGED    a store has damage: it is read-only, or some of it cannot be stored in its blob
             service; cas scrub tells where
  BEHIND     the blob service of a store does not answer, and lacks what was written last
`;

/** Shows a running server. */
export function addStatusCommand(program: Command): void {
  const examples = [
    'aoe-server status /etc/aoe-server.toml',
    "aoe-server status --json /etc/aoe-server.toml | jq '.targets[] | select(.failed).name'",
  ];
  controlCommand(program, 'status', examples)
    .description('show the targets, interfaces and counters of a running server')
    .addHelpText('after', AFTER_HELP)
    .action(status);
}

async function status(config: string, options: PrintOptions): Promise<void> {
  const answer = (await ask(config, 'GET', '/v1/status')) as ServerStatus;
  print(answer, options, formatStatus);
}

/** Writes a status for people. */
function formatStatus(status: ServerStatus): string {
  const parts = [
    formatTable(serverRows(status)),
    formatTable([
      ['INTERFACE', 'STATE', 'MTU', 'MAC', 'RECEIVED', 'SENT', 'LOST'],
      ...status.links.map(linkRow),
    ]),
    formatTable([
      [
        ...['TARGET', 'STATE', 'SIZE', 'BACKEND', 'WRITES', 'READ', 'WRITTEN', 'IN FLIGHT'],
        ...['FAILURES', 'ANSWERS', 'RESERVED FOR'],
      ],
      ...status.targets.map(targetRow),
    ]),
    ...optionalTable(
      ['TARGET', 'OPERATION', 'REQUESTS', 'P50', 'P99', 'P99.9'],
      status.targets.flatMap(latencyRows),
    ),
    ...optionalTable(
      ['TARGET', 'INITIATOR', 'REQUESTS', 'LAST SEEN'],
      status.targets.flatMap(clientRows),
    ),
    ...optionalTable(
      [
        ...['STORE', 'STATE', 'VOLUMES', 'SNAPSHOTS', 'LOGICAL', 'UNIQUE', 'COMPRESSED'],
        ...['PHYSICAL', 'GARBAGE', 'INDEX', 'MEASURED'],
      ],
      status.stores.map(storeRow),
    ),
    ...optionalTable(
      ['STORE', 'JOB', 'KIND', 'STATE', 'PROGRESS', 'STARTED'],
      status.stores.flatMap(({ path, jobs }) => jobs.map((job) => jobRow(path, job))),
    ),
  ];
  return parts.join('\n\n');
}

/** A table, unless it would be empty. */
function optionalTable(head: string[], rows: string[][]): string[] {
  return rows.length === 0 ? [] : [formatTable([head, ...rows])];
}

function latencyRows({ name, latencyUs }: TargetStatus): string[][] {
  return Object.entries(latencyUs)
    .filter(([, { count }]) => count > 0)
    .map(([operation, { count, p50, p99, p999 }]) => {
      return [name, operation, `${count}`, ...[p50, p99, p999].map(formatMicroseconds)];
    });
}

function clientRows({ name, clients }: TargetStatus): string[][] {
  return clients
    .slice(0, CLIENTS_SHOWN_MAX)
    .map(({ mac, requests, lastSeen }) => [name, mac, `${requests}`, `${formatAge(lastSeen)} ago`]);
}

function formatMicroseconds(us: number): string {
  if (us < 1000) return `${us} us`;
  const ms = us / 1000;
  return ms < 1000 ? `${ms.toPrecision(3)} ms` : `${(ms / 1000).toPrecision(3)} s`;
}

function serverRows(status: ServerStatus): string[][] {
  const { frames } = status;
  const unanswered = UNANSWERED.filter(([counter]) => frames[counter] > 0);
  const reasons = unanswered.map(([counter, reason]) => `${frames[counter]} ${reason}`);
  return [
    [
      'server',
      `aoe-server ${status.version}, process ${status.pid}, up ${formatAge(status.startedAt)}`,
    ],
    ['configuration', status.configPath],
    ['threads', `${status.workers}`],
    ['log level', status.logLevel],
    ['requests', `${frames.requests}, ${status.inFlight} of ${status.inFlightMax} in flight`],
    ['not answered', reasons.join(', ') || '0'],
  ];
}

function linkRow({ interface: name, mac, mtu, counters }: LinkStatus): string[] {
  if (counters === null) return [name, 'DOWN'];
  const { received, sent, dropped, truncated, unsent } = counters;
  const lost = dropped + truncated + unsent;
  return [name, 'up', `${mtu}`, `${mac}`, `${received}`, `${sent}`, `${lost}`];
}

function targetRow(target: TargetStatus): string[] {
  const { counters } = target;
  return [
    target.name,
    target.failed ? 'FAILED' : target.drained ? 'drained' : 'ok',
    formatRoundSize(target.sizeBytes),
    target.backend,
    describeWrites(target),
    formatRoundSize(counters.readBytes),
    formatRoundSize(counters.writtenBytes),
    `${target.inFlight}`,
    `${counters.failures}`,
    formatList(target.maskList, 'any'),
    formatList(target.reserveList, '-'),
  ];
}

function storeRow(store: StoreStatus): string[] {
  const { measured } = store;
  const figures = measured?.figures;
  const figure = (bytes: number | undefined) =>
    bytes === undefined ? '-' : formatRoundSize(bytes);
  return [
    store.path,
    describeState(store),
    `${store.volumes}`,
    `${store.snapshots}`,
    figure(figures?.logicalBytes),
    figure(figures?.uniqueBytes),
    figure(figures?.compressedBytes),
    formatRoundSize(store.physicalBytes),
    figure(figures?.garbageBytes),
    formatRoundSize(store.indexBytes),
    measured === null ? 'not yet' : `${formatAge(measured.at)} ago`,
  ];
}

function describeState({ failed, damaged, blobStore }: StoreStatus): string {
  if (failed) return 'FAILED';
  if (damaged || blobStore?.localDamage) return 'DAMAGED';
  return blobStore?.unreachable ? 'BEHIND' : 'ok';
}

function jobRow(
  path: string,
  { id, kind, state, phase, doneBytes, totalBytes, startedAt }: JobStatus,
) {
  const done = `${formatRoundSize(doneBytes)} of ${formatRoundSize(totalBytes)}`;
  const progress = phase === null ? '-' : `${phase}, ${done}`;
  return [path, `${id}`, kind, state, progress, `${formatAge(startedAt)} ago`];
}

function describeWrites({ readOnly, writeCache }: TargetStatus): string {
  if (readOnly) return 'refused';
  return writeCache ? 'cached' : 'durable';
}

function formatList(list: readonly string[], none: string): string {
  if (list.length === 0) return none;
  const more = list.length - LISTED_MAX;
  const shown = list.slice(0, LISTED_MAX).join(', ');
  return more > 0 ? `${shown} and ${more} more` : shown;
}

/** How long ago it was. */
export function formatAge(since: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}
