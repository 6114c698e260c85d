/** What commander knows about a command, in the shape that the manual needs. */
import type { Argument, Command } from 'commander';

/** A part of the text below the lists of a command's help. */
export type HelpBlock =
  | { readonly kind: 'paragraph'; readonly text: string }
  | { readonly kind: 'list'; readonly title: string; readonly lines: readonly string[] };

/** All commands below this one, in the order of its help; not those that it hides. */
export function* commandsBelow(command: Command): Generator<Command> {
  const visible = command.createHelp().visibleCommands(command);
  for (const child of command.commands) {
    if (!visible.includes(child)) continue;
    yield child;
    yield* commandsBelow(child);
  }
}

/** Its name with those of the commands around it: `aoe-server cas list`. */
export function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** As it is written in a command line: `<config>`, `[interface]`. */
export function writeArgument(argument: Argument): string {
  const name = argument.name() + (argument.variadic ? '...' : '');
  return argument.required ? `<${name}>` : `[${name}]`;
}

/** The text that was added to the command's help, in blocks. */
export function helpBlocks(command: Command): HelpBlock[] {
  let help = '';
  command.configureOutput({
    writeOut: (text) => {
      help += text;
    },
  });
  command.outputHelp();
  const added = help.slice(command.helpInformation().length);
  return added
    .split(/\n\s*\n/)
    .map((block) => block.replace(/^\n+|\s+$/g, ''))
    .filter((block) => block !== '')
    .map(parseBlock);
}

function parseBlock(block: string): HelpBlock {
  const [title = '', ...lines] = block.split('\n');
  return /^[A-Z][a-z ]+:$/.test(title)
    ? { kind: 'list', title: title.slice(0, -1), lines: lines.map((line) => line.slice(2)) }
    : { kind: 'paragraph', text: block };
}
