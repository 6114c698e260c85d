/**
 * The server cannot start, or cannot take up a target or interface, as it was told to. The
 * operator reads `message` (what is wrong, with names) and `remedy` (what to do about it).
 */
export class StartupError extends Error {
  readonly code = 'AOE_STARTUP';
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StartupError';
    this.remedy = remedy;
  }
}

/**
 * Tells of a system call that failed at start.
 *
 * @param what could not be done, with names
 * @param remedies by error code
 */
export function explainFailure(
  what: string,
  cause: NodeJS.ErrnoException,
  remedies: Readonly<Record<string, string>>,
): StartupError {
  const remedy = remedies[cause.code ?? ''] ?? 'see what the message says';
  return new StartupError(`${what}: ${cause.message}`, remedy, { cause });
}
