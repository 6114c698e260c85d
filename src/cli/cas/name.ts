import { InvalidArgumentError } from 'commander';
import { nameSchema } from '../../stores/contract.ts';

/** Checks the name of a new volume or snapshot. @throws {InvalidArgumentError} */
export function parseName(text: string): string {
  const { data, error } = nameSchema.safeParse(text);
  if (data !== undefined) return data;
  throw new InvalidArgumentError(error?.issues[0]?.message ?? 'This is no name.');
}
