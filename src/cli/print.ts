/** What a command that prints a result can be given. */
export interface PrintOptions {
  readonly json?: true;
}

/** Prints a result: as JSON when that is asked for, and else for people. */
export function print<T>(result: T, { json }: PrintOptions, describe: (result: T) => string): void {
  console.log(json ? JSON.stringify(result, null, 2) : describe(result));
}
