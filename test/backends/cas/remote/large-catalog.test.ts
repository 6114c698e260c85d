import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import { scrub } from '../../../../src/backends/cas/scrub.ts';
import { SimFs } from '../sim-fs.ts';
import { blockOf } from '../tiny-store.ts';
import { openRemote, openVolume, readSeeds } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** With 1900 characters in each name these make a catalog of more than a part: 4 MiB. */
const SNAPSHOTS = 2300;
const SIZES = { segmentBytes: 16 << 20, checkpointBytes: 1 << 30 };

/** A disk on which no checkpoint ends before the gate is opened. */
function gatedDisk() {
  const files = new SimFs();
  const open = files.open.bind(files);
  let opened = Promise.resolve();
  files.open = async (path, create) => {
    const file = await open(path, create);
    if (!path.endsWith('superblock')) return file;
    return { ...file, write: (...args) => opened.then(() => file.write(...args)) };
  };
  const close = () => {
    let release = () => {};
    opened = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  };
  return { files, close };
}

describe('a catalog that is larger than a part', () => {
  it('is stored, and read again by a server that has lost its disk', async () => {
    const blobs = new TraceBlobs();
    const damage: Error[] = [];
    const onLocalDamage = (error: Error) => damage.push(error);
    const { files, close } = gatedDisk();
    const store = await openRemote(files, blobs, { onLocalDamage }, SIZES);
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    // One checkpoint for all of them: each would write a catalog.
    const open = close();
    const names = Array.from({ length: SNAPSHOTS }, (_, i) => String(i).padStart(1900, 's'));
    for (const name of names) await store.changes.snapshot('v', name);
    await client.write(BLOCK_SIZE, blockOf(4));
    open();
    await store.whenSnapshotsStored();
    await store.close();
    expect(damage).toEqual([]);
    expect((await Journal.read(blobs)).image.superblock?.length).toBeGreaterThan(4 << 20);

    for (const cacheBytes of [Number.POSITIVE_INFINITY, 1 << 20]) {
      const again = await openRemote(new SimFs(), blobs, { cacheBytes }, SIZES);
      expect((await readSeeds(again)).slice(0, 3)).toEqual([2, 4, 0]);
      expect(again.snapshots.map(({ name }) => name)).toEqual(names);
      expect((await scrub(again)).damage).toEqual([]);
      await again.close();
    }
  });
});
