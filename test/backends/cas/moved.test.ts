import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { Journal, partName } from '../../../src/backends/cas/remote/journal.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { segmentName } from '../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import {
  BLOCK_COUNT,
  openRemote,
  openVolume,
  ownerOf,
  readSeeds,
  WAIT,
} from './remote/remote-store.ts';
import { TraceBlobs } from './remote/trace-blobs.ts';
import { crashStates, SimFs } from './sim-fs.ts';
import { abandon, makeGarbage } from './tiny-store.ts';

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
      file.sync = async () => {
        await stored(generation + 1);
        await sync();
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
});
