import { InvalidArgumentError } from 'commander';

const ADDRESS = /^e?(\d{1,5})\.(\d{1,3})$/;
const SHELF_MAX = 0xfffe;
const SLOT_MAX = 0xfe;

/** The address of one target. */
export interface Address {
  readonly shelf: number;
  readonly slot: number;
}

/** Reads `e1.0` or `1.0`. @throws {InvalidArgumentError} */
export function parseAddress(text: string): Address {
  const [, shelf, slot] = ADDRESS.exec(text)?.map(Number) ?? [];
  if (shelf === undefined || slot === undefined || shelf > SHELF_MAX || slot > SLOT_MAX) {
    throw new InvalidArgumentError('must be a shelf and a slot, such as e1.0');
  }
  return { shelf, slot };
}
