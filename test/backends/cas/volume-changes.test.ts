import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { gatherHashes } from '../../../src/backends/cas/have-list.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { CrashWalk, SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = BLOCKS * BLOCK_SIZE;
/** Its tree is higher. */
const GROWN = 1000 * BLOCK_SIZE;
/** Longer than a tiny store takes to be closed. */
const LATE_MS = 20;
const [BEFORE, AFTER, LATER] = [blocksOf(2, BLOCKS, 2), blocksOf(1002, BLOCKS, 2), blockOf(5000)];

interface Change {
  readonly name: string;
  apply(store: CasStore): Promise<unknown>;
  /** The volume afterwards, and where it is written next. */
  readonly sizeBytes: number;
  readonly content: Buffer;
  readonly next: number;
}

const ROLLBACK: Change = {
  name: 'rollback',
  apply: (store) => store.changes.rollback('disk', 'before', true),
  sizeBytes: SIZE,
  content: BEFORE,
  next: 5 * BLOCK_SIZE,
};

const GROWTH: Change = {
  name: 'growth',
  apply: (store) => store.openVolume('disk', GROWN),
  sizeBytes: GROWN,
  content: AFTER,
  next: GROWN - BLOCK_SIZE,
};

describe('a volume that is being made', () => {
  it('is opened only when a catalog names it', async () => {
    const store = await openTiny(new SimFs(), { checkpointBytes: 1 << 30 });
    await clientOf(await store.openVolume('disk', SIZE)).write(0, BEFORE);
    const cloning = store.changes.clone('disk', 'copy');
    while (store.findVolume('copy') === undefined) await Promise.resolve();
    const { generation } = store;
    await store.openVolume('copy', SIZE);
    expect(store.generation).toBeGreaterThan(generation);
    await cloning;
    await store.close();
  });

  it('is not named by the checkpoint after the one with which that failed', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    let next: Promise<void> | undefined;
    files.fault = (op, path) => {
      if (op !== 'write' || !path.endsWith('superblock') || next !== undefined) return undefined;
      next = store.checkpoint();
      return 'EIO';
    };
    await expect(store.changes.provide('disk', SIZE)).rejects.toThrow('EIO');
    await next;
    await abandon(store);
    const again = await openTiny(cut(files));
    expect([...again.volumes]).toEqual([]);
    await again.close();
  });
});

/** What a power cut leaves now of what was not synced. */
function cut(files: SimFs): SimFs {
  const walk = new CrashWalk(files.base, seededRandom(1));
  for (const entry of files.trace) walk.step(entry);
  return new SimFs(walk.crash('none'));
}

async function openChanged(
  files = new SimFs(),
): Promise<{ readonly files: SimFs; readonly store: CasStore }> {
  const store = await openTiny(files, { checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, BEFORE);
  await store.changes.snapshot('disk', 'before');
  await store.whenSnapshotsStored();
  await client.write(0, AFTER);
  await client.flush();
  return { files, store };
}

/** Lets the superblock be written so many times; then the disk refuses it. */
function refuseSuperblock(files: SimFs, after: number): void {
  let count = 0;
  files.fault = (op, path) =>
    op === 'write' && path.endsWith('superblock') && count++ >= after ? 'EIO' : undefined;
}

/** Writes and flushes a block where a change has taken effect. @returns whether it is confirmed */
async function writeNext(store: CasStore, { sizeBytes, next }: Change): Promise<boolean> {
  try {
    const client = clientOf(await store.openVolume('disk', sizeBytes));
    await client.write(next, LATER);
    await client.flush();
    return true;
  } catch {
    return false;
  }
}

async function readAll(store: CasStore): Promise<Buffer> {
  const { sizeBytes } = store.findVolume('disk') as { sizeBytes: number };
  return clientOf(await store.openVolume('disk', sizeBytes)).read(0, sizeBytes);
}

/** Opens what is on the disk, and tells what the volume holds. */
async function recover(files: SimFs): Promise<Buffer> {
  const store = await openTiny(files);
  expect(store.problems).toEqual([]);
  const content = await readAll(store);
  expect((await scrub(store)).damage).toEqual([]);
  await store.close();
  return content;
}

/** The whole of a volume. */
function contentOf({ sizeBytes, content }: { sizeBytes: number; content: Buffer }): Buffer {
  return Buffer.concat([content, Buffer.alloc(sizeBytes - content.length)]);
}

describe.each([ROLLBACK, GROWTH])('a $name', (change) => {
  const unchanged = contentOf({ sizeBytes: SIZE, content: AFTER });
  const changed = contentOf(change);

  it('that finds no room for a checkpoint changes nothing, and writes go on', async () => {
    const { files, store } = await openChanged();
    refuseSuperblock(files, 0);
    await expect(change.apply(store)).rejects.toThrow('EIO');
    expect(store.failure).toBeUndefined();
    const client = clientOf(await store.openVolume('disk', SIZE));
    expect((await client.read(0, SIZE)).equals(unchanged)).toBe(true);
    await client.write(0, LATER);
    await client.flush();
    await abandon(store);
    files.fault = () => undefined;
    const expected = Buffer.from(unchanged);
    LATER.copy(expected);
    expect((await recover(cut(files))).equals(expected)).toBe(true);
  });

  it('whose checkpoint fails takes the store out of service, and is done or not done', async () => {
    let outcomes = '';
    for (let after = 1; after < 8; after++) {
      const { files, store } = await openChanged();
      refuseSuperblock(files, after);
      const isDone = await change.apply(store).then(
        () => true,
        () => false,
      );
      const isConfirmed = await writeNext(store, change);
      const served = await readAll(store);
      await abandon(store);
      files.fault = () => undefined;
      const content = await recover(cut(files));
      if (isDone) {
        const expected = Buffer.from(changed);
        LATER.copy(expected, change.next);
        expect(isConfirmed).toBe(true);
        expect(content.equals(expected)).toBe(true);
        outcomes += 'done ';
      } else if (store.failure !== undefined) {
        expect(isConfirmed).toBe(false);
        for (const found of [served, content]) {
          expect(found.equals(unchanged) || found.equals(changed)).toBe(true);
        }
        outcomes += 'failed ';
      } else {
        outcomes += 'refused ';
      }
    }
    expect(outcomes).toMatch(/^(refused )*(failed )+(done )+$/);
  });
});

describe('a volume that grows', () => {
  it('has its new size only when a power cut cannot undo it', async () => {
    const { files, store } = await openChanged();
    const device = await store.openVolume('disk', SIZE);
    const sizes = new Set<number>();
    files.fault = (op, path) => {
      if (op === 'write' && path.endsWith('superblock')) sizes.add(device.sizeBytes);
      return undefined;
    };
    await store.openVolume('disk', GROWN);
    expect([...sizes]).toEqual([SIZE]);
    expect(device.sizeBytes).toBe(GROWN);
    await store.close();
  });
});

/** A disk on which something may be done before it is written to. */
class HeldFs extends SimFs {
  beforeWrite = async (): Promise<void> => {};

  override async open(path: string, create: boolean): Promise<StoreFile> {
    const file = await super.open(path, create);
    const { write } = file;
    file.write = async (...args) => {
      await this.beforeWrite();
      await write(...args);
    };
    return file;
  }
}

describe('a volume whose tree becomes higher', () => {
  it.each([GROWTH, ROLLBACK])('can be walked as it was until a $name is stored', async (change) => {
    const files = new HeldFs();
    const { store } = await openChanged(files);
    // What it goes back to is lower.
    if (change === ROLLBACK) await GROWTH.apply(store);
    const volume = store.findVolume('disk') as Volume;
    const { tree, sizeBytes } = volume;
    let walks = 0;
    files.beforeWrite = async () => {
      const isChanged = volume.tree !== tree || volume.sizeBytes !== sizeBytes;
      if (isChanged && walks++ === 0) await gatherHashes(store);
    };
    await change.apply(store);
    expect(walks).toBeGreaterThan(0);
    await store.close();
  });
});

describe('a volume that gets the content of another one', () => {
  it.each(['clone', 'rollback'])(
    'has it after a %s, though the other one was overwritten and collected meanwhile',
    async (change) => {
      const store = await openTiny(new SimFs(), { checkpointBytes: 1 << 30 });
      const source = clientOf(await store.openVolume('source', SIZE));
      await source.write(0, BEFORE);
      await store.checkpoint();
      const { reader } = store;
      const { loadRoot } = reader;
      const overwriteSource = async () => {
        await source.write(0, AFTER);
        await source.flush();
        await collect(store, { liveMax: 1 });
      };
      if (change === 'rollback') await store.openVolume('disk', SIZE);
      // The disk answers late.
      reader.loadRoot = async (reference) => {
        reader.loadRoot = loadRoot;
        const words = await loadRoot.call(reader, reference);
        await overwriteSource();
        return words;
      };
      if (change === 'clone') await store.changes.clone('source', 'disk');
      else await store.changes.rollback('disk', 'source', true);
      const client = clientOf(await store.openVolume('disk', SIZE));
      expect((await client.read(0, SIZE)).equals(BEFORE)).toBe(true);
      expect((await source.read(0, SIZE)).equals(AFTER)).toBe(true);
      expect((await scrub(store)).damage).toEqual([]);
      await store.close();
    },
  );

  it.each(['clone', 'rollback'])('has what was last written to it after a %s', async (change) => {
    const { store } = await openChanged();
    if (change === 'rollback') await store.openVolume('other', SIZE);
    const source = clientOf(await store.openVolume('disk', SIZE));
    // Whoever trusts a write cache does not flush.
    await source.write(0, LATER);
    if (change === 'clone') await store.changes.clone('disk', 'other');
    else await store.changes.rollback('other', 'disk', true);
    const client = clientOf(await store.openVolume('other', SIZE));
    expect((await client.read(0, SIZE)).equals(await source.read(0, SIZE))).toBe(true);
    expect([...store.heldRoots]).toEqual([]);
    await store.close();
  });
});

describe('a change that is under way', () => {
  it('is made before the store is closed', async () => {
    const { files, store } = await openChanged();
    const { reader } = store;
    const { loadRoot } = reader;
    // The disk answers late.
    reader.loadRoot = async (reference) => {
      await delay(LATE_MS);
      return loadRoot.call(reader, reference);
    };
    const cloning = store.changes.clone('before', 'copy');
    await Promise.all([cloning, store.close()]);
    const again = await openTiny(files);
    const copy = clientOf(await again.openVolume('copy', SIZE));
    expect((await copy.read(0, SIZE)).equals(BEFORE)).toBe(true);
    await again.close();
  });
});

describe('a volume that is being deleted', () => {
  it('stays when it was being opened before', async () => {
    const store = await openTiny(new SimFs());
    await (await store.openVolume('disk', SIZE)).close();
    const opening = store.openVolume('disk', SIZE);
    await expect(store.changes.deleteVolume('disk')).rejects.toThrow('volume disk is in use');
    await clientOf(await opening).write(0, BEFORE);
    await store.close();
  });
});

describe.each([
  ['volume', (store: CasStore) => store.changes.deleteVolume('disk')],
  ['snapshot', (store: CasStore) => store.changes.deleteSnapshot('before')],
])('a %s that is deleted', (_, remove) => {
  it('stays when a checkpoint finds no room', async () => {
    const { files, store } = await openChanged();
    await store.close();
    const again = await openTiny(files);
    refuseSuperblock(files, 0);
    await expect(remove(again)).rejects.toThrow('EIO');
    files.fault = () => undefined;
    await again.checkpoint();
    const copy = await again.changes.clone('before', 'copy');
    expect(again.findVolume('disk')?.sizeBytes).toBe(copy.sizeBytes);
    await remove(again);
    await again.close();
  });
});

describe('a snapshot that is being opened', () => {
  it('is in use until all its devices are closed, and keeps its content', async () => {
    const { store } = await openChanged();
    const { reader } = store;
    const { loadRoot } = reader;
    let deletion: Promise<void> | undefined;
    // The disk answers late.
    reader.loadRoot = async (reference) => {
      reader.loadRoot = loadRoot;
      deletion = store.changes.deleteSnapshot('before');
      await deletion.catch(() => {});
      await collect(store, { liveMax: 1 });
      return loadRoot.call(reader, reference);
    };
    const device = await store.openSnapshot('before');
    await expect(deletion).rejects.toThrow('snapshot before is in use');
    const other = await store.openSnapshot('before');
    expect((await clientOf(device).read(0, SIZE)).equals(BEFORE)).toBe(true);
    await other.close();
    await expect(store.changes.deleteSnapshot('before')).rejects.toThrow(
      'snapshot before is in use',
    );
    await device.close();
    await store.changes.deleteSnapshot('before');
    await store.close();
  });

  it('can be deleted when it could not be opened', async () => {
    const { store } = await openChanged();
    const { reader } = store;
    const { loadRoot } = reader;
    reader.loadRoot = () => Promise.reject(new Error('no route'));
    await expect(store.openSnapshot('before')).rejects.toThrow('no route');
    reader.loadRoot = loadRoot;
    await store.changes.deleteSnapshot('before');
    await store.close();
  });
});
