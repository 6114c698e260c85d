import { Argument, type Command } from 'commander';
import { LOG_LEVELS } from '../config/schema.ts';
import { ask } from './control-client.ts';
import { controlCommand } from './control-command.ts';
import { type PrintOptions, print } from './print.ts';

/** Changes what a running server logs, until its next start. */
export function addLogLevelCommand(program: Command): void {
  const level = new Argument('<level>', 'the least severe kind of message').choices(LOG_LEVELS);
  controlCommand(program, 'log-level', ['aoe-server log-level /etc/aoe-server.toml debug'])
    .description('change what a running server logs, until its next start')
    .addArgument(level)
    .action(setLogLevel);
}

async function setLogLevel(config: string, level: string, options: PrintOptions): Promise<void> {
  const answer = await ask(config, 'PUT', '/v1/log-level', { level });
  print(answer, options, () => `the log level is ${level}`);
}
