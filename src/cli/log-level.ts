import { Argument, type Command } from 'commander';
import { LOG_LEVELS } from '../config/schema.ts';
import { ask, type ControlOptions, controlCommand } from './control-client.ts';

/** Changes what a running server logs, until its next start. */
export function logLevelCommand(): Command {
  const level = new Argument('<level>', 'the least severe kind of message').choices(LOG_LEVELS);
  return controlCommand('log-level', [level], ['aoe-server log-level /etc/aoe-server.toml debug'])
    .description('change what a running server logs, until its next start')
    .action(setLogLevel);
}

async function setLogLevel(config: string, level: string, options: ControlOptions): Promise<void> {
  const answer = await ask(config, 'PUT', '/v1/log-level', { level });
  console.log(options.json ? JSON.stringify(answer, null, 2) : `the log level is ${level}`);
}
