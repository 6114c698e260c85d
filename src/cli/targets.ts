/** Changes the targets of a running server, in its configuration file and in the server at once. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parse } from 'smol-toml';
import { type TargetConfig, targetName } from '../config/config.ts';
import {
  addTarget,
  readValue,
  removeTarget,
  type Setting,
  setKeys,
  unsetKeys,
} from '../config/edit.ts';
import { valueAt } from '../config/explain.ts';
import { BACKEND_TYPES } from '../config/schema.ts';
import { formatSize, parseSize } from '../config/size.ts';
import { StartupError } from '../core/startup-error.ts';
import type { Reloaded } from '../status.ts';
import { type Address, parseAddress } from './address.ts';
import { type ConfigText, changeConfig, findServer } from './config-file.ts';
import { type ServerOptions, serverCommand } from './control-client.ts';
import { describeReload } from './reload.ts';

type Backend = (typeof BACKEND_TYPES)[number];

interface AddOptions extends ServerOptions {
  readonly backend: Backend;
  readonly path?: string;
  readonly size?: string;
  readonly set?: readonly Pair[];
}

interface SetOptions extends ServerOptions {
  readonly unset?: readonly string[];
}

/** `key=value` of a command line. */
interface Pair {
  readonly key: readonly string[];
  readonly text: string;
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

/** What is where its storage is, by backend. */
const PATH_KEYS: Readonly<Record<Backend, readonly string[] | undefined>> = {
  file: ['file', 'path'],
  device: ['device', 'path'],
  memory: undefined,
  cas: ['cas', 'blob_store', 'path'],
};
const SIZE_KEYS: Readonly<Record<Backend, readonly string[] | undefined>> = {
  file: ['file', 'size'],
  device: undefined,
  memory: ['memory', 'size'],
  cas: ['cas', 'size'],
};

const ADDRESS_KEYS: readonly string[] = ['shelf', 'slot'];

export function targetsCommand(): Command {
  const targets = new Command('targets')
    .description('add, remove and change targets of a running server, and its file with it')
    .addHelpText('after', AFTER_HELP);
  const commands = [addCommand(), removeCommand(), resizeCommand(), setCommand()];
  for (const command of commands) targets.addCommand(command);
  return targets;
}

function addCommand(): Command {
  const examples = [
    'aoe-server targets add e1.5 --backend file --path /srv/aoe/disk5.img --size 10G',
    'aoe-server targets add e1.6 --backend device --path /dev/vg0/disk6 --set read_only=true',
    'aoe-server targets add e1.7 --backend cas --path /srv/aoe/blobs --size 1T',
  ];
  return serverCommand('add', examples)
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
      'the size of the disk, such as 10G; of an image that is there, its own',
    )
    .option(
      '--set <key=value...>',
      'other keys, such as read_only=true or file.direct=true',
      addPair,
    )
    .action(async (address: Address, options: AddOptions) => {
      const reloaded = await change(options, ({ text }) => add(text, address, options));
      tell(options, reloaded, `${targetName(address.shelf, address.slot)} is served`);
    });
}

function removeCommand(): Command {
  return serverCommand('remove', ['aoe-server targets remove e1.5'])
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

function resizeCommand(): Command {
  const examples = ['aoe-server targets resize e1.5 20G'];
  return serverCommand('resize', examples)
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

function setCommand(): Command {
  const examples = [
    'aoe-server targets set e1.5 write_cache=true',
    'aoe-server targets set e1.5 allow=02:00:00:00:00:0a,02:00:00:00:00:0b file.direct=true',
    'aoe-server targets set e1.5 --unset allow file.direct',
  ];
  const command = serverCommand('set', examples);
  return command
    .description('change keys of a target but its address; it is silent for a moment')
    .argument('<target>', 'its name, such as e1.5')
    .argument('[key=value...]', 'keys as in the file, those of tables in it with dots', addPair)
    .option('--unset <key...>', 'keys to take out of the file: what they are without it')
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

function tell({ json }: ServerOptions, reloaded: Reloaded, sentence: string): void {
  console.log(
    json ? JSON.stringify(reloaded, null, 2) : `${sentence} (${describeReload(reloaded)})`,
  );
}

function add(text: string, { shelf, slot }: Address, options: AddOptions): string {
  const { backend, path, size, set = [] } = options;
  const settings: Setting[] = [
    { key: ['shelf'], value: shelf },
    { key: ['slot'], value: slot },
    { key: ['backend'], value: backend },
  ];
  const place = keyOf(PATH_KEYS, backend, '--path', path);
  if (place !== undefined && path !== undefined) {
    // What the shell completed is relative to where it is; what is in the file, to the file.
    if (backend === 'cas') settings.push({ key: ['cas', 'blob_store', 'type'], value: 'file' });
    settings.push({ key: place, value: resolve(path) });
  }
  const extent = keyOf(SIZE_KEYS, backend, '--size', size);
  if (extent !== undefined && size !== undefined) settings.push({ key: extent, value: size });
  const isPlaced = set.some(({ key }) => key.join('.') === place?.join('.'));
  if (place !== undefined && path === undefined && !isPlaced) {
    throw new StartupError(`a target with backend ${backend} needs --path`, 'add --path PATH');
  }
  return addTarget(text, [...settings, ...readPairs({ shelf, slot, backend }, set)]);
}

function keyOf(
  keys: Readonly<Record<Backend, readonly string[] | undefined>>,
  backend: Backend,
  option: string,
  given: string | undefined,
): readonly string[] | undefined {
  const key = keys[backend];
  if (key !== undefined || given === undefined) return key;
  throw new StartupError(
    `a target with backend ${backend} has no ${option}`,
    `leave ${option} out`,
  );
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

/** The keys that give a target its size. */
function resizeKeys({ name, backend }: TargetConfig, table: object, sizeBytes: number): Setting[] {
  const value = formatSize(sizeBytes);
  switch (backend.type) {
    case 'file': {
      const { offsetBytes, lengthBytes, sizeBytes: wholeBytes = 0 } = backend;
      const whole = { key: ['file', 'size'], value: formatSize(offsetBytes + sizeBytes) };
      if (lengthBytes === undefined) return [whole];
      const length = { key: ['file', 'length'], value };
      return offsetBytes + sizeBytes > wholeBytes ? [whole, length] : [length];
    }
    case 'memory':
      return [{ key: ['memory', 'size'], value }];
    case 'cas': {
      if (valueAt(table, ['cas', 'total_sectors']) === undefined) {
        return [{ key: ['cas', 'size'], value }];
      }
      return [{ key: ['cas', 'total_sectors'], value: sizeBytes / backend.blockSizeBytes }];
    }
    case 'device':
      throw new StartupError(
        `${name} has the size of its device`,
        `make ${backend.path} larger, then: aoe-server readd ${name}`,
      );
  }
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

function addPair(text: string, before: readonly Pair[] = []): Pair[] {
  const at = text.indexOf('=');
  if (at <= 0) throw new InvalidArgumentError('must be a key and a value, such as read_only=true');
  const name = text.slice(0, at).trim();
  // It would be another target, on a disk that is empty, or that this one still has.
  if (ADDRESS_KEYS.includes(name)) {
    throw new InvalidArgumentError(
      'A target keeps its address: remove it, and add it under another one. A volume is called ' +
        'like its target: see aoe-server cas clone.',
    );
  }
  return [...before, { key: name.split('.'), text: text.slice(at + 1) }];
}

function readPairs(table: object, pairs: readonly Pair[]): Setting[] {
  return pairs.map(({ key, text }) => ({ key, value: readValue(table, key, text) }));
}

function formatPair({ key, text }: Pair): string {
  return `${key.join('.')} = ${text}`;
}
