/** Writes that were taken and wait to be logged, and what is asked for meanwhile. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { DeviceClient } from '../../../src/core/device-client.ts';
import { CrashWalk, SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = BLOCKS * BLOCK_SIZE;
const SLOT = 4 * BLOCK_SIZE;
const BEFORE = blocksOf(2, BLOCKS, 2);
/** Written in part, so that it must be read before it is logged, with all behind it. */
const PART = 30;

/** Opens a store with a volume of which nothing is in memory; its requests may be in flight together. */
async function openWritten() {
  const files = new SimFs();
  const options = { checkpointBytes: 1 << 30, spareCount: 16, cacheBytes: 128 * BLOCK_SIZE };
  const first = await openTiny(files, options);
  await clientOf(await first.openVolume('disk', SIZE)).write(0, BEFORE);
  await first.close();
  const store = await openTiny(files, options);
  const device = await store.openVolume('disk', SIZE);
  const client = new DeviceClient(device, { bytes: Buffer.alloc(16 * SLOT), region: 0 }, SLOT, 0);
  return { files, store, client };
}

/** Lets the disk answer no read. @returns what lets it go on */
function holdReads({ reader }: CasStore): () => void {
  const { read } = reader;
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  reader.readNow = () => false;
  reader.read = async (...args) => {
    await held;
    await read.apply(reader, args);
  };
  return letGo;
}

describe('a write that waits to be logged', () => {
  it('is durable when a flush says so, though it was trimmed meanwhile', async () => {
    const { files, store, client } = await openWritten();
    const letGo = holdReads(store);
    const written = client.write(0, blocksOf(1002, 20, 2));
    const flushed = client.flush();
    // The trim is behind it, so that it is not logged yet.
    const part = client.write(PART * BLOCK_SIZE, Buffer.alloc(512, 7));
    const trimmed = client.trim(10 * BLOCK_SIZE, BLOCK_SIZE);
    await Promise.all([written, flushed]);
    const walk = new CrashWalk(files.base, seededRandom(1));
    for (const entry of files.trace) walk.step(entry);
    const again = await openTiny(new SimFs(walk.crash('none')));
    const found = await clientOf(await again.openVolume('disk', SIZE)).read(0, 20 * BLOCK_SIZE);
    expect(found.equals(blocksOf(1002, 20, 2))).toBe(true);
    await again.close();
    letGo();
    await Promise.all([part, trimmed]);
    const block = await client.read(10 * BLOCK_SIZE, BLOCK_SIZE);
    expect(block.equals(blockOf(0))).toBe(true);
    await store.close();
  });

  it('is in a snapshot as it was when that was asked for, and nothing that came later is', async () => {
    const { store, client } = await openWritten();
    const letGo = holdReads(store);
    const write = (lba: number, seed: number) => client.write(lba * BLOCK_SIZE, blockOf(seed));
    const part = client.write(PART * BLOCK_SIZE, Buffer.alloc(512, 7));
    const writes = [part, write(1, 1000), write(2, 2000), write(3, 3000)];
    // Of another block in part.
    writes.push(client.write(4 * BLOCK_SIZE, Buffer.alloc(512, 4)));
    const snapshot = store.changes.snapshot('disk', 'now');
    await nextTurn();
    writes.push(write(5, 5001), write(1, 1001), client.trim(2 * BLOCK_SIZE, BLOCK_SIZE));
    writes.push(client.write(4 * BLOCK_SIZE + 512, Buffer.alloc(512, 5)));
    letGo();
    await Promise.all([...writes, snapshot]);
    const expected = Buffer.from(BEFORE);
    expected.fill(7, PART * BLOCK_SIZE, PART * BLOCK_SIZE + 512);
    for (const lba of [1, 2, 3]) blockOf(1000 * lba).copy(expected, lba * BLOCK_SIZE);
    expected.fill(4, 4 * BLOCK_SIZE, 4 * BLOCK_SIZE + 512);
    const kept = clientOf(await store.openSnapshot('now'));
    expect((await kept.read(0, SIZE)).equals(expected)).toBe(true);
    blockOf(5001).copy(expected, 5 * BLOCK_SIZE);
    blockOf(1001).copy(expected, BLOCK_SIZE);
    blockOf(0).copy(expected, 2 * BLOCK_SIZE);
    expected.fill(5, 4 * BLOCK_SIZE + 512, 4 * BLOCK_SIZE + 1024);
    expect((await client.read(0, SIZE)).equals(expected)).toBe(true);
    await store.close();
  });

  it('is durable when its device is closed', async () => {
    const files = new SimFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const device = await store.openVolume('disk', SIZE);
    await clientOf(device).write(0, blockOf(2));
    await device.close();
    await abandon(store);
    const walk = new CrashWalk(files.base, seededRandom(1));
    for (const entry of files.trace) walk.step(entry);
    const again = await openTiny(new SimFs(walk.crash('none')));
    const found = await clientOf(await again.openVolume('disk', SIZE)).read(0, BLOCK_SIZE);
    expect(found.equals(blockOf(2))).toBe(true);
    await again.close();
  });

  it('is not durable before it is written, though the log is to go on in the next segment', async () => {
    const files = new SimFs();
    const open = files.open.bind(files);
    const gates: (() => void)[] = [];
    let isHeld = false;
    files.open = async (path, create) => {
      const file = await open(path, create);
      const { write } = file;
      file.write = async (...args) => {
        if (isHeld) await new Promise<void>((resolve) => gates.push(resolve));
        await write(...args);
      };
      return file;
    };
    const options = { batchBlocks: 6, checkpointBytes: 1 << 30, spareCount: 16 };
    const store = await openTiny(files, options);
    await store.segments.spares.replenish();
    const client = clientOf(await store.openVolume('disk', SIZE));
    isHeld = true;
    // Two records of six blocks fill a segment.
    await client.write(0, blocksOf(2, 12, 2));
    let isFlushed = false;
    const flushed = client.flush().then(() => {
      isFlushed = true;
    });
    await client.write(12 * BLOCK_SIZE, blocksOf(102, 6, 2));
    const later = client.flush();
    const turns = async () => {
      for (let turn = 0; turn < 50; turn++) await nextTurn();
    };
    await turns();
    expect(gates).toHaveLength(1);
    gates.shift()?.();
    await turns();
    expect(isFlushed).toBe(false);
    isHeld = false;
    for (const letGo of gates) letGo();
    await Promise.all([flushed, later]);
    await store.close();
  });
});
