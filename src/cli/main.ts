#!/usr/bin/env node
import { ExitCode } from './exit-code.ts';
import { leaveLostTerminals } from './lost-terminal.ts';
import { createProgram } from './program.ts';
import { reportError } from './report-error.ts';

process.on('exit', leaveLostTerminals);
process.exit(await run());

async function run(): Promise<ExitCode> {
  try {
    await createProgram().parseAsync();
    return ExitCode.ok;
  } catch (error) {
    return reportError(error);
  }
}
