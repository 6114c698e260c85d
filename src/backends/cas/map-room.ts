/**
 * Room for maps: no more of them is changed than a checkpoint can store. A write that is taken
 * beyond that could never leave the log, and nothing could be freed any more.
 */
import { ENTRY_SIZE, NODE_SIZE } from './format.ts';
import type { Segments } from './segments.ts';
import type { RecordStream } from './stream.ts';
import type { VolumeTable } from './volume-table.ts';

/** What a tree node takes of a segment at most. */
const NODE_BYTES_MAX = ENTRY_SIZE + NODE_SIZE;
/** Nodes that a write to a block may change: more only in the first writes to a part of a volume. */
const NODES_CHANGED = 2;

export interface MapRoomParts {
  readonly volumes: VolumeTable;
  readonly nodes: RecordStream;
  readonly segments: Segments;
  /** Changed nodes after which a checkpoint is made: there are hardly ever many more. */
  readonly checkpointNodes: number;
}

export class MapRoom {
  readonly #parts: MapRoomParts;

  constructor(parts: MapRoomParts) {
    this.#parts = parts;
  }

  /** Would a checkpoint find room for all maps, with the changes of so many more blocks? */
  hasRoomFor(blockCount: number): boolean {
    return this.#fits(blockCount * NODES_CHANGED);
  }

  /** Is a checkpoint due? At half of what fits: there are more changes while it runs. */
  get isScarce(): boolean {
    return !this.#fits(this.#parts.volumes.unstoredCount);
  }

  #fits(moreNodes: number): boolean {
    const { volumes, nodes, segments, checkpointNodes } = this.#parts;
    const nodesMax = (nodes.roomBytes + segments.nodeRoomBytes) / NODE_BYTES_MAX;
    // There is nearly always so much that they need not be counted.
    if (nodesMax > 4 * checkpointNodes + moreNodes) return true;
    return volumes.unstoredCount + moreNodes <= nodesMax;
  }
}
