import { randomFillSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { openCasStore } from '../../src/backends/cas/open.ts';
import type { StoreOptions } from '../../src/backends/cas/store-options.ts';
import { clientOf } from '../backends/cas/tiny-store.ts';
import { describeWith, disposeAll, TempDirectory } from '../support/tools.ts';
import { CrashStates, parseLog, saveState } from './crash-states.ts';
import { EFFORT, MIB } from './setup.ts';
import { createRecordedDisk, Ext4, STORAGE_TOOLS } from './storage.ts';

vi.setConfig({ testTimeout: 120_000 * EFFORT });

const DISK_SIZE = 24 * MIB;
const BLOCKS = 64;
const WRITES = 120;
const STATES = 30 * EFFORT;
const STAMP = Buffer.from('content-addressed stamp.');
const OPTIONS: Partial<StoreOptions> = {
  segmentBytes: MIB,
  batchBlocks: 8,
  checkpointBytes: MIB / 4,
  checkpointMs: 0,
};

let directory: TempDirectory;
let disk: AsyncDisposable | undefined;

/** Random content but for a stamp, its number, and how many writes were confirmed by then. */
function blockOf(number: number, confirmed: number): Buffer {
  const block = randomFillSync(Buffer.alloc(BLOCK_SIZE));
  STAMP.copy(block);
  block.writeUInt32LE(number, STAMP.length);
  block.writeUInt32LE(confirmed, STAMP.length + 4);
  return block;
}

/** The most confirmed writes that any block in `data` tells of; blocks are stored as they are. */
function confirmedIn(data: Buffer): number {
  let confirmed = 0;
  for (let at = data.indexOf(STAMP); at !== -1; at = data.indexOf(STAMP, at + 1)) {
    if (at + STAMP.length + 8 > data.length) break;
    confirmed = Math.max(confirmed, data.readUInt32LE(at + STAMP.length + 4));
  }
  return confirmed;
}

/** Writes and flushes. @returns the block that each write went to */
async function load(path: string): Promise<number[]> {
  const store = await openCasStore(path, OPTIONS);
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  const places: number[] = [];
  for (let number = 0; number < WRITES; number++) {
    const lba = Math.floor(Math.random() * BLOCKS);
    places.push(lba);
    await client.write(lba * BLOCK_SIZE, blockOf(number, number));
    await client.flush();
  }
  await store.close();
  return places;
}

/** Finds the blocks that are older than what was confirmed. */
async function lostBlocks(path: string, places: readonly number[]): Promise<number[]> {
  const store = await openCasStore(path, OPTIONS);
  expect(store.problems).toEqual([]);
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  const lost: number[] = [];
  for (const [lba, number] of new Map(places.map((lba, index) => [lba, index]))) {
    const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
    const isStamped = block.subarray(0, STAMP.length).equals(STAMP);
    if (!isStamped || block.readUInt32LE(STAMP.length) < number) lost.push(lba);
  }
  await store.close();
  return lost;
}

describeWith([...STORAGE_TOOLS], 'a power cut under a content-addressed store', () => {
  afterEach(() => disposeAll(disk, directory));

  it('loses no confirmed write', async () => {
    directory = await TempDirectory.create();
    const recorded = await createRecordedDisk(directory, DISK_SIZE);
    disk = recorded;
    const ext4 = await Ext4.create(recorded.path, directory.join('mnt'));
    const places = await load(directory.join('mnt/store'));
    await disposeAll(ext4, recorded);
    disk = undefined;

    const writes = parseLog(await readFile(directory.join('log')));
    const states = new CrashStates(writes, DISK_SIZE);
    const first = writes.findIndex(({ data }) => data?.includes(STAMP) ?? false);
    const cuts = Array.from({ length: STATES }, () =>
      Math.floor(first + Math.random() * (writes.length - first)),
    );
    let [heard, confirmed] = [0, 0];
    for (const cut of [...cuts, writes.length].sort((a, b) => a - b)) {
      for (; heard < cut; heard++) {
        confirmed = Math.max(confirmed, confirmedIn(writes[heard]?.data ?? Buffer.alloc(0)));
      }
      await saveState(directory.join('crashed'), states.at(cut));
      await using _ext4 = await Ext4.open(directory.join('crashed'), directory.join('mnt'));
      const path = directory.join('mnt/store');
      expect(await lostBlocks(path, places.slice(0, confirmed))).toEqual([]);
    }
    expect(confirmed).toBe(WRITES - 1);
  });
});
