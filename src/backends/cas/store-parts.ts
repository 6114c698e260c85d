/**
 * What an open store is made of, and what its parts tell each other.
 *
 *     devices --> cache --> writer --> log ---------> replica --> blob store
 *        |                    |         |                ^
 *      reader <---- maps <----+     schedule             |
 *                     |                 v                |
 *                     +----------> checkpointer --> nodes, superblock
 *
 * The writer asks whether there is room, in the log and for maps; who finds none makes some. Each
 * record of the log may make a checkpoint due, and a round of the replica.
 */
import { BlockStatus } from '../../core/block-error.ts';
import type { CasEngine } from '../../native.ts';
import { BlockCache } from './block-cache.ts';
import { Checkpointer, type CheckpointParts } from './checkpoint.ts';
import { CheckpointSchedule } from './checkpoint-schedule.ts';
import { MapRoom } from './map-room.ts';
import { OpenDevices } from './open-devices.ts';
import type { BlockReader } from './reader.ts';
import type { Journal } from './remote/journal.ts';
import type { PartCache } from './remote/part-cache.ts';
import { Replica } from './remote/replica.ts';
import type { Segments } from './segments.ts';
import type { Loaded } from './store-files.ts';
import type { StoreOptions } from './store-options.ts';
import { RecordStream } from './stream.ts';
import { VolumeTable } from './volume-table.ts';
import { Writer } from './writer.ts';

/** What is there before a store is loaded. */
export interface OpenParts {
  readonly path: string;
  readonly options: StoreOptions;
  readonly engine: CasEngine;
  readonly segments: Segments;
  readonly reader: BlockReader;
  /** Of the blob store, claimed. */
  readonly journal: Journal | undefined;
  /** What of the blob store is on this disk. */
  readonly partCache: PartCache | undefined;
  /** Releases the files of the store, and its lock. */
  closeFiles(): Promise<void>;
}

export interface StoreParts {
  readonly log: RecordStream;
  readonly nodes: RecordStream;
  readonly moved: RecordStream;
  readonly volumes: VolumeTable;
  readonly cache: BlockCache;
  readonly writer: Writer;
  readonly schedule: CheckpointSchedule;
  readonly checkpointer: Checkpointer;
  readonly devices: OpenDevices;
  /** Keeps the blob store up with this disk, if there is one. */
  readonly replica: Replica | undefined;
}

/** @param checkpoint makes one if the store can be written */
export function assemble(
  opened: OpenParts,
  loaded: Loaded,
  checkpoint: (isUrgent?: () => boolean) => Promise<void>,
): StoreParts {
  const { path, options, engine, segments, reader } = opened;
  const { batchBlocks, queuedMax, nodeCountMax, checkpointNodes, compress } = options;
  const { onFailed, onDamage } = options;
  const superblock = { ...loaded.superblock, epoch: loaded.superblock.epoch + 1 };
  const { streams } = loaded.catalog;
  const fail = (error: Error) => writer.log.fail(error);
  const log = new RecordStream('data', segments, superblock, loaded.logEnd, fail);
  const nodes = new RecordStream('node', segments, superblock, loaded.nodeEnd, fail);
  const moved = new RecordStream('moved', segments, superblock, streams.moved, fail);
  const volumes = new VolumeTable(path, loaded);
  const mapRoom = new MapRoom({ volumes, nodes, segments, checkpointNodes });
  const cache = new BlockCache(options.cacheBytes);
  const writer = new Writer({
    ...{ engine, segments, cache, reader, log, batchBlocks, queuedMax },
    ...{ compress, onFailed },
    onRecord: (length) => {
      schedule.logged(length, volumes.changedCount, mapRoom.isScarce);
      replica?.logged(length);
    },
    isGivenUp: () => devices.isGivenUp,
    hasRoomForMaps: (queuedCount) => mapRoom.hasRoomFor(queuedCount),
  });
  segments.promisedSpares = () => writer.room.promisedSpares;
  reader.whenWritten = () => writer.written();
  const schedule = new CheckpointSchedule(options, checkpoint);
  const { superblockFile, foundSuperblocks } = loaded;
  const checkpointParts: CheckpointParts = {
    ...{ engine, segments, volumes, writer, log, nodes, moved, superblockFile },
    ...{ batchBlocks, nodeCountMax },
    damagedCopies: foundSuperblocks.damaged,
    isReplica: options.remote !== undefined,
    onFrozen: () => schedule.begun(),
    onDurable: (...durable) => replica?.checkpointed(...durable),
    isNeeded: (segment) => replica?.needs(segment) ?? false,
  };
  const checkpointer = new Checkpointer(checkpointParts, superblock, streams.data);
  const replica = newReplica(opened, loaded, log, fail);
  const devices = new OpenDevices({
    ...{ cache, reader, writer, volumes, nodeCountMax, onDamage },
    spares: segments.spares,
    makeRoom: async () => {
      if (!mapRoom.hasRoomFor(1)) await checkpoint().catch(() => {});
      return writer.hasRoom || (await options.makeRoom());
    },
    flush: (done) => flush(writer, log, replica, done),
  });
  return { log, nodes, moved, volumes, cache, writer, schedule, checkpointer, devices, replica };
}

function newReplica(
  { journal, partCache: cache, engine, segments, options: { remote: options } }: OpenParts,
  { problems }: Loaded,
  log: RecordStream,
  onFailed: (error: Error) => void,
): Replica | undefined {
  if (!journal || !cache || !options || problems.length > 0) return undefined;
  return new Replica({ journal, engine, segments, log, cache, options, onFailed });
}

/** Makes what was written so far as durable as the options ask for. */
function flush(
  writer: Writer,
  log: RecordStream,
  replica: Replica | undefined,
  done: (status: BlockStatus) => void,
): void {
  writer.flush((status) => {
    if (status === BlockStatus.ok && replica?.mustConfirm()) {
      replica.reach(log.durableSequence, done);
    } else {
      done(status);
    }
  });
}
