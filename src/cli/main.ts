#!/usr/bin/env node
import { ExitCode } from './exit-code.ts';
import { leaveLostTerminals } from './lost-terminal.ts';
import { createProgram } from './program.ts';
import { reportError } from './report-error.ts';

process.on('exit', leaveLostTerminals);
process.exit(requireWritten(await run()));

async function run(): Promise<ExitCode> {
  try {
    await createProgram().parseAsync();
    return ExitCode.ok;
  } catch (error) {
    return reportError(error);
  }
}

/** What was lost on its way out, as on a full disk, is no success. Who has stopped reading knows. */
function requireWritten(code: ExitCode): ExitCode {
  if (code !== ExitCode.ok) return code;
  const failure = process.stdout.errored as NodeJS.ErrnoException | null;
  if (failure === null || failure.code === 'EPIPE') return code;
  console.error(`aoe-server: cannot write the output: ${failure.message}`);
  return ExitCode.failure;
}
