import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, FANOUT, frameOffset, HINT_WORD } from '../../../../src/backends/cas/format.ts';
import { examine } from '../../../../src/backends/cas/fsck/index.ts';
import { openCasStore } from '../../../../src/backends/cas/open.ts';
import { Pace } from '../../../../src/backends/cas/pace.ts';
import type { PartCache } from '../../../../src/backends/cas/remote/part-cache.ts';
import { REMOTE_DEFAULTS } from '../../../../src/backends/cas/remote/remote-options.ts';
import { scrub } from '../../../../src/backends/cas/scrub.ts';
import type { Segment } from '../../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { surveyStore } from '../../../../src/backends/cas/survey.ts';
import type { Volume } from '../../../../src/backends/cas/volume.ts';
import { type StoredRoot, storedRoots, walkTree } from '../../../../src/backends/cas/walk.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from '../tiny-store.ts';
import { diskBytes, openRemote, ownerOf } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const COUNT = 128;
const SIZE_BYTES = COUNT * BLOCK_SIZE;
/** Room for two of the parts, which are as large as segments here. */
const CACHE_BYTES = 128 << 10;
/** Parts, heads, and what may not be given up. */
const SPARSE_BYTES = SIZE_BYTES * 0.8;
const WAIT = { timeout: 20_000, interval: 5 };
const CONTENT = blocksOf(2, COUNT, 2);

interface Opened {
  readonly files: SimFs;
  readonly blobs: TraceBlobs;
  readonly store: CasStore;
}

/** A store whose volume holds more than fits, all of it stored in blobs. */
async function openFull(cacheBytes = CACHE_BYTES): Promise<Opened> {
  const files = new SimFs();
  const blobs = new TraceBlobs();
  const store = await openRemote(files, blobs, {
    cacheBytes,
    durability: 'remote',
  });
  const client = await clientFor(store);
  await client.write(0, CONTENT);
  await client.flush();
  await settle(store);
  const sparseBytes = SPARSE_BYTES + cacheBytes - CACHE_BYTES;
  await expect.poll(() => diskBytes(store), WAIT).toBeLessThan(sparseBytes);
  return { files, blobs, store };
}

async function clientFor(store: CasStore) {
  return clientOf(await store.openVolume('v', SIZE_BYTES));
}

/** Makes two checkpoints that reach the blobs: what was complete before may be given up. */
async function settle(store: CasStore): Promise<void> {
  const client = await clientFor(store);
  for (let i = 0; i < 3; i++) {
    await client.write(0, blockOf(2));
    await client.flush();
    await store.checkpoint();
  }
  await client.flush();
}

/** Forgets what is in memory. */
async function reopen({ files, blobs, store }: Opened): Promise<Opened> {
  await store.close();
  return { files, blobs, store: await openSmall(files, blobs) };
}

const openSmall = (files: SimFs, blobs: TraceBlobs, takeOver?: string) =>
  openRemote(files, blobs, { cacheBytes: CACHE_BYTES, takeOver });

async function expectContent(store: CasStore): Promise<void> {
  expect(store.problems).toEqual([]);
  const client = await clientFor(store);
  expect((await client.read(0, SIZE_BYTES)).equals(CONTENT)).toBe(true);
}

const partsOf = (names: readonly string[]) => names.filter((name) => name.startsWith('segment-'));

/** Damages every record in some segments of a store on its disk, most of them in a frame. */
function damage({ store, files }: Opened, isChosen: (segment: Segment) => boolean): void {
  for (const segment of [...store.segments.table.values()].filter(isChosen)) {
    const { number, usedBytes } = segment;
    const bytes = files.contentOf(store.segments.pathOf(number));
    for (let at = 1000; at < usedBytes; at += 4096) bytes[at] = (bytes[at] as number) ^ 1;
  }
}

/** Lets no part be read any more; what the journal needs is. */
function refuseParts(blobs: TraceBlobs): void {
  blobs.beforeRead = async () => {
    if (partsOf(blobs.reads.slice(-1)).length > 0) throw new Error('no route');
  };
}

/** Damages every record in the blobs. */
function damageBlobs(blobs: TraceBlobs): void {
  for (const [name, bytes] of blobs.blobs) {
    if (!name.startsWith('segment-')) continue;
    for (let at = 1000; at < bytes.length; at += 4096) bytes[at] = (bytes[at] as number) ^ 1;
  }
}

describe('a store that keeps some of its parts in blobs only', () => {
  it('gives up room, and reads everything all the same', async () => {
    const { store, blobs } = await reopen(await openFull());
    blobs.reads.length = 0;
    await expectContent(store);
    expect(partsOf(blobs.reads).length).toBeGreaterThan(2);
    await expect.poll(() => diskBytes(store), WAIT).toBeLessThan(SPARSE_BYTES);
    await store.close();
  });

  it('gives up room also where it cannot be asked how much is there', async () => {
    const files = new SimFs();
    const onTrouble = vi.fn();
    const options = { cacheBytes: CACHE_BYTES, durability: 'remote', onTrouble } as const;
    const store = await openRemote(files, new TraceBlobs(), options);
    files.fault = (op) => (op === 'dataBytes' ? 'EIO' : undefined);
    const client = await clientFor(store);
    await client.write(0, CONTENT);
    await client.flush();
    await settle(store);
    await expect.poll(() => onTrouble.mock.calls.length, WAIT).toBeGreaterThan(0);
    files.fault = () => undefined;
    await expect.poll(() => diskBytes(store), WAIT).toBeLessThan(SPARSE_BYTES);
    await expectContent(store);
    await store.close();
  });

  it('keeps what is read again and again', async () => {
    const { store, blobs } = await openFull(2 * CACHE_BYTES);
    const volume = volumeOf(store);
    const block = Buffer.alloc(BLOCK_SIZE);
    await store.reader.read(volume, 1, block, 0);
    blobs.reads.length = 0;
    for (let lba = 2; lba < COUNT; lba++) {
      await store.reader.read(volume, lba, block, 0);
      await store.reader.read(volume, 1, block, 0);
    }
    const counts = new Map<string, number>();
    for (const name of blobs.reads) counts.set(name, (counts.get(name) ?? 0) + 1);
    expect(counts.size).toBeGreaterThan(2);
    // Without a second chance it would be fetched whenever a few others were.
    expect(Math.max(...counts.values())).toBeLessThan(3);
    await store.close();
  });

  it('asks once for a part that many want at once', async () => {
    const { store, blobs } = await reopen(await openFull());
    const client = await clientFor(store);
    const evicted = await findEvicted(store);
    blobs.reads.length = 0;
    const reads = Array.from({ length: 8 }, () =>
      store.reader.read(volumeOf(store), evicted, Buffer.alloc(BLOCK_SIZE), 0),
    );
    await Promise.all(reads);
    expect(partsOf(blobs.reads)).toHaveLength(1);
    expect(await client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * evicted));
    await store.close();
  });

  it('reads what is here while the blobs do not answer, and fails what is not', async () => {
    const { store, blobs } = await reopen(await openFull());
    const client = await clientFor(store);
    const evicted = await findEvicted(store);
    let release = () => {};
    const stalled = new Promise<void>((resolve) => {
      release = resolve;
    });
    blobs.beforeRead = () => stalled.then(() => Promise.reject(new Error('no route')));
    const missing = client.read(evicted * BLOCK_SIZE, BLOCK_SIZE);
    missing.catch(() => {});
    const present = await findPresent(store);
    expect(await client.read(present * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * present));
    release();
    await expect(missing).rejects.toMatchObject({ code: 'ioError' });
    blobs.beforeRead = async () => {};
    expect(await client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * evicted));
    await store.close();
  });

  it('never serves what a blob has wrong', async () => {
    const { store, blobs } = await reopen(await openFull());
    const client = await clientFor(store);
    const evicted = await findEvicted(store);
    damageBlobs(blobs);
    await expect(client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
    await store.close();
  });

  it('waits with a write for the block that it changes a part of', async () => {
    const { store, blobs } = await reopen(await openFull());
    const client = await clientFor(store);
    const evicted = await findEvicted(store);
    let failures = 0;
    blobs.beforeRead = () => {
      failures++;
      return Promise.reject(new Error('no route'));
    };
    await client.write(evicted * BLOCK_SIZE, Buffer.alloc(512, 7));
    const flushed = client.flush();
    await expect.poll(() => failures, WAIT).toBeGreaterThan(5);
    blobs.beforeRead = async () => {};
    await flushed;
    const expected = Buffer.from(blockOf(2 + 2 * evicted)).fill(7, 0, 512);
    expect(await client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).toEqual(expected);
    await store.close();
  });

  it('fails a read for which the disk has no room, and serves it later', async () => {
    const { store, blobs, files } = await reopen(await openFull());
    const client = await clientFor(store);
    const evicted = await findEvicted(store);
    files.fault = (op) => (op === 'write' ? 'ENOSPC' : undefined);
    await expect(client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
    files.fault = () => undefined;
    expect(await client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * evicted));
    expect(store.failure).toBeUndefined();
    expect(blobs.reads.length).toBeGreaterThan(1);
    await store.close();
  });

  it('fails a write of a part of a block for which the disk has had no room for long', async () => {
    const { store, blobs, files } = await reopen(await openFull());
    const client = await clientFor(store);
    const other = clientOf(await store.openVolume('other', BLOCK_SIZE));
    const evicted = await findEvicted(store);
    const { number } = store.log.segment as Segment;
    const isOld = (path: string) => path.endsWith('.seg') && path < store.segments.pathOf(number);
    files.fault = (op, path) => (op === 'write' && isOld(path) ? 'ENOSPC' : undefined);
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      blobs.reads.length = 0;
      await client.write(evicted * BLOCK_SIZE, Buffer.alloc(512, 7));
      const flushed = expect(client.flush()).rejects.toMatchObject({ code: 'noSpace' });
      await expect.poll(() => blobs.reads.length, WAIT).toBeGreaterThan(1);
      vi.advanceTimersByTime(100_000);
      await flushed;
    } finally {
      vi.useRealTimers();
    }
    await other.write(0, blockOf(2));
    await other.flush();
    files.fault = () => undefined;
    expect(await client.read(evicted * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * evicted));
    await store.close();
  });

  it('is closed though a write needs what the blobs do not give, and does not confirm it', async () => {
    const { store, blobs, files } = await reopen(await openFull());
    const device = await store.openVolume('v', SIZE_BYTES);
    const client = clientOf(device);
    const evicted = await findEvicted(store);
    refuseParts(blobs);
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      blobs.reads.length = 0;
      await client.write(evicted * BLOCK_SIZE, Buffer.alloc(512, 7));
      const flushed = expect(client.flush()).rejects.toMatchObject({ code: 'ioError' });
      await expect.poll(() => blobs.reads.length, WAIT).toBeGreaterThan(0);
      // As long as there is somebody who waits it may come back.
      vi.advanceTimersByTime(100_000);
      blobs.reads.length = 0;
      await expect.poll(() => blobs.reads.length, WAIT).toBeGreaterThan(1);
      expect(store.failure).toBeUndefined();
      const closed = device.close();
      const refused = expect(closed).rejects.toThrow('no route');
      vi.advanceTimersByTime(25_000);
      await Promise.all([flushed, refused]);
    } finally {
      vi.useRealTimers();
    }
    await store.close();
    blobs.beforeRead = async () => {};
    const again = await openSmall(files, blobs);
    await expectContent(again);
    await again.close();
  });

  it('is closed though a snapshot waits for such a write', async () => {
    const { store, blobs } = await reopen(await openFull());
    const device = await store.openVolume('v', SIZE_BYTES);
    const evicted = await findEvicted(store);
    refuseParts(blobs);
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const client = clientOf(device);
      await client.write(evicted * BLOCK_SIZE, Buffer.alloc(512, 7));
      const snapshot = expect(store.changes.snapshot('v', 's')).rejects.toThrow('no route');
      const closed = store.close().catch(() => {});
      vi.advanceTimersByTime(25_000);
      await Promise.all([snapshot, closed]);
    } finally {
      vi.useRealTimers();
    }
  });

  it('repairs what is damaged on the disk from the blobs', async () => {
    const opened = await reopen(await openFull());
    damage(opened, ({ stream }) => stream !== 'node');
    await expectContent(opened.store);
    const report = await scrub(opened.store);
    expect(report.damage).toEqual([]);
    await opened.store.close();
  });

  it('has no damaged node on a walk only because the blobs do not answer', async () => {
    const opened = await reopen(await openFull());
    const { store, blobs } = opened;
    const [root] = storedRoots(store);
    damage(opened, ({ stream }) => stream === 'node');
    let damaged = 0;
    const walk = () =>
      walkTree(store.reader, root as StoredRoot, new Pace(), {
        enter: () => true,
        node: () => {},
        damaged: () => damaged++,
      });
    blobs.beforeRead = () => Promise.reject(new Error('no route'));
    await expect(walk()).rejects.toMatchObject({ code: 'AOE_BLOB_UNREACHABLE' });
    blobs.beforeRead = async () => {};
    await walk();
    expect(damaged).toBe(0);
    await abandon(store);
  });

  it('has no damage where a collection has freed what still has its file', async () => {
    const { store } = await reopen(await openFull());
    const client = await clientFor(store);
    await client.trim(0, SIZE_BYTES / 2);
    await client.flush();
    await store.checkpoint();
    await store.checkpoint();
    // Files that somebody reads stay.
    let stopReading = () => {};
    const reading = new Promise<void>((resolve) => {
      stopReading = resolve;
    });
    const frames = store.reader.frames as PartCache;
    const numbers = [...store.segments.table.keys()];
    const held = numbers.map((number) => frames.holding(number, () => reading));
    expect((await collect(store, { liveMax: 0.8 })).freedSegments).toBeGreaterThan(2);
    const isFile = (number: number) => store.segments.table.has(number);
    expect(numbers.every(isFile)).toBe(true);
    // The journal does not name them any more.
    await store.replica?.reachAll();
    expect((await scrub(store)).damage).toEqual([]);
    stopReading();
    await Promise.all(held);
    await store.checkpoint();
    expect(numbers.every(isFile)).toBe(false);
    await store.close();
  });

  it('is collected, surveyed and verified as a whole', async () => {
    const { store, blobs } = await reopen(await openFull());
    const client = await clientFor(store);
    expect((await surveyStore(store)).uniqueBytes).toBe(SIZE_BYTES);
    for (let lba = 0; lba < COUNT; lba += 4) {
      await client.write(lba * BLOCK_SIZE, Buffer.alloc(2 * BLOCK_SIZE));
    }
    await client.flush();
    await store.checkpoint();
    await store.checkpoint();
    const report = await collect(store, { liveMax: 0.8 });
    expect(report.freedSegments).toBeGreaterThan(2);
    expect((await scrub(store)).damage).toEqual([]);
    await store.close();
    const again = await openSmall(new SimFs(), blobs);
    const content = await (await clientFor(again)).read(0, SIZE_BYTES);
    for (let lba = 0; lba < COUNT; lba++) {
      const expected = lba % 4 < 2 ? blockOf(0) : blockOf(2 + 2 * lba);
      expect(content.subarray(lba * BLOCK_SIZE, (lba + 1) * BLOCK_SIZE).equals(expected)).toBe(
        true,
      );
    }
    await again.close();
  });

  it('reserves the room of a file with holes before it is a spare', async () => {
    const { store, files } = await openFull();
    const { segments } = store;
    // Otherwise there are enough spares without it.
    while (segments.spares.dataCount > 0) await segments.activate('moved');
    const { count } = segments.spares;
    files.fault = (op) => (op === 'allocate' ? 'ENOSPC' : undefined);
    await segments.recycle(await findSparse(store));
    expect(segments.spares.count).toBe(count);
    files.fault = () => undefined;
    await segments.recycle(await findSparse(store));
    expect(segments.spares.count).toBe(count + 1);
    await abandon(store);
  });

  it('does not reuse a file for which a read has begun to fetch a part', async () => {
    const { store, blobs, files } = await openFull();
    const { segments } = store;
    const cache = store.reader.frames as PartCache;
    const number = await findSparse(store);
    const isNeeded = () => cache.holds(number);
    let letGo = () => {};
    const gone = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    blobs.beforeRead = () => gone;
    let reading: Promise<boolean | undefined> | undefined;
    // While its room is reserved, as the last thing before it is a spare.
    files.fault = (op) => {
      if (op === 'allocate')
        reading ??= cache.restored(number, 0, () => segments.table.has(number));
      return undefined;
    };
    // Otherwise there are enough spares without it.
    while (segments.spares.dataCount > 0) await segments.activate('moved');
    expect(await segments.recycle(number, isNeeded)).toBe(false);
    letGo();
    expect(await reading).toBe(true);
    expect(await segments.recycle(number, isNeeded)).toBe(true);
    expect(segments.table.has(number)).toBe(false);
    await abandon(store);
  });

  it('does not let a damaged blob replace what is right on the disk', async () => {
    const opened = await reopen(await openFull());
    const { store, blobs } = opened;
    const client = await clientFor(store);
    const here = await findPresent(store);
    damageBlobs(blobs);
    const [segment, place] = await placeOf(store, here);
    await store.reader.frames?.restored(segment, frameOffset(place), () => undefined);
    expect(await client.read(here * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(2 + 2 * here));
    await store.close();
  });

  it('keeps what the checkpoint before the last would replay', async () => {
    const files = new SimFs();
    const blobs = new TraceBlobs();
    const remote = { cacheBytes: 0, durability: 'remote' } as const;
    const options = { checkpointBytes: 1 << 30 };
    const store = await openRemote(files, blobs, remote, options);
    const client = await clientFor(store);
    await store.checkpoint();
    await client.write(0, CONTENT);
    await client.flush();
    await store.checkpoint();
    const { generation } = store;
    // Time enough to store all of it, and to give up what may go.
    await delay(200);
    await abandon(store);
    const superblock = Buffer.from(files.contentOf('/store/superblock'));
    const newest = generation % 2 === 0 ? 0 : 8192;
    const segment = superblock.readUInt32LE(newest + 40);
    const catalog = superblock.readUInt32LE(newest + 44);
    files.contentOf(store.segments.pathOf(segment)).fill(0, catalog + 128, catalog + 256);
    const again = await openRemote(files, blobs);
    // One for each copy of the superblock that names it.
    const problem = `the catalog of generation ${generation} is damaged`;
    expect(again.problems).toEqual([problem, problem]);
    const content = await (await clientFor(again)).read(0, SIZE_BYTES);
    expect(content.equals(CONTENT)).toBe(true);
    await again.close();
  });

  it('comes back from the heads of its records when its disk is lost', async () => {
    const { store, blobs } = await openFull();
    await abandon(store);
    const takeOver = await ownerOf(blobs);
    const again = await openSmall(new SimFs(), blobs, takeOver);
    expect(await diskBytes(again)).toBeLessThan(SPARSE_BYTES);
    await again.indexed;
    expect((await surveyStore(again)).uniqueBytes).toBe(SIZE_BYTES);
    await expectContent(again);
    await again.close();
  });

  it('keeps every write over random work, restarts and lost disks', async () => {
    const random = seededRandom(5);
    const blobs = new TraceBlobs();
    let files = new SimFs();
    const seeds = Array.from({ length: COUNT }, () => 0);
    for (let life = 1; life <= 6; life++) {
      const takeOver = await ownerOf(blobs);
      const remote = { cacheBytes: CACHE_BYTES, durability: 'remote', takeOver } as const;
      const store = await openRemote(files, blobs, remote);
      const client = await clientFor(store);
      for (let step = 0; step < 60; step++) {
        const lba = Math.floor(random() * (COUNT - 8));
        const seed = 2 * (life * 10_000 + step * 8);
        for (let i = 0; i < 8; i++) seeds[lba + i] = seed + 2 * i;
        await client.write(lba * BLOCK_SIZE, blocksOf(seed, 8, 2));
        if (step % 4 === 0) await client.flush();
        if (random() < 0.2) await store.checkpoint();
        if (random() < 0.05) await collect(store, { liveMax: 0.8 });
        const at = Math.floor(random() * COUNT);
        const block = await client.read(at * BLOCK_SIZE, BLOCK_SIZE);
        expect(block.equals(blockOf(seeds[at] as number))).toBe(true);
      }
      await client.flush();
      await abandon(store);
      if (life % 3 === 0) files = new SimFs();
    }
    const store = await openSmall(files, blobs, await ownerOf(blobs));
    const content = await (await clientFor(store)).read(0, SIZE_BYTES);
    expect(content.equals(Buffer.concat(seeds.map(blockOf)))).toBe(true);
    await store.close();
  });
});

describe('a store on a real disk that keeps some of its parts in blobs only', () => {
  const open = (path: string, blobs: TraceBlobs) =>
    openCasStore(path, {
      segmentBytes: 1 << 20,
      batchBlocks: 32,
      checkpointMs: 0,
      remote: { ...REMOTE_DEFAULTS, blobs, cacheBytes: 0 },
    });

  it('gives up room, is read, and examined as far as it is there', async () => {
    const path = await mkdtemp(join(tmpdir(), 'cas-part-cache-'));
    try {
      const blobs = new TraceBlobs();
      const store = await open(path, blobs);
      const client = clientOf(await store.openVolume('v', 1024 * BLOCK_SIZE));
      const content = blocksOf(2, 1024, 2);
      await client.write(0, content);
      await client.flush();
      await store.checkpoint();
      await client.write(0, blockOf(2));
      await client.flush();
      await store.checkpoint();
      await expect.poll(() => diskBytes(store), WAIT).toBeLessThan(2 << 20);
      expect((await client.read(0, content.length)).equals(content)).toBe(true);
      await expect.poll(() => diskBytes(store), WAIT).toBeLessThan(2 << 20);
      await store.close();
      const { findings, absent, blocks } = await examine(path);
      expect(findings).toEqual([]);
      expect(absent).toBeGreaterThan(500);
      expect(absent + blocks).toBe(1024);
      await expect(openCasStore(path)).rejects.toThrow('cannot be used without it');
    } finally {
      await rm(path, { recursive: true });
    }
  });
});

describe('the directory of a store that is kept in blobs as well', () => {
  it('is refused without them', async () => {
    const { files, store } = await openFull();
    await store.close();
    await expect(openTiny(files)).rejects.toThrow('cannot be used without it');
  });

  it('is refused with others that have nothing of it', async () => {
    const { files, store } = await openFull();
    await store.close();
    await expect(openSmall(files, new TraceBlobs())).rejects.toThrow('is only a part of a store');
  });
});

function volumeOf(store: CasStore): Volume {
  return store.findVolume('v') as Volume;
}

/** A block that is not on the disk, or in memory. */
async function findEvicted(store: CasStore): Promise<number> {
  return await findBlock(store, false);
}

async function findPresent(store: CasStore): Promise<number> {
  return await findBlock(store, true);
}

async function findBlock(store: CasStore, isHere: boolean): Promise<number> {
  const volume = volumeOf(store);
  for (let lba = 0; lba < COUNT; lba++) {
    await volume.tree.fetch(lba);
    if (store.reader.readNow(volume, lba, Buffer.alloc(BLOCK_SIZE), 0) === isHere) return lba;
  }
  throw new Error('there is none');
}

/** Where a block's frame is. */
async function placeOf(store: CasStore, lba: number): Promise<[number, number]> {
  const leaf = await volumeOf(store).tree.fetch(lba);
  const hint = HINT_WORD + 2 * (lba % FANOUT);
  return [leaf?.words[hint] as number, leaf?.words[hint + 1] as number];
}

/** The number of a segment with holes. */
async function findSparse(store: CasStore): Promise<number> {
  for (const { number, file, usedBytes } of store.segments.table.values()) {
    if ((await file.dataBytes(0, usedBytes)) < usedBytes) return number;
  }
  throw new Error('there is none');
}
