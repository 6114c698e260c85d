import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { nearest } from '../config/problem.ts';
import { VERSION } from '../version.ts';
import { addAnnounceCommand } from './announce.ts';
import { addBenchCommand } from './bench.ts';
import { addCasCommand } from './cas/command.ts';
import { check } from './check.ts';
import { addCompletionCommands } from './completion.ts';
import { addDiscoverCommand } from './discover.ts';
import { addDrainCommand, addReaddCommand, addResumeCommand } from './drain.ts';
import { ExitCode } from './exit-code.ts';
import { addExportCommand } from './export.ts';
import { addImportCommand } from './import.ts';
import { addLogLevelCommand } from './log-level.ts';
import { addMaskCommand } from './mask.ts';
import { addReloadCommand } from './reload.ts';
import { addReserveCommand } from './reserve.ts';
import { addStatusCommand } from './status.ts';
import { addTargetsCommand } from './targets.ts';
import { addTopCommand } from './top/command.ts';

const AFTER_HELP = `
Examples:
  aoe-server /etc/aoe-server.toml          serve until SIGTERM or SIGINT
  aoe-server check /etc/aoe-server.toml    show what would be served
  aoe-server discover eth0                 list the targets that answer on eth0
  aoe-server status /etc/aoe-server.toml   show what the running server does
  aoe-server top /etc/aoe-server.toml      show what each target does now
  aoe-server bench e1.0 eth0               measure a target, without changing its data
  aoe-server cas list /srv/aoe/blobs       show what a content-addressed store holds

Exit codes:
  ${ExitCode.ok}         success; for a server, stopped by a signal
  ${ExitCode.failure}         starting, serving or a command failed
  ${ExitCode.usage}         wrong usage
  ${ExitCode.config}         wrong configuration
  ${ExitCode.inconsistent}, ${ExitCode.lost}      see aoe-server cas fsck --help
  130, 143  ended by a second SIGINT or SIGTERM, without closing the targets
`;

/** The command line. Its actions throw; nothing in it ends the process on an error. */
export function createProgram(): Command {
  const program = new Command('aoe-server')
    .description('Serves files, devices and content-addressed disks over ATA over Ethernet.')
    .version(VERSION)
    .addHelpText('after', AFTER_HELP)
    .exitOverride();
  program
    .command('serve', { isDefault: true })
    .description('serve the targets of a configuration file (the default command)')
    .argument('<config>', 'configuration file')
    .action(async (path: string) => {
      // Loaded on demand: the other commands work where the native addon does not.
      const { serve } = await import('./serve.ts');
      await serve(path);
    });
  // Before anything is said about the arguments of a command that was not meant.
  program.hook('preSubcommand', ({ args: [word = ''] }) => requireNoSlip(program, word));
  program
    .command('check')
    .description('check a configuration file and show what would be served')
    .argument('<config>', 'configuration file')
    .action(check);
  addDiscoverCommand(program);
  addBenchCommand(program);
  addStatusCommand(program);
  addTopCommand(program);
  addMaskCommand(program);
  addReserveCommand(program);
  addAnnounceCommand(program);
  addReloadCommand(program);
  addTargetsCommand(program);
  addDrainCommand(program);
  addResumeCommand(program);
  addReaddCommand(program);
  addLogLevelCommand(program);
  addImportCommand(program);
  addExportCommand(program);
  addCasCommand(program);
  addCompletionCommands(program);
  pointToHelp(program, program.name());
  return program;
}

/** What is no command is the name of a configuration file, unless it looks like a slip of one. */
function requireNoSlip(program: Command, word: string): void {
  const names = program.commands.map((command) => command.name());
  if (/^-|[./]/.test(word) || names.includes(word) || existsSync(word)) return;
  const meant = nearest(word, names);
  if (meant === undefined) return;
  program.error(`error: unknown command '${word}'\n(Did you mean ${meant}?)`);
}

/** Whoever uses a command in a wrong way is shown where the help of that one is. */
function pointToHelp(command: Command, name: string): void {
  command.showHelpAfterError(`Try: ${name} --help`);
  for (const child of command.commands) {
    const isDefault = child.name() === 'serve';
    pointToHelp(child, isDefault ? name : `${name} ${child.name()}`);
  }
}
