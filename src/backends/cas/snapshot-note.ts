/**
 * A snapshot as the log has it: a record of its own, which says that the volume as it is by then
 * is kept under a name. JSON; the root is not in it, for the map is written later.
 */
import type { SnapshotEntry } from './catalog.ts';
import { inlineText, type RecordHeader } from './format.ts';

export interface SnapshotNote extends Omit<SnapshotEntry, 'root'> {
  /** The number of the volume whose records in the log count. */
  readonly id: number;
}

export function encodeSnapshotNote(note: SnapshotNote): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(note));
}

/** Reads a checked record of type snapshot. */
export function decodeSnapshotNote(record: Uint8Array, header: RecordHeader): SnapshotNote {
  return JSON.parse(inlineText(record, header)) as SnapshotNote;
}
