/** The commands about a running server, as far as they are alike. */
import type { Command } from 'commander';
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

/** Adds a command about a running server, whose configuration file is the first argument. */
export function controlCommand(
  program: Command,
  name: string,
  examples: readonly string[],
): Command {
  return program
    .command(name)
    .argument('<config>', 'configuration file that the server was started with')
    .option('--json', 'print JSON')
    .addHelpText('after', formatExamples(examples));
}

function formatExamples(examples: readonly string[]): string {
  return ['', 'Examples:', ...examples.map((line) => `  ${line}`)].join('\n');
}
