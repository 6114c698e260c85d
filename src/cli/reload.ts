import type { Command } from 'commander';
import { ask, type ControlOptions, controlCommand } from './control-client.ts';

interface Reloaded {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** Lets a running server follow its changed configuration file. */
export function reloadCommand(): Command {
  const examples = [
    'aoe-server reload /etc/aoe-server.toml',
    'kill -HUP PID                             the same; the outcome is in the log',
  ];
  return controlCommand('reload', [], examples)
    .description('add and remove targets of a running server as its file now says')
    .action(reload);
}

async function reload(config: string, options: ControlOptions): Promise<void> {
  const reloaded = (await ask(config, 'POST', '/v1/reload')) as Reloaded;
  const { added, removed } = reloaded;
  if (options.json) console.log(JSON.stringify(reloaded, null, 2));
  else console.log(`added ${added.join(', ') || 'none'}, removed ${removed.join(', ') || 'none'}`);
}
