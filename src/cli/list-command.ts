/** What `mask` and `reserve` have in common: both are about a list of a target's. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { isUnicastMac, parseMacAddress } from '../net/ethernet.ts';
import { ask } from './control-client.ts';
import { controlCommand } from './control-command.ts';
import { type PrintOptions, print } from './print.ts';

interface ListCommandOptions {
  readonly name: string;
  readonly description: string;
  /** Its place in the path of the control socket. */
  readonly path: string;
  /** Its name in answers. */
  readonly key: 'maskList' | 'reserveList';
  readonly clearHelp: string;
  readonly setHelp: string;
  /** @returns a sentence about a target with this list */
  describe(target: string, list: readonly string[]): string;
}

type Options = PrintOptions & { readonly clear?: true; readonly set?: readonly string[] };

/** Adds a command that shows, replaces or empties a list of a target. */
export function addListCommand(program: Command, list: ListCommandOptions): void {
  const { name } = list;
  const examples = [
    `aoe-server ${name} /etc/aoe-server.toml e1.0            show the list`,
    `aoe-server ${name} /etc/aoe-server.toml e1.0 --clear    empty it`,
    `aoe-server ${name} /etc/aoe-server.toml e1.0 --set 02:00:00:00:00:0a 02:00:00:00:00:0b`,
  ];
  controlCommand(program, name, examples)
    .description(list.description)
    .argument('<target>', 'its name, such as e1.0')
    .option('--clear', list.clearHelp)
    .addOption(new Option('--set <mac...>', list.setHelp).argParser(addMac).conflicts('clear'))
    .action((config: string, target: string, options: Options) =>
      run(list, config, target, options),
    );
}

function addMac(text: string, before: readonly string[] = []): readonly string[] {
  const mac = parseMacAddress(text);
  if (mac !== undefined && isUnicastMac(mac)) return [...before, text];
  throw new InvalidArgumentError('must be a MAC address, such as 02:00:00:00:00:0a');
}

async function run(
  { path, key, describe }: ListCommandOptions,
  config: string,
  target: string,
  options: Options,
): Promise<void> {
  const url = `/v1/targets/${encodeURIComponent(target)}/${path}`;
  const method = options.clear ? 'DELETE' : options.set ? 'PUT' : 'GET';
  const answer = (await ask(config, method, url, options.set)) as Record<typeof key, string[]>;
  print(answer, options, () => describe(target, answer[key]));
}
