import type { Command } from 'commander';
import type { Announced } from '../status.ts';
import { ask } from './control-client.ts';
import { controlCommand } from './control-command.ts';
import { type PrintOptions, print } from './print.ts';

/** Lets a running server tell all initiators about all targets. */
export function addAnnounceCommand(program: Command): void {
  controlCommand(program, 'announce', ['aoe-server announce /etc/aoe-server.toml'])
    .description('let a running server tell all initiators about its targets')
    .action(announce);
}

async function announce(config: string, options: PrintOptions): Promise<void> {
  const announced = (await ask(config, 'POST', '/v1/announce')) as Announced;
  print(announced, options, ({ targets, interfaces }) => {
    return `announced ${targets.join(', ')} on ${interfaces.join(', ') || 'no interface'}`;
  });
}
