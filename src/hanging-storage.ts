/**
 * Storage that hangs must not hang the server, nor who checks its configuration: a thread that can
 * wait looks first whether it can be opened. A disk below what is cached of a file system may hang
 * all the same.
 */
import { whenAnswered } from './backends/index.ts';
import type { Config, TargetConfig } from './config/config.ts';
import { listTargets, parseConfig } from './config/load.ts';
import { StartupError } from './core/startup-error.ts';
import { endsWithin } from './wait-while.ts';

/** A disk that sleeps takes its time. */
const ANSWER_MS_MAX = 15_000;

export function hangs(name: string): StartupError {
  return new StartupError(
    `the storage of ${name} hangs`,
    'see in the log of the kernel what is wrong with it; to go on without it, take its target out ' +
      'of the configuration file with an editor, and start the server, or reload if it runs',
  );
}

/** @throws {StartupError} `work` on the storage of `name` takes too long; it goes on nevertheless */
export async function within(ms: number, work: Promise<void>, name: string): Promise<void> {
  if (!(await endsWithin(ms, work))) throw hangs(name);
}

/**
 * Checks the text of a configuration. That looks at the storage of targets: all of it must answer
 * before.
 *
 * @throws {ConfigError}; @throws {StartupError} storage hangs
 */
export async function parseAnswering(text: string, path: string): Promise<Config> {
  await requireAnswers(listTargets(text, path));
  return parseConfig(text, path, process.env);
}

/** @throws {StartupError} the storage of one of them hangs */
export async function requireAnswers(targets: readonly TargetConfig[]): Promise<void> {
  await Promise.all(targets.map(requireAnswer));
}

/** Those whose storage does not hang. */
export async function whoAnswer(targets: readonly TargetConfig[]): Promise<TargetConfig[]> {
  const answers = await Promise.allSettled(targets.map(requireAnswer));
  return targets.filter((_, index) => answers[index]?.status === 'fulfilled');
}

function requireAnswer({ backend, name }: TargetConfig): Promise<void> {
  return within(ANSWER_MS_MAX, whenAnswered(backend), name);
}
