/**
 * Completion of command lines in shells. The shells' scripts know nothing: they ask the hidden
 * command `complete`, which takes what it answers from the commands themselves.
 */
import { Argument, type Command, type Option } from 'commander';
import { listTargets, readConfig } from '../config/load.ts';
import { COMPLETION_SCRIPTS, type Shell } from './completion-scripts.ts';
import { listInterfaces } from './network-interfaces.ts';

const AFTER_HELP = `
Examples:
  aoe-server completion bash > /etc/bash_completion.d/aoe-server
  aoe-server completion zsh > /usr/local/share/zsh/site-functions/_aoe-server
  aoe-server completion fish > /etc/fish/completions/aoe-server.fish
`;

/** What a word may become: the word, and what the shell may show beside it. */
interface Candidate {
  readonly word: string;
  readonly about: string;
}

/** Where the last word of a command line stands. */
interface Place {
  readonly command: Command;
  /** The option whose value it is. */
  readonly option: Option | undefined;
  /** The arguments before it. */
  readonly before: readonly string[];
  /** The configuration file that was named, or is meant by default. */
  readonly config: string;
}

const CONFIG_OPTION = '--config';

/** Lets the shell take any path, or any directory, instead of a candidate. */
const FILES = ':files';
const DIRECTORIES = ':directories';

/** What stands for an argument or the value of an option, by its name. */
const SOURCES: Readonly<Record<string, (config: string) => readonly string[]>> = {
  config: () => [FILES],
  image: () => [FILES],
  path: () => [FILES],
  have: () => [FILES],
  store: () => [DIRECTORIES],
  interface: () => listInterfaces(),
  target: (config) => listTargets(readConfig(config), config).map(({ name }) => name),
};

export function addCompletionCommands(program: Command): void {
  const shells = Object.keys(COMPLETION_SCRIPTS);
  program
    .command('completion')
    .description('print a script that lets a shell complete command lines')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .addHelpText('after', AFTER_HELP)
    .action((shell: Shell) => console.log(COMPLETION_SCRIPTS[shell]));
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .action((words: string[]) => {
      for (const line of completeWords(program, words)) console.log(line);
    });
}

/**
 * @param words of the command line behind the name of the program; the last one is not finished
 * @returns lines: a word, a tab and what it is; or {@link FILES} or {@link DIRECTORIES}
 */
export function completeWords(program: Command, words: readonly string[]): string[] {
  const current = words.at(-1) ?? '';
  const place = findPlace(program, words.slice(0, -1));
  return candidatesAt(place, current)
    .filter(({ word }) => word.startsWith(current) || word.startsWith(':'))
    .map(({ word, about }) => (word.startsWith(':') ? word : `${word}\t${about}`));
}

function findPlace(program: Command, words: readonly string[]): Place {
  let command = program;
  let option: Option | undefined;
  let before: string[] = [];
  let config: string | undefined;
  for (const word of words) {
    if (option?.long === CONFIG_OPTION) config = word;
    if (word.startsWith('-')) {
      const found = command.options.find(({ short, long }) => word === short || word === long);
      option = found?.required ? found : undefined;
      continue;
    }
    if (option !== undefined) {
      if (!option.variadic) option = undefined;
      continue;
    }
    const child =
      before.length > 0 ? undefined : command.commands.find((one) => one.name() === word);
    if (child === undefined) before.push(word);
    else [command, before] = [child, []];
  }
  const usual = command.options.find(({ long }) => long === CONFIG_OPTION)?.defaultValue;
  return { command, option, before, config: config ?? usual ?? before[0] ?? '' };
}

function candidatesAt(place: Place, current: string): Candidate[] {
  const { command, option, before, config } = place;
  const help = command.createHelp();
  if (current.startsWith('-')) {
    return help
      .visibleOptions(command)
      .map(({ long, description }) => ({ word: long ?? '', about: description }));
  }
  if (option !== undefined) {
    return valuesOf(option.attributeName(), option.argChoices, option.description, config);
  }
  const commands = before.length > 0 ? [] : help.visibleCommands(command);
  const args = argumentsOf(command);
  const last = args.at(-1);
  const argument = args[before.length] ?? (last?.variadic ? last : undefined);
  return [
    ...commands.map((one) => ({ word: one.name(), about: one.description() })),
    ...(argument === undefined
      ? []
      : valuesOf(argument.name(), argument.argChoices, argument.description, config)),
  ];
}

/** Without a command, the arguments are those of the default command. */
function argumentsOf(command: Command): readonly Argument[] {
  const isProgram = command.parent === null;
  const own = isProgram ? command.commands.find((one) => one.name() === 'serve') : command;
  return own?.registeredArguments ?? [];
}

function valuesOf(
  name: string,
  choices: readonly string[] | undefined,
  about: string,
  config: string,
): Candidate[] {
  try {
    const values = choices ?? SOURCES[name]?.(config) ?? [];
    return values.map((word) => ({ word, about }));
  } catch {
    // There is no interface, or the configuration is wrong: nobody asked to be told here.
    return [];
  }
}
