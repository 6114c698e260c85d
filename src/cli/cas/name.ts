import { InvalidArgumentError } from 'commander';

const NAME = /^[\w.:@+-]{1,128}$/;
const ROOT_HASH = /^[0-9a-f]{64}$/;

/** Checks the name of a new volume or snapshot. @throws {InvalidArgumentError} */
export function parseName(text: string): string {
  if (NAME.test(text) && !ROOT_HASH.test(text)) return text;
  throw new InvalidArgumentError(
    'A name has up to 128 letters, digits and . _ - + : @ and is no hash.',
  );
}
