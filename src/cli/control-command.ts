/** The commands about a running server, as far as they are alike. */
import type { Argument, Command } from 'commander';
import type { PrintOptions } from './print.ts';

/** Where the packaged server has its configuration. */
const DEFAULT_CONFIG = '/etc/aoe-server.toml';

/** What a command about the targets of a running server can be given. */
export interface ServerOptions extends PrintOptions {
  readonly config: string;
}

/** Adds a command about targets of a running server. */
export function serverCommand(parent: Command, name: string, examples: readonly string[]): Command {
  return parent
    .command(name)
    .option(
      '--config <config>',
      'configuration file that the server was started with',
      DEFAULT_CONFIG,
    )
    .option('--json', 'print JSON')
    .addHelpText('after', formatExamples(examples));
}

/**
 * Adds a command about a running server.
 *
 * @param args its own arguments; the configuration file comes before them
 * @param examples lines of the help
 */
export function controlCommand(
  program: Command,
  name: string,
  args: readonly Argument[],
  examples: readonly string[],
): Command {
  const command = program
    .command(name)
    .argument('<config>', 'configuration file that the server was started with');
  for (const argument of args) command.addArgument(argument);
  return command.option('--json', 'print JSON').addHelpText('after', formatExamples(examples));
}

function formatExamples(examples: readonly string[]): string {
  return ['', 'Examples:', ...examples.map((line) => `  ${line}`)].join('\n');
}
