/** Takes targets of a running server out of service for a while, and back. */
import type { Command } from 'commander';
import { loadControlPath } from '../config/load.ts';
import { inLanes } from '../core/lanes.ts';
import type { ServerStatus, TargetStatus } from '../status.ts';
import { askSocket, RefusedError } from './control-client.ts';
import { type ServerOptions, serverCommand } from './control-command.ts';
import { reportError } from './report-error.ts';
import { formatRoundSize } from './round-size.ts';

/**
 * To look for other servers takes a second, of many as of one. Others must find a connection, too.
 */
const AT_ONCE = 8;

type Options = ServerOptions & { readonly all?: true };

/** What is done to a target, by its name in the path of the control socket. */
type Operation = 'drain' | 'resume' | 'readd';

/** What became of a target, or why it is refused. */
type Outcome = TargetStatus | RefusedError;

/** Lets targets be silent, with all their writes durable. */
export function addDrainCommand(program: Command): void {
  const examples = [
    'aoe-server drain e1.0              then its storage can be moved, or copied as it is',
    'aoe-server drain --all',
  ];
  targetsCommand(program, 'drain', examples, true)
    .description('take no more requests for targets, and make all writes durable, until resume')
    .addHelpText(
      'after',
      `
A drained target is silent. Initiators keep trying: Linux for 180 s (aoe_deadsecs), then reads and
writes fail there. A server that is started again serves all targets, drained or not.`,
    );
}

/** Serves drained targets again. */
export function addResumeCommand(program: Command): void {
  const examples = ['aoe-server resume e1.0', 'aoe-server resume --all'];
  targetsCommand(program, 'resume', examples, true).description('serve drained targets again');
}

/** Lets targets go over to another file of the same name. */
export function addReaddCommand(program: Command): void {
  const examples = [
    'aoe-server drain e1.0              move an image to another file system:',
    'cp --sparse=always /srv/aoe/disk1.img /new/disk1.img',
    'mv /new/disk1.img /srv/aoe/        here /srv/aoe is mounted anew, or a copy replaces it',
    'aoe-server readd e1.0              it is served from the new file',
  ];
  targetsCommand(program, 'readd', examples, false)
    .description('drain targets, open their storage anew by the same path, and serve them')
    .addHelpText(
      'after',
      `
What was written since a copy was made is not in the copy: drain the target before you copy. A disk
that has become smaller is refused. When the storage cannot be opened the target stays drained.`,
    );
}

function targetsCommand(
  program: Command,
  name: Operation,
  examples: readonly string[],
  hasAll: boolean,
): Command {
  const command = serverCommand(program, name, examples);
  command.argument(
    hasAll ? '[target...]' : '<target...>',
    'their names, such as e1.0; one that is refused keeps none of the others back',
  );
  if (hasAll) command.option('--all', 'all targets');
  return command.action((names: string[], options: Options) => run(command, name, names, options));
}

async function run(
  command: Command,
  operation: Operation,
  names: readonly string[],
  options: Options,
): Promise<void> {
  if (names.length > 0 === (options.all === true)) {
    command.error('error: name targets, or give --all', { exitCode: 2 });
  }
  const socketPath = loadControlPath(options.config);
  const chosen = options.all ? await allNames(socketPath) : names;
  const outcomes: Outcome[] = [];
  const problems: Error[] = [];
  let toldCount = 0;
  const tell = (outcome: Outcome) => {
    if (!options.json && isDone(outcome)) console.log(describe(outcome));
  };
  await inLanes(AT_ONCE, chosen.entries(), async ([index, name]) => {
    outcomes[index] = await operate(socketPath, operation, name);
    // In the order of the names.
    for (let next = outcomes[toldCount]; next !== undefined; next = outcomes[++toldCount]) {
      tell(next);
    }
  }).catch((error: Error) => problems.push(error));
  // When the server goes away some have no outcome, but others after them.
  outcomes.slice(toldCount).forEach(tell);
  if (options.json) console.log(JSON.stringify(outcomes.filter(isDone), null, 2));
  problems.unshift(...outcomes.filter((outcome) => outcome instanceof RefusedError));
  const last = problems.pop();
  for (const problem of problems) reportError(problem);
  if (last !== undefined) throw last;
}

function isDone(outcome: Outcome): outcome is TargetStatus {
  return !(outcome instanceof RefusedError);
}

/** A refusal keeps none of the others back. @throws {ControlError} the server cannot be reached */
async function operate(socketPath: string, operation: Operation, name: string): Promise<Outcome> {
  const path = `/v1/targets/${encodeURIComponent(name)}/${operation}`;
  try {
    return (await askSocket(socketPath, 'POST', path)) as TargetStatus;
  } catch (error) {
    if (error instanceof RefusedError) return error;
    throw error;
  }
}

async function allNames(socketPath: string): Promise<string[]> {
  const { targets } = (await askSocket(socketPath, 'GET', '/v1/status')) as ServerStatus;
  return targets.map(({ name }) => name);
}

function describe({ name, drained, failed, sizeBytes }: TargetStatus): string {
  if (!drained) return `${name} is served, ${formatRoundSize(sizeBytes)}`;
  const durable = failed ? 'it had failed before' : 'all its writes are durable';
  return `${name} is silent until it is resumed, and ${durable}`;
}
