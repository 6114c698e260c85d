/**
 * The names of the blobs of a store: its parts, and the entries of its journal, of either kind.
 *
 *     segment-SSSSSSSS-EEEEEEEE-FFFFFFFF-TTTTTTTT[-NONCE]   segment, epoch, from byte, to byte
 *     journal-NNNNNNNNNNNNNNNN                              number, from 1 on
 *     journal-eEEEEEEEEEEEEEEEE-NNNNNNNNNNNNNNNN-NONCE      epoch, number (0: the mark of a claim)
 */
import type { Entry, Part } from './journal-entry.ts';

export const PART_PREFIX = 'segment-';
export const JOURNAL_PREFIX = 'journal-';

const UNIQUE = /^journal-e(\d{16})-(\d{16})-([0-9a-f]+)$/;

export function partName(segment: number, [from, to, epoch, , nonce]: Part): string {
  const numbers = [segment, epoch, from, to].map((number) => padded(number, 8));
  const name = `${PART_PREFIX}${numbers.join('-')}`;
  return nonce === undefined ? name : `${name}-${nonce}`;
}

/** What the name of a part says of it. */
export function parsePartName(name: string): { readonly segment: number; readonly epoch: number } {
  const [segment, epoch] = name.slice(PART_PREFIX.length).split('-');
  return { segment: Number(segment), epoch: Number(epoch) };
}

export function numberedName(number: number): string {
  return `${JOURNAL_PREFIX}${padded(number, 16)}`;
}

/** @returns NaN when it is a name of another kind */
export function numberOf(name: string): number {
  return Number(name.slice(JOURNAL_PREFIX.length));
}

/** An entry by its name. */
export interface EntryName {
  readonly name: string;
  readonly number: number;
}

/** An entry or a mark whose name nobody else ever uses. */
export interface UniqueName extends EntryName {
  readonly epoch: number;
}

export function uniqueName(entry: Pick<Entry, 'epoch' | 'number' | 'nonce'>): string {
  const { epoch, number, nonce } = entry;
  return `${JOURNAL_PREFIX}e${padded(epoch, 16)}-${padded(number, 16)}-${nonce}`;
}

/** @returns undefined when it is no such name */
export function parseUniqueName(name: string): UniqueName | undefined {
  const [, epoch, number] = UNIQUE.exec(name) ?? [];
  return epoch === undefined ? undefined : { name, epoch: Number(epoch), number: Number(number) };
}

function padded(number: number, digits: number): string {
  return String(number).padStart(digits, '0');
}
