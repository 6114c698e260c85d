import type { Command } from 'commander';
import type { Reloaded } from '../status.ts';
import { ask } from './control-client.ts';
import { controlCommand } from './control-command.ts';
import { type PrintOptions, print } from './print.ts';

/** Lets a running server follow its changed configuration file. */
export function addReloadCommand(program: Command): void {
  const examples = [
    'aoe-server reload /etc/aoe-server.toml',
    'kill -HUP PID                             the same; the outcome is in the log',
  ];
  controlCommand(program, 'reload', examples)
    .description('add, change and remove targets of a running server as its file now says')
    .action(reload);
}

async function reload(config: string, options: PrintOptions): Promise<void> {
  const reloaded = (await ask(config, 'POST', '/v1/reload')) as Reloaded;
  print(reloaded, options, describeReload);
}

/** @returns a line about what a reload has done */
export function describeReload({ added, changed, removed }: Reloaded): string {
  const list = (names: readonly string[]) => names.join(', ') || 'none';
  return `added ${list(added)}, changed ${list(changed)}, removed ${list(removed)}`;
}
