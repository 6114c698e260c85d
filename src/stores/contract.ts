/**
 * What can be asked of a content-addressed store, whether this process has opened it or a running
 * server has: plain data, the same as JSON on the control socket and in the output of commands.
 * The schemas are the types, and the description that the control socket gives of them.
 */
import { z } from 'zod';

const bytes = (description: string) => z.number().nonnegative().describe(description);
const ratio = (description: string) => z.number().nullable().describe(description);
const root = z.string().describe('Hash of the root of its tree, in hex.');

/** Of a new volume or snapshot: no hash, and fit for a command line. */
export const nameSchema = z.string().regex(/^(?![0-9a-f]{64}$)[\w.:@+-]{1,128}$/, {
  error: 'A name has up to 128 letters, digits and . _ - + : @ and is no hash.',
});

export const volumeSchema = z
  .strictObject({ name: z.string(), sizeBytes: bytes('Of the disk.'), root })
  .describe('A volume.');
export const snapshotSchema = z
  .strictObject({
    name: z.string(),
    volume: z.string().describe('That it was taken of.'),
    sizeBytes: bytes('Of the disk.'),
    created: z.iso.datetime(),
    root,
  })
  .describe('A snapshot.');
export const storeListSchema = z.strictObject({
  volumes: z.array(volumeSchema),
  snapshots: z.array(snapshotSchema),
});

export const takeSnapshotSchema = z.strictObject({ volume: z.string(), name: nameSchema });
export const cloneSchema = z.strictObject({
  source: z.string().describe('Snapshot, volume, or root hash.'),
  name: nameSchema.describe('Of the new volume; e1.0 for shelf 1, slot 0.'),
});
export const rollbackSchema = z.strictObject({
  volume: z.string(),
  source: z.string().describe('Snapshot, volume, or root hash.'),
  force: z.boolean().optional().describe('Also when initiators have the volume in use.'),
});
export const receivedSchema = z.strictObject({
  volume: z.string().describe('That the snapshot was taken of.'),
  changedBytes: bytes('What the stream covers of the disk.'),
  foundBytes: bytes('What of it the store had already.'),
});
export const deletedSchema = z.strictObject({
  name: z.string(),
  kind: z.enum(['volume', 'snapshot']),
});

export const JOB_KINDS = ['stats', 'usage', 'diff', 'collect', 'scrub'] as const;
const rateSchema = z
  .number()
  .positive()
  .optional()
  .describe('The most to read and write in a second, in bytes.');
export const jobRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('stats') }),
  z.strictObject({ kind: z.literal('usage') }),
  z.strictObject({
    kind: z.literal('diff'),
    before: z.string().describe('Volume, snapshot, or root hash.'),
    after: z.string().describe('Volume, snapshot, or root hash.'),
  }),
  z.strictObject({
    kind: z.literal('collect'),
    bytesPerSecondMax: rateSchema,
    enoughBytes: z.number().positive().optional().describe('It may end when so much is freed.'),
  }),
  z.strictObject({
    kind: z.literal('scrub'),
    bytesPerSecondMax: rateSchema,
    remote: z.boolean().optional().describe('Also fetch and verify all of the blob store.'),
  }),
]);

const figuresSchema = z.strictObject({
  logicalBytes: bytes('Blocks of volumes and snapshots, as often as they occur; no zeroes.'),
  uniqueBytes: bytes('The same, each distinct block once.'),
  compressedBytes: bytes('What distinct blocks take after compression.'),
  liveBytes: bytes('What is needed: blocks, tree nodes, and their entries.'),
  garbageBytes: bytes('Records, less what is needed of them.'),
});
const statsSchema = figuresSchema.extend({
  volumes: z.number(),
  snapshots: z.number(),
  physicalBytes: bytes('Segment files, spares included.'),
  spares: z.number(),
  dedupRatio: ratio('Logical by unique; null when nothing is stored.'),
  compressionRatio: ratio('Unique by compressed; null when nothing is stored.'),
  segmentUtilisation: ratio('Share of the records that is needed, 0 to 1.'),
  indexEntries: z.number(),
  indexBytes: bytes('Memory of the index that finds duplicates.'),
  segments: z.array(
    z.strictObject({
      number: z.number(),
      stream: z.enum(['data', 'node', 'moved']),
      usedBytes: z.number(),
      liveBytes: z.number(),
    }),
  ),
});
const usageSchema = z.array(
  z.strictObject({
    name: z.string(),
    kind: z.enum(['volume', 'snapshot']),
    sizeBytes: bytes('Of the disk.'),
    logicalBytes: bytes('Blocks that are not zero.'),
    referencedBytes: bytes('What these take when each is stored for itself, compressed.'),
    exclusiveBytes: bytes('What nothing else needs: what deleting this would free.'),
  }),
);
const sectorsSchema = z.strictObject({
  lba: z.number().describe('In sectors of 512 bytes.'),
  sectors: z.number(),
});
const differencesSchema = z.array(sectorsSchema).describe('Extents, ascending.');
const collectedSchema = z.strictObject({
  examinedBytes: z.number(),
  liveBytes: z.number(),
  movedBytes: z.number(),
  freedSegments: z.number(),
  freedBytes: z.number(),
});
const scrubbedSchema = z.strictObject({
  verifiedBytes: z.number(),
  problems: z.array(z.string()).describe('Damage that was found when the store was opened.'),
  superblockCopies: z
    .array(z.number())
    .describe('Damaged copies of the superblock, 0 to 3, also those that opening has put right.'),
  damage: z.array(
    z.strictObject({
      segment: z.number(),
      offset: z.number().describe('Of the record, in bytes.'),
      hash: z.string().optional().describe('Of the damaged frame; absent for the record itself.'),
    }),
  ),
  blobStore: z
    .strictObject({
      verifiedBytes: z.number(),
      damage: z.array(
        z.strictObject({
          blob: z.string().describe('Its name, behind the prefix.'),
          missing: z.boolean(),
          replaced: z.boolean().describe('Stored anew under another name, from the local disk.'),
        }),
      ),
    })
    .nullable()
    .describe('null when it was not asked for.'),
  lost: z
    .array(sectorsSchema.extend({ kind: z.enum(['volume', 'snapshot']), name: z.string() }))
    .describe('Sectors that cannot be read.'),
});

export const jobStatusSchema = z
  .strictObject({
    id: z.number(),
    kind: z.enum(JOB_KINDS),
    state: z.enum(['waiting', 'running', 'done', 'failed', 'cancelled']),
    phase: z.string().nullable().describe('What it does now; null when it does not tell.'),
    doneBytes: bytes('Of this phase.'),
    totalBytes: bytes('Of this phase; 0 when it is not known.'),
    startedAt: z.iso.datetime(),
  })
  .describe('Work on a store that takes its time.');
export const jobSchema = jobStatusSchema.extend({
  result: z
    .union([statsSchema, usageSchema, differencesSchema, collectedSchema, scrubbedSchema])
    .nullable()
    .describe('When it is done, by kind.'),
  error: z.string().nullable().describe('Why it failed.'),
  remedy: z.string().nullable(),
});

export const storeStatusSchema = z
  .strictObject({
    path: z.string(),
    damaged: z.boolean().describe('For reading only, because it was found damaged when opened.'),
    failed: z
      .boolean()
      .describe('Nothing can be written until it is opened anew, by readd or a restart.'),
    volumes: z.number(),
    snapshots: z.number(),
    usedBytes: bytes('Records.'),
    physicalBytes: bytes('Segment files, spares included.'),
    freeBytes: bytes('In the filesystem, for more of them.').nullable(),
    logBytes: bytes('Log since the last checkpoint, which a restart would replay.'),
    indexEntries: z.number(),
    indexBytes: bytes('Memory of the index that finds duplicates.'),
    measured: z
      .strictObject({ at: z.iso.datetime(), figures: figuresSchema })
      .nullable()
      .describe('By the last job that told stats; the server starts one itself now and then.'),
    blobStore: z
      .strictObject({
        lagBytes: bytes('Log that is on the local disk only.'),
        lagSeconds: z.number().nonnegative().describe('Since the oldest of it was written.'),
        unreachable: z.string().nullable().describe('Why it did not take something last.'),
        localDamage: z
          .string()
          .nullable()
          .describe('What cannot be stored because of the local disk.'),
      })
      .nullable()
      .describe('Where the store is kept as well; null: nowhere.'),
    jobs: z.array(jobStatusSchema).describe('Those that wait or run, and the last that ended.'),
  })
  .describe('A content-addressed store.');

export type StoreVolume = z.infer<typeof volumeSchema>;
export type StoreSnapshot = z.infer<typeof snapshotSchema>;
export type StoreList = z.infer<typeof storeListSchema>;
export type ReceivedSnapshot = z.infer<typeof receivedSchema>;
export type Deleted = z.infer<typeof deletedSchema>;
export type StoreReport = z.infer<typeof statsSchema>;
export type Collected = z.infer<typeof collectedSchema>;
export type Scrubbed = z.infer<typeof scrubbedSchema>;
export type JobRequest = z.infer<typeof jobRequestSchema>;
export type JobStatus = z.infer<typeof jobStatusSchema>;
export type Job = z.infer<typeof jobSchema>;
export type StoreStatus = z.infer<typeof storeStatusSchema>;

export type JobKind = JobRequest['kind'];
export type JobOf<Kind extends JobKind> = Extract<JobRequest, { kind: Kind }>;

/** What each kind of job ends with. */
export interface JobResults {
  readonly stats: StoreReport;
  readonly usage: z.infer<typeof usageSchema>;
  readonly diff: z.infer<typeof differencesSchema>;
  readonly collect: Collected;
  readonly scrub: Scrubbed;
}

/** Who waits for a job. */
export interface JobWatch {
  /** Cancels it. */
  readonly signal: AbortSignal;
  onProgress(phase: string, doneBytes: number, totalBytes: number): void;
}

/** What operators can do to a store. Everything but jobs takes a moment. */
export interface StoreOperations {
  list(): Promise<StoreList>;
  /** @throws {StartupError} there is no such volume, or the name is taken */
  snapshot(volume: string, name: string): Promise<StoreSnapshot>;
  /** @throws {StartupError} there is no such source, or the name is taken */
  clone(source: string, name: string): Promise<StoreVolume>;
  /** @throws {StartupError} it is in use and not forced, or does not fit */
  rollback(volume: string, source: string, force: boolean): Promise<StoreVolume>;
  /** @throws {StartupError} there is neither a volume nor a snapshot of this name, or it is in use */
  delete(name: string): Promise<Deleted>;
  /** @throws when it fails, or is cancelled */
  run<Kind extends JobKind>(job: JobOf<Kind>, watch: JobWatch): Promise<JobResults[Kind]>;
}
