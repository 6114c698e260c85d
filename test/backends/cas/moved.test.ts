import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE, frameOffset, HINT_WORD } from '../../../src/backends/cas/format.ts';
import { partName } from '../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../src/backends/cas/remote/journal.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { type Segment, segmentName } from '../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { TreeNode } from '../../../src/backends/cas/tree.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import {
  BLOCK_COUNT,
  openRemote,
  openVolume,
  ownerOf,
  readSeeds,
  WAIT,
} from './remote/remote-store.ts';
import { TraceBlobs } from './remote/trace-blobs.ts';
import { CrashWalk, crashStates, SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, clientOf, makeGarbage, openTiny } from './tiny-store.ts';

/** Longer than a checkpoint of a tiny store takes. */
const HELD_MS = 20;

/** A disk that holds reads and writes up. */
class SlowFs extends SimFs {
  beforeRead: (path: string) => Promise<void> = async () => {};
  beforeWrite: (path: string) => Promise<void> = async () => {};

  override async open(path: string, create: boolean): Promise<StoreFile> {
    const file = await super.open(path, create);
    const { read, write } = file;
    file.read = async (...args) => {
      await this.beforeRead(path);
      return read(...args);
    };
    file.write = async (...args) => {
      await this.beforeWrite(path);
      await write(...args);
    };
    return file;
  }
}

/**
 * Collects a store, and begins a checkpoint while frames are being moved: more of them are written
 * while it syncs the first ones, and none of those is synced before `stored` says so.
 */
async function checkpointBesideCollection(
  store: CasStore,
  stored: (generation: number) => Promise<void>,
): Promise<void> {
  let checkpoint: Promise<void> | undefined;
  const begin = () => {
    const { moved, generation } = store;
    const file = moved.segment?.file;
    if (file === undefined) return;
    const { sequence } = moved;
    const sync = file.sync.bind(file);
    file.sync = async () => {
      await sync();
      await expect.poll(() => moved.sequence, WAIT).toBeGreaterThan(sequence);
      file.sync = sync;
      // They may be in the next segment by now.
      const { file: last } = moved.segment as Segment;
      const syncLast = last.sync.bind(last);
      last.sync = async () => {
        await stored(generation + 1);
        await syncLast();
      };
    };
    checkpoint = store.checkpoint();
  };
  await collect(store, {
    onProgress: (phase) => {
      if (phase === 'moving' && checkpoint === undefined) begin();
    },
  });
  expect(checkpoint).toBeDefined();
  await checkpoint;
}

/** Lets the engine make no record before something has happened. */
function holdIngest({ engine }: CasStore, held: Promise<void>): void {
  const ingest = engine.ingest.bind(engine);
  Object.defineProperties(engine, {
    ingestNow: { value: () => 0 },
    ingest: { value: (...args: Parameters<typeof ingest>) => held.then(() => ingest(...args)) },
  });
}

/** Is all that the journal names on the disk, byte for byte? */
async function expectOnDisk(disk: SimFs, blobs: TraceBlobs): Promise<void> {
  const { segments } = (await Journal.read(blobs)).image;
  for (const [number, parts] of segments) {
    const path = `/store/segments/${segmentName(number)}`;
    if (!disk.paths().includes(path)) continue;
    for (const part of parts) {
      const [from, to] = part;
      const bytes = blobs.blobs.get(partName(number, part)) as Uint8Array;
      const isSame = Buffer.compare(
        bytes.subarray(0, to - from),
        disk.contentOf(path).subarray(from, to),
      );
      expect(isSame, `segment ${number} from byte ${from} to ${to}`).toBe(0);
    }
  }
}

describe('what a collection moves while a checkpoint is made', () => {
  it('is named by catalogs, and in the blob store, only when a power cut cannot undo it', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 }, { checkpointBytes: 1 << 30 });
    const seeds = await makeGarbage(await openVolume(store), BLOCK_COUNT, 4);
    await store.checkpoint();
    blobs.onChange = (count) => files.mark(count);
    await checkpointBesideCollection(store, async (generation) => {
      const stored = async () => (await Journal.read(blobs)).image.superblock?.generation;
      await expect.poll(stored, WAIT).toBe(generation);
    });
    await store.close();

    const states = crashStates(files);
    expect(states.length).toBeGreaterThan(5);
    for (const { disk, mark } of states) {
      const past = blobs.before(mark);
      await expectOnDisk(new SimFs(disk), past);
      const failures: Error[] = [];
      const onFailed = (error: Error) => failures.push(error);
      const takeOver = await ownerOf(past);
      const again = await openRemote(new SimFs(disk), past, { takeOver }, { onFailed });
      await again.indexed;
      expect(failures, `after ${mark} changes`).toEqual([]);
      expect(await readSeeds(again)).toEqual(seeds);
      expect((await scrub(again)).damage).toEqual([]);
      await abandon(again);
    }
  });

  it('survives a power cut when it was being written while the checkpoint synced its segment', async () => {
    const files = new SlowFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const seeds = await makeGarbage(await openVolume(store), BLOCK_COUNT, 4);
    await store.checkpoint();
    const checkpoints: Promise<void>[] = [];
    files.beforeWrite = async (path) => {
      const number = store.moved.segment?.number ?? 0;
      if (!path.endsWith(segmentName(number))) return;
      checkpoints.push(store.checkpoint());
      await delay(HELD_MS);
    };
    const { movedBytes, freedSegments } = await collect(store);
    expect(movedBytes).toBeGreaterThan(0);
    expect(freedSegments).toBeGreaterThan(0);
    await Promise.all(checkpoints);
    await abandon(store);

    const walk = new CrashWalk(files.base, seededRandom(1));
    for (const entry of files.trace) walk.step(entry);
    const again = await openTiny(new SimFs(walk.crash('none')));
    expect(await readSeeds(again)).toEqual(seeds);
    expect((await scrub(again)).damage).toEqual([]);
    await again.close();
  });
});

describe('what a collection has moved', () => {
  it.each(['hashed', 'written'])('is found while the same is being %s anew', async (what) => {
    const files = new SlowFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = await openVolume(store);
    const zeroes = clientOf(await store.openVolume('zeroes', 2 * BLOCK_COUNT * BLOCK_SIZE));
    const seeds = await makeGarbage(client, BLOCK_COUNT, 4);
    await store.checkpoint();
    await collect(store, { liveMax: 1 });
    const lba = 0;
    // The map still leads to where it was.
    const leaf = (await store.findVolume('v')?.tree.fetch(lba)) as TreeNode;
    const former = leaf.words[HINT_WORD + 2 * lba] as number;
    expect(store.segments.table.has(former)).toBe(false);
    await zeroes.read(0, 2 * BLOCK_COUNT * BLOCK_SIZE);
    expect(store.cache.find(store.findVolume('v') as Volume, lba)).toBe(-1);
    const place = new Uint32Array(2);
    expect(await store.engine.locate(leaf.words, 0, place)).toBe(1);
    const [segment, at] = [place[0] as number, place[1] as number];
    files.contentOf(`/store/segments/${segmentName(segment)}`).fill(0, frameOffset(at));
    store.engine.distrust(segment, at);
    let letGo = () => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    if (what === 'written') files.beforeWrite = () => held;
    else holdIngest(store, held);
    await client.write(5 * BLOCK_SIZE, blockOf(seeds[lba] as number));
    const flushed = client.flush();
    const reading = client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
    await delay(HELD_MS);
    letGo();
    expect((await reading).equals(blockOf(seeds[lba] as number))).toBe(true);
    await flushed;
    await store.close();
  });

  it('is found, and the store closed, when all is in the index', async () => {
    const files = new SlowFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const seeds = await makeGarbage(await openVolume(store), BLOCK_COUNT, 4);
    await store.checkpoint();
    await collect(store, { liveMax: 1 });
    const { table } = store.segments;
    const moved = [...table.values()].filter(({ stream }) => stream === 'moved');
    const paths = moved.map(({ number }) => `/store/segments/${segmentName(number)}`);
    await store.close();

    const failures: Error[] = [];
    const onFailed = (error: Error) => failures.push(error);
    /** The disk answers late what is read for the index. */
    const open = async () => {
      const late = delay(HELD_MS);
      files.beforeRead = async (path) => {
        if (paths.includes(path)) await late;
      };
      return openTiny(files, { onFailed });
    };
    const again = await open();
    const block = await (await openVolume(again)).read(0, BLOCK_SIZE);
    expect(block.equals(blockOf(seeds[0] as number))).toBe(true);
    await again.close();
    await (await open()).close();
    await delay(HELD_MS);
    expect(failures).toEqual([]);
  });
});
