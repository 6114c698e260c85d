/** Does what is asked of a store that this process has open. */
import {
  type BlobsReport,
  type CasStore,
  collect,
  DamageError,
  diffRoots,
  encodeHaveList,
  findRoot,
  gatherHashes,
  measureUsage,
  Pace,
  type Received,
  receiveSnapshot,
  type StoredRoot,
  scrub,
  sendSnapshot,
  storedRoots,
  surveyStore,
  type Transfer,
  whileNothingIsFreed,
} from '../backends/cas/index.ts';
import { StartupError } from '../core/startup-error.ts';
import type {
  Deleted,
  JobKind,
  JobOf,
  JobRequest,
  JobResults,
  JobWatch,
  Scrubbed,
  StoreList,
  StoreOperations,
  StoreReport,
  StoreSnapshot,
  StoreVolume,
} from './contract.ts';
import { SECTORS_PER_BLOCK } from './sectors.ts';
import type { SendRequest, StoreStreams } from './streams.ts';

export interface StoreActionsOptions {
  /** For jobs that are not given one; without it they go as fast as they can. */
  readonly bytesPerSecondMax?: number;
  /** Does somebody wait for room? Then jobs go as fast as they can. */
  readonly isUrgent?: () => boolean;
  /** A longer list of differences is refused. */
  readonly extentsMax?: number;
  /** So many blocks of a stream are remembered, which are not sent again. */
  readonly sentCountMax?: number;
  /** A longer list of hashes is refused. */
  readonly hashCountMax?: number;
}

export class StoreActions implements StoreOperations, StoreStreams {
  readonly #store: CasStore;
  readonly #options: StoreActionsOptions;

  constructor(store: CasStore, options: StoreActionsOptions = {}) {
    this.#store = store;
    this.#options = options;
  }

  async list(): Promise<StoreList> {
    const store = this.#store;
    // Roots are those of the last checkpoint.
    if (!store.readOnly) await store.checkpoint();
    const isVolume = ({ name }: StoredRoot) => store.findVolume(name) !== undefined;
    return {
      volumes: storedRoots(store).filter(isVolume).map(describeVolume),
      snapshots: store.snapshots.map(describeSnapshot),
    };
  }

  async snapshot(volume: string, name: string): Promise<StoreSnapshot> {
    const entry = await this.#store.changes.snapshot(volume, name);
    await this.confirm();
    return describeSnapshot(entry);
  }

  async clone(source: string, name: string): Promise<StoreVolume> {
    await this.#store.changes.clone(source, name);
    await this.confirm();
    return describeVolume(await findRoot(this.#store, name));
  }

  /** Is to be {@link confirm}ed: by then its target may be served again. */
  async rollback(volume: string, source: string, force: boolean): Promise<StoreVolume> {
    await this.#store.changes.rollback(volume, source, force);
    return describeVolume(await findRoot(this.#store, volume));
  }

  async delete(name: string): Promise<Deleted> {
    const store = this.#store;
    if (store.findVolume(name) !== undefined) {
      await store.changes.deleteVolume(name);
      await this.confirm();
      return { name, kind: 'volume' };
    }
    await store.whenSnapshotsStored();
    if (store.snapshots.some((snapshot) => snapshot.name === name)) {
      await store.changes.deleteSnapshot(name);
      await this.confirm();
      return { name, kind: 'snapshot' };
    }
    throw new StartupError(
      `the store ${store.path} has no volume or snapshot ${name}`,
      'see which ones there are: aoe-server cas list',
    );
  }

  /** @throws {StartupError} what was changed is not in the blob store yet, where that is asked for */
  confirm(): Promise<void> {
    return this.#store.confirm();
  }

  async run<Kind extends JobKind>(job: JobOf<Kind>, watch: JobWatch): Promise<JobResults[Kind]> {
    return (await explaining(this.#store, this.#run(job, watch))) as JobResults[Kind];
  }

  send(
    name: string,
    { from: baseName, held }: SendRequest,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    const { sentCountMax } = this.#options;
    const pace = this.#paceOfStream(signal);
    return sendSnapshot(this.#store, name, { baseName, held, pace, sentCountMax });
  }

  async hashes(signal: AbortSignal): Promise<Iterable<Uint8Array>> {
    const { hashCountMax } = this.#options;
    const gathering = gatherHashes(this.#store, this.#pace(signal), hashCountMax);
    return encodeHaveList(await explaining(this.#store, gathering));
  }

  async receive(name: string, transfer: Transfer, signal: AbortSignal): Promise<Received> {
    const pace = this.#paceOfStream(signal);
    const received = await receiveSnapshot(this.#store, name, transfer, pace);
    await this.confirm();
    return received;
  }

  /** No collection waits for a stream: its haste would keep who waits for room from the disk. */
  #paceOfStream(signal: AbortSignal): Pace {
    return new Pace({ bytesPerSecondMax: this.#options.bytesPerSecondMax, signal });
  }

  #pace(signal: AbortSignal, bytesPerSecondMax = this.#options.bytesPerSecondMax): Pace {
    return new Pace({ bytesPerSecondMax, signal, isUrgent: this.#options.isUrgent });
  }

  async #run(job: JobRequest, watch: JobWatch): Promise<JobResults[JobKind]> {
    const store = this.#store;
    const rate = 'bytesPerSecondMax' in job ? job.bytesPerSecondMax : undefined;
    const pace = this.#pace(watch.signal, rate);
    switch (job.kind) {
      case 'stats':
        return makeReport(store, pace);
      case 'usage':
        return measureUsage(store, pace);
      case 'diff':
        return this.#diff(job, pace);
      case 'collect': {
        const { onProgress } = watch;
        const { enoughBytes = Number.POSITIVE_INFINITY } = job;
        const collected = await collect(store, { pace, onProgress, enoughBytes });
        return { ...collected, freedBytes: collected.freedSegments * store.segments.segmentBytes };
      }
      case 'scrub':
        return verify(store, job.remote ?? false, pace, watch);
    }
  }

  #diff({ before, after }: JobOf<'diff'>, pace: Pace): Promise<JobResults['diff']> {
    const store = this.#store;
    const { extentsMax = Number.MAX_SAFE_INTEGER } = this.#options;
    if (store.readOnly) {
      throw new StartupError(
        `the store ${store.path} is damaged, so what it has of its volumes may be out of date`,
        'see what is damaged: aoe-server cas scrub',
      );
    }
    return whileNothingIsFreed(store, pace, async () => {
      await store.checkpointWritten(() => pace.isUrgent);
      const roots = [await findRoot(store, before), await findRoot(store, after)] as const;
      const found: JobResults['diff'] = [];
      for await (const { firstLba, count } of diffRoots(store.reader, ...roots, pace)) {
        if (found.length === extentsMax) throw tooDifferent(extentsMax);
        found.push({ lba: firstLba * SECTORS_PER_BLOCK, sectors: count * SECTORS_PER_BLOCK });
      }
      return found;
    });
  }
}

/** Says whose damage it is, and what helps. */
async function explaining<T>({ path }: CasStore, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    throw new StartupError(
      `the store ${path} is damaged: there is ${error.message}`,
      'see what is lost: aoe-server cas scrub',
      { cause: error },
    );
  }
}

function describeVolume({ name, sizeBytes, root }: StoredRoot): StoreVolume {
  return { name, sizeBytes, root: root[0] };
}

function describeSnapshot(entry: CasStore['snapshots'][number]): StoreSnapshot {
  const { name, volume, sizeBytes, createdMs, root } = entry;
  return { name, volume, sizeBytes, created: new Date(createdMs).toISOString(), root: root[0] };
}

async function makeReport(store: CasStore, pace: Pace): Promise<StoreReport> {
  const { segments, ...figures } = await surveyStore(store, pace);
  const { physicalBytes, spareCount, indexCount, indexBytes } = store.stats();
  const { logicalBytes, uniqueBytes, compressedBytes, liveBytes, garbageBytes } = figures;
  return {
    volumes: [...store.volumes].length,
    snapshots: store.snapshots.length,
    ...figures,
    physicalBytes,
    spares: spareCount,
    dedupRatio: divide(logicalBytes, uniqueBytes),
    compressionRatio: divide(uniqueBytes, compressedBytes),
    segmentUtilisation: divide(liveBytes, liveBytes + garbageBytes),
    indexEntries: indexCount,
    indexBytes,
    segments: [...segments],
  };
}

function divide(amount: number, by: number): number | null {
  return by === 0 ? null : Number((amount / by).toFixed(4));
}

async function verify(
  store: CasStore,
  remote: boolean,
  pace: Pace,
  { onProgress }: JobWatch,
): Promise<Scrubbed> {
  const scrubbed = await scrub(store, { pace, remote, onProgress });
  const { doneBytes, superblockCopies, damage, blobs, affected } = scrubbed;
  return {
    verifiedBytes: doneBytes,
    problems: [...store.problems],
    superblockCopies: [...superblockCopies],
    damage: damage.map(({ hash, ...place }) => ({ ...place, ...(hash && { hash }) })),
    blobStore: blobs === undefined ? null : describeBlobs(blobs),
    lost: affected.map(({ name, lba, count }) => ({
      kind: store.findVolume(name) === undefined ? 'snapshot' : 'volume',
      name,
      lba: lba * SECTORS_PER_BLOCK,
      sectors: count * SECTORS_PER_BLOCK,
    })),
  };
}

function describeBlobs({ doneBytes, damage }: BlobsReport): NonNullable<Scrubbed['blobStore']> {
  return {
    verifiedBytes: doneBytes,
    damage: damage.map(({ name, isMissing, isReplaced }) => {
      return { blob: name, missing: isMissing, replaced: isReplaced };
    }),
  };
}

function tooDifferent(extentsMax: number): StartupError {
  return new StartupError(
    `they differ in more than ${extentsMax} extents, too many for a server to tell`,
    'stop the server, and ask again',
  );
}
