/** A store whose disk has no room for another segment, and that is killed again and again. */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { CrashWalk, type DiskState, SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, clientOf, openTiny } from './tiny-store.ts';

const SEGMENT_BYTES = 64 << 10;
const SEGMENTS = 12;
const LEAF = 128 * BLOCK_SIZE;
const LEAVES = 200;
/** One for each spare that is kept for checkpoints. */
const KILLS = 3;

/** Has room for so many segments, spares included, and for what is in them. */
class FullFs extends SimFs {
  constructor(base?: DiskState) {
    super(base);
    this.fault = (op, path) =>
      op === 'allocate' && path.includes('making-') && this.#count() > SEGMENTS
        ? 'ENOSPC'
        : undefined;
  }

  #count(): number {
    return this.paths().filter((path) => path.startsWith('/store/segments/')).length;
  }

  override async freeBytes(): Promise<number> {
    return Math.max(0, SEGMENTS - this.#count()) * SEGMENT_BYTES;
  }
}

/** The same disk, killed at the last moment before the first checkpoint after opening counts. */
async function killWhileOpening(disk: DiskState): Promise<DiskState> {
  const files = new FullFs(disk);
  const { fault } = files;
  files.fault = (op, path) =>
    path.endsWith('superblock') && op === 'write' ? 'EIO' : fault(op, path);
  await openTiny(files).then(abandon, (error) => expect(error.cause?.code).toBe('EIO'));
  const walk = new CrashWalk(files.base, seededRandom(1));
  for (const entry of files.trace) walk.step(entry);
  return walk.crash('all');
}

describe('a store on a full disk', () => {
  it('opens again, whenever and however often it is killed', async () => {
    const files = new FullFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await store.openVolume('disk', LEAVES * LEAF));
    // Many leaves and few blocks, so that it is the maps that take the room.
    for (let leaf = 0, isFull = false; leaf < LEAVES && !isFull; leaf++) {
      isFull = await client.write(leaf * LEAF, blockOf(1 + (leaf % 7))).then(
        () => false,
        () => true,
      );
    }
    await client.flush();
    await collect(store, { liveMax: 1 });
    await store.close();
    const walk = new CrashWalk(files.base, seededRandom(1));
    let states = 0;
    for (const entry of files.trace) {
      walk.step(entry);
      let disk = walk.crash('all');
      if (disk.names.size < SEGMENTS) continue;
      for (let kill = 0; kill < KILLS; kill++) disk = await killWhileOpening(disk);
      const again = await openTiny(new FullFs(disk));
      expect(again.problems).toEqual([]);
      await abandon(again);
      states++;
    }
    expect(states).toBeGreaterThan(50);
  });
});
