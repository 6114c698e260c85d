/** Shows what a running server does, again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { loadControlPath } from '../../config/load.ts';
import type { ServerStatus } from '../../status.ts';
import { askSocket } from '../control-client.ts';
import { controlCommand } from '../control-command.ts';
import type { PrintOptions } from '../print.ts';
import { type Activity, measureActivity, type Sample } from './activity.ts';
import { formatActivity, ORDER_COUNT } from './report.ts';
import { Screen } from './screen.ts';

interface TopOptions extends PrintOptions {
  readonly interval: number;
  readonly count?: number;
}

/** What came of one interval: what the server did, or why it is not known. */
type Outcome = Activity | Error;

const INTERVAL_SECONDS_MAX = 3600;
const AFTER_HELP = `
RESENT counts resent writes that were not executed, because the original or a newer write already was.
FAILED counts requests that failed because of the storage. Both are per second.`;
const KEYS = 'Keys: q quits, s sorts by the next column.';

export function addTopCommand(program: Command): void {
  const examples = [
    'aoe-server top /etc/aoe-server.toml',
    'aoe-server top /etc/aoe-server.toml --interval 10 >>load.txt',
    "aoe-server top /etc/aoe-server.toml --json --count 60 | jq '.targets[0].reads'",
  ];
  controlCommand(program, 'top', examples)
    .description('show what each target of a running server does now')
    .option('--interval <seconds>', 'how long each interval is', parseInterval, 1)
    .option('--count <number>', 'how many intervals to show', parseCount)
    .addHelpText('after', AFTER_HELP)
    .action(top);
}

async function top(config: string, options: TopOptions): Promise<void> {
  const controlPath = loadControlPath(config);
  const quit = new AbortController();
  // Who reads this has ended, as head(1) does.
  process.stdout.once('error', () => quit.abort());
  const show = process.stdout.isTTY && !options.json ? showLive : showLines;
  try {
    await show(controlPath, options, quit);
  } catch (error) {
    if (!quit.signal.aborted) throw error;
  }
}

async function showLines(
  controlPath: string,
  options: TopOptions,
  quit: AbortController,
): Promise<void> {
  const format = options.json ? formatJson : formatPlain;
  for await (const outcome of outcomes(controlPath, options, quit.signal)) {
    console.log(format(outcome));
  }
}

/** Until `q` is pressed, or the last interval is over. */
async function showLive(
  controlPath: string,
  options: TopOptions,
  quit: AbortController,
): Promise<void> {
  let order = 0;
  let last: Outcome | undefined;
  // What does not fit is cut off at the end.
  const draw = () =>
    screen.show([KEYS, '', ...(last === undefined ? [] : formatLines(last, order))]);
  using screen = new Screen((key) => {
    if (key === 'q') quit.abort();
    if (key === 's') order = (order + 1) % ORDER_COUNT;
    draw();
  });
  draw();
  for await (const outcome of outcomes(controlPath, options, quit.signal)) {
    last = outcome;
    draw();
  }
}

/**
 * What the server did in each interval. A server that is started again meanwhile does not end it.
 *
 * @throws {ControlError} the server does not answer from the start; @throws when it is aborted
 */
async function* outcomes(
  controlPath: string,
  { interval, count = Number.POSITIVE_INFINITY }: TopOptions,
  signal: AbortSignal,
): AsyncGenerator<Outcome> {
  let before = await takeSample(controlPath, signal);
  let nextMs = performance.now();
  for (let done = 0; done < count; done++) {
    // What was missed, while the server did not answer or this program was stopped, is left out.
    nextMs = Math.max(nextMs + interval * 1000, performance.now());
    await sleep(nextMs - performance.now(), undefined, { signal });
    const after = await takeSample(controlPath, signal).catch((error: Error) => error);
    signal.throwIfAborted();
    if (after instanceof Error) {
      yield after;
    } else {
      yield measureActivity(before, after);
      before = after;
    }
  }
}

async function takeSample(controlPath: string, signal: AbortSignal): Promise<Sample> {
  const status = await askSocket(controlPath, 'GET', '/v1/status', undefined, signal);
  return { status: status as ServerStatus, tickMs: performance.now(), at: new Date() };
}

function formatLines(outcome: Outcome, order: number): string[] {
  return outcome instanceof Error ? [outcome.message] : formatActivity(outcome, order);
}

function formatPlain(outcome: Outcome): string {
  const at = outcome instanceof Error ? new Date().toISOString() : outcome.at;
  return [at, ...formatLines(outcome, 0), ''].join('\n');
}

function formatJson(outcome: Outcome): string {
  if (!(outcome instanceof Error)) return JSON.stringify(outcome);
  return JSON.stringify({ at: new Date().toISOString(), error: outcome.message });
}

function parseInterval(text: string): number {
  const value = Number(text);
  if (value >= 0.1 && value <= INTERVAL_SECONDS_MAX) return value;
  throw new InvalidArgumentError(`must be a number from 0.1 to ${INTERVAL_SECONDS_MAX}`);
}

function parseCount(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('must be a whole number above 0');
}
