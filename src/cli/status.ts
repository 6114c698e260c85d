import type { Command } from 'commander';
import type { FrameCounters } from '../aoe/counters.ts';
import type { LinkStatus, ServerStatus, TargetStatus } from '../status.ts';
import { ask, type ControlOptions, controlCommand } from './control-client.ts';
import { formatRoundSize } from './round-size.ts';
import { formatTable } from './table.ts';

/** How many addresses of a list are shown before it is cut short. */
const LISTED_MAX = 2;

/** Why frames were not taken up, where that is no matter of course. */
const UNANSWERED: readonly (readonly [keyof FrameCounters, string])[] = [
  ['overload', 'too many requests in flight'],
  ['tooOld', 'waited too long'],
  ['denied', 'initiator not allowed'],
  ['malformed', 'malformed'],
  ['badSource', 'impossible source address'],
];

/** Shows a running server. */
export function statusCommand(): Command {
  const examples = [
    'aoe-server status /etc/aoe-server.toml',
    'aoe-server status --socket /run/aoe-server/control.sock --json',
  ];
  return controlCommand('status', [], examples)
    .description('show the targets, interfaces and counters of a running server')
    .action(status);
}

async function status(config: string | undefined, options: ControlOptions): Promise<void> {
  const answer = (await ask(config, options, 'GET', '/v1/status')) as ServerStatus;
  console.log(options.json ? JSON.stringify(answer, null, 2) : formatStatus(answer));
}

/** Writes a status for people. */
export function formatStatus(status: ServerStatus): string {
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
  ];
  return parts.join('\n\n');
}

function serverRows(status: ServerStatus): string[][] {
  const { frames } = status;
  const unanswered = UNANSWERED.filter(([counter]) => frames[counter] > 0);
  const reasons = unanswered.map(([counter, reason]) => `${frames[counter]} ${reason}`);
  return [
    ['server', `aoe-server ${status.version}, process ${status.pid}, up ${formatAge(status)}`],
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
    target.failed ? 'FAILED' : 'ok',
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

function formatAge({ startedAt }: ServerStatus): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(startedAt)) / 1000));
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${(hours ?? 0) % 24} h`;
  if (hours) return `${hours} h ${(minutes ?? 0) % 60} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}
