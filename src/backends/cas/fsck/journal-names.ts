/** The names of blobs, taken apart. */
import type { BlobPart } from './blob-parts.ts';

export const JOURNAL_PREFIX = 'journal-';
export const PART_PREFIX = 'segment-';

const ENTRY = /^journal-(?:e(\d{16})-)?(\d{16})(?:-[0-9a-f]+)?$/;
const PART = /^segment-(\d{8,})-(\d{8,})-(\d{8,})-(\d{8,})(?:-[0-9a-f]+)?$/;

/** An entry of a journal, or the mark of a claim, by its name. */
export interface EntryName {
  readonly name: string;
  /** undefined in a journal on a service that knows conditions. */
  readonly epoch: number | undefined;
  /** 0 for a mark. */
  readonly number: number;
}

/** @returns undefined when it is no name of an entry */
export function parseEntryName(name: string): EntryName | undefined {
  const [, epoch, number] = ENTRY.exec(name) ?? [];
  if (number === undefined) return undefined;
  return { name, epoch: epoch === undefined ? undefined : Number(epoch), number: Number(number) };
}

/** A part as its name and size describe it, where no journal does. */
export function parsePartName(name: string, sizeBytes: number): BlobPart | undefined {
  const [, segment, , from, to] = PART.exec(name) ?? [];
  if (from === undefined || to === undefined) return undefined;
  const length = Number(to) - Number(from);
  if (length <= 0 || length > sizeBytes) return undefined;
  const place = { segment: Number(segment), from: Number(from), to: Number(to) };
  return { name, ...place, headBytes: sizeBytes - length };
}

export function partName(
  segment: number,
  [from, to, epoch, , nonce]: readonly [number, number, number, number, string?],
): string {
  const numbers = [segment, epoch, from, to].map((number) => String(number).padStart(8, '0'));
  return [`${PART_PREFIX}${numbers.join('-')}`, ...(nonce === undefined ? [] : [nonce])].join('-');
}
