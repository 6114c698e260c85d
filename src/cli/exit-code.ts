/** What the program's exit says to scripts and service managers. */
export const ExitCode = {
  ok: 0,
  /** Starting or serving failed: an interface, storage, a permission. */
  failure: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The configuration is wrong. */
  config: 3,
  /** A store is not consistent, but no block of it is lost. */
  inconsistent: 4,
  /** Blocks of a store are lost, or perhaps. */
  lost: 5,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
