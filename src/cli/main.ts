#!/usr/bin/env node
import { setImmediate as turn } from 'node:timers/promises';
import { ExitCode } from './exit-code.ts';
import { leaveLostTerminals } from './lost-terminal.ts';
import { createProgram } from './program.ts';
import { reportError } from './report-error.ts';

/** Why output was lost. The stream itself forgets. */
let loss: NodeJS.ErrnoException | undefined;
process.stdout.on('error', (error) => {
  loss ??= error;
});
// Nobody is left who could be told.
process.stderr.on('error', () => {});
process.on('exit', leaveLostTerminals);
const code = await run();
await whenWritten();
process.exit(requireWritten(code));

async function run(): Promise<ExitCode> {
  try {
    await createProgram().parseAsync();
    return ExitCode.ok;
  } catch (error) {
    return reportError(error);
  }
}

/**
 * A pipe takes 64 KiB at once, and the rest as it is read: the exit would drop it. What is lost is
 * waited for no more.
 */
async function whenWritten(): Promise<void> {
  const { stdout, stderr } = process;
  for (const stream of loss === undefined ? [stdout, stderr] : [stderr]) {
    if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve));
  }
  // Errors are told a turn later.
  await turn();
}

/** What was lost on its way out, as on a full disk, is no success. Who has stopped reading knows. */
function requireWritten(code: ExitCode): ExitCode {
  if (code !== ExitCode.ok || loss === undefined || loss.code === 'EPIPE') return code;
  console.error(`aoe-server: cannot write the output: ${loss.message}`);
  return ExitCode.failure;
}
