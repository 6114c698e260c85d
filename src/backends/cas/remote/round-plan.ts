/**
 * What a round is to store: a state that a crash could have left. It is the newest checkpoint with
 * all segments that it names, up to the length that it says, and the log up to a durable record.
 */
import type { Catalog } from '../catalog.ts';
import type { Segments } from '../segments.ts';
import type { RecordStream } from '../stream.ts';
import type { Superblock } from '../superblock.ts';

export interface Checkpoint {
  readonly superblock: Superblock;
  readonly catalog: Catalog;
}

/** @returns the numbers of segments, and up to which byte */
export function planRound(
  { superblock, catalog }: Checkpoint,
  { durable }: RecordStream,
  { table }: Segments,
): Map<number, number> {
  const ends = new Map(catalog.segments.map(({ number, usedBytes }) => [number, usedBytes]));
  ends.set(superblock.segment, superblock.offset + superblock.length);
  for (const { number, stream, usedBytes } of table.values()) {
    const isLog = stream === 'data' && number >= catalog.streams.data.segment;
    if (isLog && number < durable.segment) ends.set(number, usedBytes);
  }
  if (durable.segment > 0) ends.set(durable.segment, durable.offset);
  return ends;
}
