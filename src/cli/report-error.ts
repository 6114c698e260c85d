import { AssertionError } from 'node:assert';
import { CommanderError } from 'commander';
import { ConfigError } from '../config/problem.ts';
import { ExitCode } from './exit-code.ts';

const BUGS = [AssertionError, RangeError, ReferenceError, SyntaxError, TypeError];

/**
 * Tells the user on standard error what went wrong, and what helps if the error knows a `remedy`.
 * Only a bug shows a stack trace. An error may have an `exitCode` of its own.
 */
export function reportError(error: unknown): ExitCode {
  if (error instanceof CommanderError) {
    // Commander has written its own message; asking for help or the version is no error.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  if (error instanceof ConfigError) {
    console.error(error.message);
    return ExitCode.config;
  }
  if (!(error instanceof Error) || BUGS.some((bug) => error instanceof bug)) {
    console.error(error);
    return ExitCode.failure;
  }
  console.error(`aoe-server: ${error.message}`);
  if ('remedy' in error) console.error(`    ${error.remedy}`);
  return 'exitCode' in error ? (error.exitCode as ExitCode) : ExitCode.failure;
}
