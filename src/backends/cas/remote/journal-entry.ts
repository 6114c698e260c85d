/** An entry of the journal of a remote store, as it is stored. */
import { createHash, randomBytes } from 'node:crypto';
import { StartupError } from '../../../core/startup-error.ts';
import type { Superblock } from '../superblock.ts';

/**
 * A stretch of a segment that is a blob: records from byte `from` up to byte `to`. The nonce is
 * there when the blob store knows no conditions: the name is nobody else's then.
 */
export type Part = readonly [
  from: number,
  to: number,
  epoch: number,
  headBytes: number,
  nonce?: string,
];

/** The part that holds a byte of its segment. */
export function partAt(parts: readonly Part[] | undefined, offset: number): Part | undefined {
  return parts?.find(([from, to]) => from <= offset && offset < to);
}

/** Up to which byte parts hold their segment. */
export function endOfParts(parts: readonly Part[] | undefined): number {
  return parts?.at(-1)?.[1] ?? 0;
}

/** Who may write to the store. */
export interface Owner {
  /** Of its claim: random, and kept in the local directory. */
  readonly id: string;
  /** For people. */
  readonly host: string;
}

/** Of an entry that is not there any more. */
export const UNKNOWN_OWNER: Owner = { id: '', host: 'another host' };

/** JSON in UTF-8. */
export interface Entry {
  readonly version: 1;
  readonly number: number;
  /** The entry from which on all must be read; this one if it says everything. */
  readonly base: number;
  /** How often the store had been claimed. */
  readonly epoch: number;
  readonly owner: Owner;
  /** Random: which attempt to create an entry this is. */
  readonly nonce: string;
  /** Of an entry under a unique name: the name of the one before, if it is no base. */
  readonly after?: string;
  /** Of an entry under a unique name: attempts since the one before that do not count. */
  readonly abandoned?: readonly string[];
  /** The owner has left it in order: anybody may claim it. */
  readonly closed: boolean;
  readonly segmentBytes: number;
  readonly superblock: (Omit<Superblock, 'store'> & { readonly store: string }) | null;
  readonly segments: readonly { readonly number: number; readonly parts: readonly Part[] }[];
  readonly removed: readonly number[];
}

export const VERSION = 1;
/** Nowhere else: in a string quotes are escaped. */
const TAIL_KEY = ',"sha256":';

/** Another server writes to the blob store. */
export class FencedError extends StartupError {
  constructor({ host }: Owner) {
    super(
      `the server on ${host} has taken over the blob store: this one must not write any more`,
      'let one server have it, and none use a copy of its directory or machine beside it',
    );
    this.name = 'FencedError';
  }
}

/** The text of an entry ends with the hash of all before it; one of an earlier server has none. */
export function encodeEntry(entry: object): Uint8Array {
  const text = JSON.stringify(entry).slice(0, -1);
  return new TextEncoder().encode(text + tailOf(text));
}

/** @returns undefined when it is damaged */
export function decodeEntry(bytes: Uint8Array): Entry | undefined {
  let text = new TextDecoder().decode(bytes);
  const end = text.lastIndexOf(TAIL_KEY);
  if (end !== -1) {
    const tail = text.slice(end);
    text = text.slice(0, end);
    if (tailOf(text) !== tail) return undefined;
    text += '}';
  }
  try {
    return JSON.parse(text) as Entry;
  } catch {
    return undefined;
  }
}

function tailOf(text: string): string {
  return `${TAIL_KEY}"${createHash('sha256').update(text).digest('hex')}"}`;
}

export function newNonce(): string {
  return randomBytes(16).toString('hex');
}
