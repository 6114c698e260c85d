/**
 * The catalog: everything about a store but its blocks and trees, as JSON in a record of the node
 * stream. A checkpoint writes it anew; the superblock names the current one.
 */
import {
  HASH_WORDS,
  hexOf,
  inlineText,
  RecordType,
  readRecordHeader,
  wordsOfHex,
} from './format.ts';
import type { StreamName } from './segments.ts';
import type { StreamPosition } from './stream.ts';
import { REFERENCE_WORDS } from './tree.ts';

/** Hash in hex, then where the node is stored: segment and place; the hash of zeroes if empty. */
export type RootEntry = readonly [hash: string, segment: number, place: number];

export interface VolumeEntry {
  readonly id: number;
  readonly name: string;
  readonly sizeBytes: number;
  readonly root: RootEntry;
}

export interface SnapshotEntry {
  readonly name: string;
  /** The volume that it was taken of. */
  readonly volume: string;
  readonly sizeBytes: number;
  readonly root: RootEntry;
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
}

export interface SegmentEntry {
  readonly number: number;
  readonly stream: StreamName;
  readonly usedBytes: number;
  readonly sealed: boolean;
  /** The generation that does not need it any more; 0 while it is needed. */
  readonly condemnedIn: number;
}

export interface Catalog {
  readonly segmentBytes: number;
  readonly nextSegment: number;
  readonly nextVolume: number;
  /** Where replay begins, and where the other streams go on. */
  readonly streams: Readonly<Record<StreamName, StreamPosition>>;
  readonly segments: readonly SegmentEntry[];
  readonly volumes: readonly VolumeEntry[];
  readonly snapshots: readonly SnapshotEntry[];
}

/** What the record of a catalog says. */
export function catalogText(catalog: Catalog): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(catalog));
}

/** Reads a checked record. @returns undefined when it is none of a catalog */
export function decodeCatalog(record: Uint8Array, store: Uint8Array): Catalog | undefined {
  const header = readRecordHeader(record, store);
  if (header?.type !== RecordType.catalog) return undefined;
  return JSON.parse(inlineText(record, header)) as Catalog;
}

export function referenceOf([hash, segment, place]: RootEntry): Uint32Array {
  const reference = new Uint32Array(REFERENCE_WORDS);
  reference.set(wordsOfHex(hash));
  reference[HASH_WORDS] = segment;
  reference[HASH_WORDS + 1] = place;
  return reference;
}

export function rootEntry(reference: Uint32Array): RootEntry {
  return [
    hexOf(reference, 0),
    reference[HASH_WORDS] as number,
    reference[HASH_WORDS + 1] as number,
  ];
}
