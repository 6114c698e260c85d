/** A store most of whose frames are only in blobs, for examinations of it. */
import { cpSync } from 'node:fs';
import { vi } from 'vitest';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { hostFiles } from '../../../../src/backends/cas/file-layer.ts';
import {
  BLOCK_SIZE,
  FANOUT,
  RECORD_HEADER_SIZE,
  RecordType,
} from '../../../../src/backends/cas/format.ts';
import { type Examination, examine } from '../../../../src/backends/cas/fsck/index.ts';
import { openCasStore } from '../../../../src/backends/cas/open.ts';
import { partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import { REMOTE_DEFAULTS } from '../../../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { blockOf, blocksOf, clientOf, TINY } from '../tiny-store.ts';
import { diskBytes, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** Of the type in the header of a record. */
const TYPE_OFFSET = 6;
export const COUNT = FANOUT + 40;
export const SIZE = COUNT * BLOCK_SIZE;
/** Of block 30, which is stored as it is, once, and only in a blob. */
const SEED = 62;

export class StoredStore {
  readonly path: string;
  /** As the directory was before the last claim. */
  readonly former: string;
  readonly blobs = new TraceBlobs();
  /** The names of the parts and entries that count. */
  parts: readonly string[] = [];
  entries: readonly string[] = [];

  private constructor(path: string) {
    this.path = path;
    this.former = `${path}, before the last claim`;
  }

  static async make(path: string, knowsConditions: boolean): Promise<StoredStore> {
    const made = new StoredStore(path);
    made.blobs.knowsConditions = knowsConditions;
    const first = await openOn(path, made.blobs);
    await first.openVolume('v', SIZE);
    await first.close();
    cpSync(path, made.former, { recursive: true });
    const store = await openOn(path, made.blobs);
    await fill(store);
    await vi.waitUntil(async () => (await diskBytes(store)) < usedBytes(store) * 0.4, WAIT);
    await store.close();
    const { image, entries } = await Journal.read(made.blobs);
    made.entries = [...entries.keys()];
    made.parts = [...image.segments].flatMap(([segment, parts]) =>
      parts.map((part) => partName(segment, part)),
    );
    return made;
  }

  /** What it has in blobs, to be damaged. */
  copyBlobs(): TraceBlobs {
    const copy = new TraceBlobs();
    for (const [name, bytes] of this.blobs.blobs) copy.blobs.set(name, bytes.slice());
    return copy;
  }

  /** The part that holds block 30, and where. */
  findBlock(): readonly [name: string, at: number] {
    const start = blockOf(SEED).subarray(0, 64);
    for (const name of this.parts) {
      const at = Buffer.from(bytesOf(this.blobs, name)).indexOf(start);
      if (at >= 0) return [name, at];
    }
    throw new Error('the block is in no part');
  }
}

/** A third stays on the disk: heads of records, of which there are more the fewer writes come together. */
function usedBytes(store: CasStore): number {
  return [...store.segments.table.values()].reduce((sum, segment) => sum + segment.usedBytes, 0);
}

export function openOn(path: string, blobs: TraceBlobs, cacheBytes = 0): Promise<CasStore> {
  // Each flush reaches the blobs: what was complete two checkpoints before may be given up.
  const remote = { ...REMOTE_DEFAULTS, blobs, cacheBytes, durability: 'remote' as const };
  return openCasStore(path, { ...TINY, files: hostFiles(), remote });
}

/** Everything in it: a snapshot, moved frames, nodes among them. */
async function fill(store: CasStore): Promise<void> {
  const client = clientOf(await store.openVolume('v', SIZE));
  await client.write(0, blocksOf(2, COUNT, 2));
  await store.changes.snapshot('v', 'kept');
  await client.write(40 * BLOCK_SIZE, blocksOf(1002, 60, 2));
  await client.write(44 * BLOCK_SIZE, blocksOf(2002, 50, 2));
  await collect(store, { liveMax: 0.9 });
  for (let i = 0; i < 3; i++) {
    await client.write(0, blockOf(4002 + i));
    await client.flush();
    await store.checkpoint();
  }
  await client.flush();
}

export function examineAll(path: string, blobs: TraceBlobs): Promise<Examination> {
  return examine(path, { openBlobs: async () => blobs });
}

export function bytesOf({ blobs }: TraceBlobs, name: string): Uint8Array {
  return blobs.get(name) as Uint8Array;
}

export function flip(bytes: Uint8Array, at: number): void {
  bytes[at] = (bytes[at] as number) ^ 1;
}

/**
 * Damages a part somewhere: where it may have tree nodes, the head of the first record, as hints are
 * verified only where they are used; and more than one byte, as another one may stand for the same in what is compressed.
 */
export function damageSome(bytes: Uint8Array, random: () => number): void {
  const isData = bytes[TYPE_OFFSET] === RecordType.data;
  const end = isData ? bytes.length : RECORD_HEADER_SIZE;
  let at = Math.floor(random() * end);
  while (bytes[at] === 0) at = (at + 1) % end;
  for (let i = at; i < Math.min(at + 8, end); i++) bytes[i] = ~(bytes[i] as number);
}

export function lostIn({ findings }: Examination): string[] {
  return findings.flatMap(({ lost }) => lost.map(({ name, firstLba }) => `${name} ${firstLba}`));
}

export function messagesOf({ findings }: Examination): string[] {
  return findings.map(({ place, message }) => `${place}: ${message}`);
}
