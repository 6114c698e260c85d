import type { Command } from 'commander';
import { ask, type ControlOptions, controlCommand } from './control-client.ts';

interface Announced {
  readonly targets: readonly string[];
  readonly interfaces: readonly string[];
}

/** Lets a running server tell all initiators about all targets. */
export function announceCommand(): Command {
  return controlCommand('announce', [], ['aoe-server announce /etc/aoe-server.toml'])
    .description('let a running server tell all initiators about its targets')
    .action(announce);
}

async function announce(config: string, options: ControlOptions): Promise<void> {
  const announced = (await ask(config, 'POST', '/v1/announce')) as Announced;
  const { targets, interfaces } = announced;
  if (options.json) console.log(JSON.stringify(announced, null, 2));
  else console.log(`announced ${targets.join(', ')} on ${interfaces.join(', ') || 'no interface'}`);
}
