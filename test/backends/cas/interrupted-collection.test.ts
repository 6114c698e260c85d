import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, HASH_WORDS } from '../../../src/backends/cas/format.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import type { TreeNode } from '../../../src/backends/cas/tree.ts';
import { crashStates, SimFs } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, makeGarbage, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = 4 * BLOCKS * BLOCK_SIZE;

async function openDisk(files: SimFs, indexBytesMax: number) {
  const store = await openTiny(files, { indexBytesMax, checkpointBytes: 1 << 30 });
  expect(store.problems).toEqual([]);
  return { store, client: clientOf(await store.openVolume('disk', SIZE)) };
}

/** Does something whenever a collection has moved a record. */
class PaceWith extends Pace {
  readonly #work: () => Promise<void>;

  constructor(work: () => Promise<void>) {
    super();
    this.#work = work;
  }

  override wait(): Promise<void> {
    return this.#work();
  }
}

describe('a power cut in the middle of a collection', () => {
  it('does not part what was written meanwhile from what it is a duplicate of', async () => {
    const files = new SimFs();
    const { store, client } = await openDisk(files, 2 ** 30);
    const seeds = await makeGarbage(client, BLOCKS, 4);
    await store.checkpoint();
    const copied: number[] = [];
    // What the index says to be in its new place: a duplicate leads there.
    const copyMoved = async () => {
      const place = new Uint32Array(2);
      const before = copied.length;
      for (const [lba, seed] of seeds.entries()) {
        if (copied.includes(lba)) continue;
        const leaf = (await store.findVolume('disk')?.tree.fetch(lba)) as TreeNode;
        await store.engine.locate(leaf.words, lba * HASH_WORDS, place);
        if (store.segments.table.get(place[0] as number)?.stream !== 'moved') continue;
        await client.write((BLOCKS + lba) * BLOCK_SIZE, blockOf(seed));
        copied.push(lba);
      }
      await client.flush();
      if (copied.length > before) files.mark(copied.length);
    };
    await collect(store, { liveMax: 1, pace: new PaceWith(copyMoved) });
    await copyMoved();
    expect(copied.length).toBeGreaterThan(BLOCKS / 2);
    await abandon(store);

    for (const { disk, mark } of crashStates(files)) {
      const again = await openDisk(new SimFs(disk), 1);
      // So much else that the index drops what it may.
      await again.client.write(2 * BLOCKS * BLOCK_SIZE, blocksOf(10_000, 2 * BLOCKS, 2));
      await again.client.flush();
      await again.store.indexed;
      for (const lba of copied.slice(0, mark)) {
        const block = await again.client.read((BLOCKS + lba) * BLOCK_SIZE, BLOCK_SIZE);
        expect(block.equals(blockOf(seeds[lba] as number)), `block ${lba}`).toBe(true);
      }
      await again.store.close();
    }
  });
});

describe('what is garbage, and is written again while a collection moves the rest', () => {
  it('is no duplicate of what is about to be freed', async () => {
    const files = new SimFs();
    const { store, client } = await openDisk(files, 2 ** 30);
    await makeGarbage(client, BLOCKS, 4);
    await store.checkpoint();
    // What the first round wrote, and the second one wrote over.
    const content = blocksOf(1004, BLOCKS - 2, 2);
    let [isMoving, isWritten] = [false, false];
    const writeAgain = async () => {
      if (!isMoving || isWritten) return;
      isWritten = true;
      await client.write(BLOCKS * BLOCK_SIZE, content);
      await client.flush();
    };
    await collect(store, {
      liveMax: 1,
      pace: new PaceWith(writeAgain),
      onProgress: (phase) => {
        isMoving = phase === 'moving';
      },
    });
    expect(isWritten).toBe(true);
    await store.close();
    const again = await openDisk(files, 2 ** 30);
    const found = await again.client.read(BLOCKS * BLOCK_SIZE, content.length);
    expect(found.equals(content)).toBe(true);
    await again.store.close();
  });
});

describe('a collection whose checkpoint fails', () => {
  it('lets go of nothing that it has moved', async () => {
    const files = new SimFs();
    const { store, client } = await openDisk(files, 2 ** 30);
    const seeds = await makeGarbage(client, BLOCKS, 4);
    let isFailing = false;
    files.fault = (_, path) => (isFailing && path.endsWith('superblock') ? 'EIO' : undefined);
    const fail = async () => {
      isFailing = true;
    };
    await expect(collect(store, { liveMax: 1, pace: new PaceWith(fail) })).rejects.toThrow('EIO');
    isFailing = false;
    for (let count = 0; count < 3; count++) await store.checkpoint();
    for (const [lba, seed] of seeds.entries()) {
      const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
      expect(block.equals(blockOf(seed)), `block ${lba}`).toBe(true);
    }
    await store.close();
  });
});
