/** An entry of the journal of a remote store, as it is stored. */
import { randomBytes } from 'node:crypto';
import { StartupError } from '../../../core/startup-error.ts';
import type { BlobStore } from '../blob-store.ts';
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
/** What the names of all entries begin with. */
export const JOURNAL_PREFIX = 'journal-';
/** More than any entry has. */
const ENTRY_BYTES_MAX = 1 << 30;

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

export async function readEntry(blobs: BlobStore, name: string, number: number): Promise<Entry> {
  const bytes = await blobs.getRange(name, 0, ENTRY_BYTES_MAX);
  const entry = JSON.parse(new TextDecoder().decode(bytes)) as Entry;
  if (entry.version === VERSION && entry.number === number) return entry;
  throw new Error(`${name} is no journal entry of version ${VERSION}`);
}

export function encodeEntry(entry: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(entry));
}

export function newNonce(): string {
  return randomBytes(16).toString('hex');
}
