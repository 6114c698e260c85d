/** Changes the targets of a running server, in its configuration file and in the server at once. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parse } from 'smol-toml';
import { type TargetConfig, targetName } from '../config/config.ts';
import { addTarget, removeTarget, setKeys, unsetKeys } from '../config/edit.ts';
import { valueAt } from '../config/explain.ts';
import { BACKEND_TYPES } from '../config/schema.ts';
import { formatSize, parseSize } from '../config/size.ts';
import { StartupError } from '../core/startup-error.ts';
import type { Reloaded } from '../status.ts';
import { type Address, parseAddress } from './address.ts';
import { type ConfigText, changeConfig, findServer } from './config-file.ts';
import { type ServerOptions, serverCommand } from './control-command.ts';
import { print } from './print.ts';
import { describeReload } from './reload.ts';
import {
  addPair,
  formatPair,
  type NewTarget,
  newTargetKeys,
  type Pair,
  readPairs,
  resizeKeys,
} from './target-keys.ts';

interface SetOptions extends ServerOptions {
  readonly unset?: readonly string[];
}

const AFTER_HELP = `
These commands change the configuration file and let the server follow; the rest of the file keeps
its comments and its layout. Both happen or none: when the server refuses, the file is as it was.
The file is the one that the server was started with. Changes in it that nobody has reloaded yet
take effect as well.

Examples:
  aoe-server targets add e1.5 --backend file --path /srv/aoe/disk5.img --size 10G
  aoe-server targets resize e1.5 20G
  aoe-server targets set e1.5 write_cache=true config_string="web server"
  aoe-server targets remove e1.5`;

export function addTargetsCommand(program: Command): void {
  const targets = program
    .command('targets')
    .description('add, remove and change targets of a running server, and its file with it')
    .addHelpText('after', AFTER_HELP);
  addAddCommand(targets);
  addRemoveCommand(targets);
  addResizeCommand(targets);
  addSetCommand(targets);
}

function addAddCommand(targets: Command): void {
  const examples = [
    'aoe-server targets add e1.5 --backend file --path /srv/aoe/disk5.img --size 10G',
    'aoe-server targets add e1.6 --backend device --path /dev/vg0/disk6 --set read_only=true',
    'aoe-server targets add e1.7 --backend cas --path /srv/aoe/blobs --size 1T',
  ];
  serverCommand(targets, 'add', examples)
    .description('serve another target')
    .argument('<address>', 'its shelf and slot, such as e1.5', parseAddress)
    .addOption(
      new Option('--backend <kind>', 'the kind of storage')
        .choices(BACKEND_TYPES)
        .makeOptionMandatory(),
    )
    .option('--path <path>', 'the image, device, or directory of the store')
    .option(
      '--size <size>',
      'the size of the disk, such as 10G; without it that of the image that is there',
    )
    .option(
      '--set <key=value...>',
      'other keys, such as read_only=true or file.direct=true',
      addPair,
    )
    .action(async (address: Address, options: ServerOptions & NewTarget) => {
      const reloaded = await change(options, ({ text }) =>
        addTarget(text, newTargetKeys(address, options)),
      );
      tell(options, reloaded, `${targetName(address.shelf, address.slot)} is served`);
    });
}

function addRemoveCommand(targets: Command): void {
  serverCommand(targets, 'remove', ['aoe-server targets remove e1.5'])
    .description('end a target; what is on its storage stays')
    .argument('<target>', 'its name, such as e1.5')
    .action(async (name: string, options: ServerOptions) => {
      let kept = '';
      const reloaded = await change(options, (before) => {
        const { index, target } = findTarget(before, name);
        kept = describeKept(target);
        return removeTarget(before.text, index);
      });
      tell(options, reloaded, `${name} is not served any more; ${kept}`);
    });
}

function addResizeCommand(targets: Command): void {
  const examples = ['aoe-server targets resize e1.5 20G'];
  serverCommand(targets, 'resize', examples)
    .description('make a target larger; initiators see it at once, or after aoe-revalidate')
    .argument('<target>', 'its name, such as e1.5')
    .argument('<size>', 'of the whole disk, such as 20G', parseSizeArgument)
    .action(async (name: string, sizeBytes: number, options: ServerOptions) => {
      const server = await findServer(options.config);
      const served = server.status.targets.find((target) => target.name === name);
      if (served !== undefined) refuseShrinking(name, served.sizeBytes, sizeBytes);
      const reloaded = await changeConfig(server, (before) => {
        const { index, target, table } = findTarget(before, name);
        return setKeys(before.text, index, resizeKeys(target, table, sizeBytes));
      });
      tell(options, reloaded, `${name} has ${formatSize(sizeBytes)}`);
    });
}

function addSetCommand(targets: Command): void {
  const examples = [
    'aoe-server targets set e1.5 write_cache=true',
    'aoe-server targets set e1.5 allow=02:00:00:00:00:0a,02:00:00:00:00:0b file.direct=true',
    'aoe-server targets set e1.5 --unset allow file.direct',
  ];
  const command = serverCommand(targets, 'set', examples);
  command
    .description('change keys of a target but its address; it is silent for a moment')
    .argument('<target>', 'its name, such as e1.5')
    .argument('[key=value...]', 'keys as in the file, those of tables in it with dots', addPair)
    .option('--unset <key...>', 'keys to take out of the file, so that their defaults apply')
    .action(async (name: string, given: readonly Pair[] | undefined, options: SetOptions) => {
      const [pairs, unset] = [given ?? [], options.unset ?? []];
      if (pairs.length + unset.length === 0) {
        command.error('error: name keys to set, or to --unset', { exitCode: 2 });
      }
      const server = await findServer(options.config);
      const reloaded = await changeConfig(server, (before) => {
        const { index, table } = findTarget(before, name);
        const text = setKeys(before.text, index, readPairs(table, pairs));
        return unsetKeys(
          text,
          index,
          unset.map((key) => key.split('.')),
        );
      });
      const keys = [...pairs.map(formatPair), ...unset.map((key) => `no ${key}`)].join(', ');
      const served = server.status.targets.find((target) => target.name === name);
      const state = served?.drained ? 'stays drained, and has' : 'is served with';
      tell(options, reloaded, `${name} ${state} ${keys}`);
    });
}

async function change(
  { config }: ServerOptions,
  edit: (before: ConfigText) => string,
): Promise<Reloaded> {
  return changeConfig(await findServer(config), edit);
}

function tell(options: ServerOptions, reloaded: Reloaded, sentence: string): void {
  print(reloaded, options, () => `${sentence} (${describeReload(reloaded)})`);
}

interface FoundTarget {
  readonly index: number;
  readonly target: TargetConfig;
  /** As it stands in the file. */
  readonly table: object;
}

/** @throws {StartupError} the file has no such target */
function findTarget({ text, config }: ConfigText, name: string): FoundTarget {
  const index = config.targets.findIndex((target) => target.name === name);
  const target = config.targets[index];
  if (target !== undefined) {
    return { index, target, table: valueAt(parse(text), ['target', index]) as object };
  }
  const names = config.targets.map((one) => one.name).join(', ');
  throw new StartupError(`there is no target ${name} in ${config.path}`, `there are ${names}`);
}

function refuseShrinking(name: string, servedBytes: number, sizeBytes: number): void {
  if (sizeBytes >= servedBytes) return;
  throw new StartupError(
    `${name} has ${formatSize(servedBytes)}, and would shrink to ${formatSize(sizeBytes)}`,
    'disks never shrink, because initiators write wherever they have seen room: copy what is on ' +
      'it to a new, smaller target',
  );
}

function describeKept({ backend }: TargetConfig): string {
  switch (backend.type) {
    case 'file':
      return `its image stays: ${backend.path}`;
    case 'device':
      return `its data stays on ${backend.path}`;
    case 'cas':
      return `its data stays in the store ${backend.blobStore.path}`;
    case 'memory':
      return 'what was on it was in memory, and is gone';
  }
}

function parseSizeArgument(text: string): number {
  const sizeBytes = parseSize(text);
  if (sizeBytes !== undefined && sizeBytes > 0) return sizeBytes;
  throw new InvalidArgumentError('must be a size, such as 20G');
}
