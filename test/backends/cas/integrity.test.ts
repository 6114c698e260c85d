import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import {
  BLOCK_SIZE,
  ENTRY_SIZE,
  FANOUT,
  RECORD_HEADER_SIZE,
  type RecordHeader,
  RecordType,
  readRecordHeader,
  setUint53,
  viewOf,
} from '../../../src/backends/cas/format.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { segmentName } from '../../../src/backends/cas/segments.ts';
import type { DamageReport } from '../../../src/backends/cas/store-options.ts';
import { native } from '../../../src/native.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = BLOCKS * BLOCK_SIZE;

/** A disk with a closed store: one volume, one snapshot of an earlier state of it. */
async function makeDisk(): Promise<SimFs> {
  const files = new SimFs();
  const store = await openTiny(files);
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(1, BLOCKS));
  await store.changes.snapshot('disk', 'before');
  await client.write(0, blocksOf(101, BLOCKS / 2));
  await client.flush();
  await store.close();
  return files;
}

function currentState(files: SimFs) {
  const paths = files.paths();
  return {
    inodes: paths.map((path) => files.contentOf(path).slice()),
    names: new Map(paths.map((path, index) => [path, index])),
  };
}

describe('a damaged content-addressed store', () => {
  it('never serves a flipped bit, wherever it is, and scrub finds it', async () => {
    const intact = currentState(await makeDisk());
    const expected = Buffer.concat([
      blocksOf(101, BLOCKS / 2),
      blocksOf(1 + BLOCKS / 2, BLOCKS / 2),
    ]);
    const random = seededRandom(7);
    let found = 0;
    for (let round = 0; round < 150; round++) {
      const files = new SimFs(intact);
      const segments = files.paths().filter((path) => path.endsWith('.seg'));
      const path = segments[Math.floor(random() * segments.length)] as string;
      const bytes = files.contentOf(path);
      const used = bytes.findLastIndex((byte) => byte !== 0) + 1;
      const at = Math.floor(random() * used);
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      const reports: DamageReport[] = [];
      const store = await openTiny(files, { onDamage: (report) => reports.push(report) });
      const device = await store.openVolume('disk', SIZE, store.readOnly).catch(() => undefined);
      if (device !== undefined) {
        const client = clientOf(device);
        for (let lba = 0; lba < BLOCKS; lba++) {
          const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE).catch(() => undefined);
          const wanted = expected.subarray(lba * BLOCK_SIZE, (lba + 1) * BLOCK_SIZE);
          if (block === undefined) expect(reports.at(-1)).toMatchObject({ volume: 'disk', lba });
          else expect(block.equals(wanted)).toBe(true);
        }
      }
      if (store.readOnly || (await scrub(store)).damage.length > 0) found++;
      else if (reports.length > 0) throw new Error(`${path}, byte ${at}: not found by scrub`);
      await abandon(store);
    }
    // Bits in the padding of records carry nothing; all others are found.
    expect(found).toBeGreaterThan(100);
  });

  it('finds what the end of a file lacks, though what was read before has the same there', async () => {
    const store = await openTiny(new SimFs(), { compress: false });
    const client = clientOf(await store.openVolume('disk', SIZE));
    const offsets: number[] = [];
    for (const seed of [2, 4]) {
      offsets.push(store.log.position.offset);
      const block = blockOf(6);
      await client.write(seed * BLOCK_SIZE, block.fill(seed, 0, 512));
      await client.flush();
    }
    await store.checkpoint();
    const { segment } = store.log;
    if (segment === undefined) throw new Error('nothing is logged');
    const [, offset = 0] = offsets;
    const { file } = segment;
    const read = file.read.bind(file);
    const end = offset + BLOCK_SIZE;
    file.read = (bytes, position) => read(bytes.subarray(0, Math.max(0, end - position)), position);
    const { damage } = await scrub(store);
    expect(damage).toMatchObject([{ segment: segment.number, offset }]);
    await abandon(store);
  });

  it('tells which blocks of which volume and snapshot damage affects', async () => {
    const files = await makeDisk();
    damageBlocks(files, [30]);
    const store = await openTiny(new SimFs(currentState(files)));
    const report = await scrub(store);
    expect(report.damage).toHaveLength(1);
    expect(report.affected).toEqual([
      { name: 'disk', lba: 29, count: 1 },
      { name: 'before', lba: 29, count: 1 },
    ]);
    await abandon(store);
  });

  it('has the blocks of one leaf of a large volume looked at, and then the next leaf read', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', 3 * FANOUT * BLOCK_SIZE));
    for (let leaf = 0; leaf < 3; leaf++) {
      await client.write(leaf * FANOUT * BLOCK_SIZE, blockOf(2 * leaf + 30));
    }
    await store.checkpoint();
    damageBlocks(files, [30]);
    const looked = vi.spyOn(store.reader, 'isIntact');
    const read = vi.spyOn(store.reader, 'loadNode');
    expect((await scrub(store)).affected).toEqual([{ name: 'disk', lba: 0, count: 1 }]);
    const [firstLook] = looked.mock.invocationCallOrder;
    expect(firstLook).toBeLessThan(read.mock.invocationCallOrder.at(-1) as number);
    await abandon(store);
  });

  it('tells all blocks that damage of one record affects, as extents', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blocksOf(30, 4, 2));
    await store.checkpointWritten();
    damageBlocks(files, [30, 32, 36]);
    const report = await scrub(store);
    expect(report.damage).toHaveLength(1);
    expect(report.affected).toEqual([
      { name: 'disk', lba: 0, count: 2 },
      { name: 'disk', lba: 3, count: 1 },
    ]);
    await abandon(store);
  });

  it('opens for reading only when a confirmed record of the log is damaged', async () => {
    const files = new SimFs();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let lba = 0; lba < 6; lba++) {
      await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
      await client.flush();
    }
    await abandon(store);
    const path = files.paths().find((name) => {
      return Buffer.from(files.contentOf(name).buffer).includes(blockOf(4).subarray(0, 64));
    }) as string;
    const bytes = Buffer.from(files.contentOf(path).buffer);
    const at = bytes.indexOf(blockOf(4).subarray(0, 64));
    bytes[at + 100] = (bytes[at + 100] as number) ^ 1;

    const again = await openTiny(new SimFs(currentState(files)));
    expect(again.readOnly).toBe(true);
    expect(again.problems[0]).toMatch(/record \d+ of the log is damaged/);
    const device = await again.openVolume('disk', SIZE);
    expect(device.capabilities.readOnly).toBe(true);
    expect((await clientOf(device).read(0, BLOCK_SIZE)).equals(blockOf(2))).toBe(true);
    await abandon(again);
  });

  it('ends the log before a segment of an earlier epoch that seems to go on with it', async () => {
    const files = await makeDisk();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blockOf(5000));
    await client.flush();
    await abandon(store);
    const segment = files
      .paths()
      .map((path) => Buffer.from(files.contentOf(path).buffer))
      .find((bytes) => bytes.includes(blockOf(5000))) as Buffer;
    const entryAt = RECORD_HEADER_SIZE;
    const frameAt = entryAt + ENTRY_SIZE;
    const start = segment.indexOf(blockOf(5000)) - frameAt;
    const header = readRecordHeader(segment.subarray(start), undefined) as RecordHeader;
    expect(header).toMatchObject({ type: RecordType.data, epoch: 2, entryCount: 1 });
    const forged = Uint8Array.from(segment.subarray(start, start + header.length));
    const number = 1000;
    const view = viewOf(forged);
    view.setUint32(24, number, true);
    view.setUint32(28, 0, true);
    view.setUint32(entryAt + 48, number, true);
    view.setUint32(entryAt + 52, ((frameAt / 16) << 9) | (BLOCK_SIZE / 16), true);
    setUint53(view, 32, header.sequence + 1);
    setUint53(view, 40, header.epoch - 1);
    new native.CasEngine(1 << 20).seal(forged);
    const state = currentState(files);
    state.names.set(`/store/segments/${segmentName(number)}`, state.inodes.push(forged) - 1);

    const again = await openTiny(new SimFs(state));
    expect(again.problems).toEqual([]);
    const reader = clientOf(await again.openVolume('disk', SIZE));
    expect((await reader.read(0, BLOCK_SIZE)).equals(blockOf(5000))).toBe(true);
    await abandon(again);
  });
});

const SUPERBLOCK = '/store/superblock';
const COPY = 4096;

function copyOf(files: SimFs, number: number): Buffer {
  return Buffer.from(files.contentOf(SUPERBLOCK)).subarray(number * COPY, (number + 1) * COPY);
}

/** Numbers of the copies of the newest generation. */
function newestCopies(files: SimFs): [number, number] {
  const generationOf = (number: number) => copyOf(files, number).readBigUInt64LE(24);
  return generationOf(0) > generationOf(2) ? [0, 1] : [2, 3];
}

type Damage = (copy: Uint8Array) => void;
const flip: Damage = (copy) => {
  copy[30] = (copy[30] as number) ^ 4;
};
const clear: Damage = (copy) => copy.fill(0);

function damageCopies(files: SimFs, numbers: readonly number[], damage: Damage): void {
  const bytes = files.contentOf(SUPERBLOCK);
  for (const number of numbers) damage(bytes.subarray(number * COPY, (number + 1) * COPY));
}

async function openAndListen(files: SimFs) {
  const told: string[] = [];
  const store = await openTiny(files, { onProblem: (problem) => told.push(problem) });
  return { store, told };
}

describe('a content-addressed store with a damaged superblock', () => {
  /** A disk after a crash: a clone, which copy `first` is the first to know, with a flushed write. */
  async function makeClone(first: 0 | 2): Promise<SimFs> {
    const files = await makeDisk();
    const store = await openTiny(files, { checkpointBytes: 1 << 30 });
    if (newestCopies(files)[0] === first) await store.checkpoint();
    await store.changes.clone('before', 'copy');
    const superblock = files.contentOf(SUPERBLOCK).slice();
    const client = clientOf(await store.openVolume('copy', SIZE));
    await client.write(0, blockOf(4000));
    await client.flush();
    await abandon(store);
    // No checkpoint has come after the clone.
    files.contentOf(SUPERBLOCK).set(superblock);
    return files;
  }

  it.each([
    ['flipped', flip],
    ['cleared', clear],
  ])('is for reading only when both copies of the newest generation are %s', async (_, damage) => {
    for (const first of [0, 2] as const) {
      const files = await makeClone(first);
      const copies = [first, first + 1];
      damageCopies(files, copies, damage);
      const before = files.contentOf(SUPERBLOCK).slice();
      const { store, told } = await openAndListen(files);
      expect(store.readOnly).toBe(true);
      expect(store.problems).toEqual([
        expect.stringContaining(`copies ${copies.join(' and ')} of the superblock`),
        expect.stringContaining('volume number 2'),
      ]);
      expect(told).toEqual(store.problems);
      const report = await scrub(store);
      expect(report.superblockCopies).toEqual(copies);
      await store.close();
      // What was there can still be seen.
      expect(files.contentOf(SUPERBLOCK)).toEqual(before);
    }
  });

  it('is for reading only when both copies of the generation before are damaged', async () => {
    const files = await makeClone(0);
    damageCopies(files, [2, 3], flip);
    const { store } = await openAndListen(files);
    expect(store.problems).toHaveLength(1);
    expect(store.findVolume('copy')).toBeDefined();
    await abandon(store);
  });

  it('is for reading only when what is newest is cut off', async () => {
    const state = currentState(await makeClone(2));
    const inode = state.names.get(SUPERBLOCK) as number;
    state.inodes[inode] = (state.inodes[inode] as Uint8Array).slice(0, 2 * COPY);
    const { store } = await openAndListen(new SimFs(state));
    expect(store.problems[0]).toContain('copies 2 and 3 of the superblock');
    await abandon(store);
  });

  it.each([0, 1, 2, 3])('opens from the other copies when copy %i is damaged', async (number) => {
    const intact = currentState(await makeClone(0));
    for (const damage of [flip, clear]) {
      const files = new SimFs(intact);
      damageCopies(files, [number], damage);
      const { store, told } = await openAndListen(files);
      expect(store.problems).toEqual([]);
      expect(told).toEqual([expect.stringContaining(`copy ${number} of the superblock`)]);
      // Else a crash in the next generation but one could damage the other one, too.
      expect(copyOf(files, number & ~1).equals(copyOf(files, number | 1))).toBe(true);
      const client = clientOf(await store.openVolume('copy', SIZE));
      expect((await client.read(0, BLOCK_SIZE)).equals(blockOf(4000))).toBe(true);
      expect((await scrub(store)).superblockCopies).toEqual([number]);
      expect((await scrub(store)).superblockCopies).toEqual([]);
      await abandon(store);
    }
  });

  it('is found by scrub while it is open', async () => {
    const files = await makeDisk();
    const store = await openTiny(files);
    damageCopies(files, [1, 2], flip);
    expect((await scrub(store)).superblockCopies).toEqual([1, 2]);
    await store.close();
    expect((await openAndListen(files)).told).toEqual([]);
  });

  it('is told of by the next scrub when one is cancelled', async () => {
    const files = await makeDisk();
    const store = await openTiny(files);
    damageCopies(files, [1, 2], flip);
    const pace = new Pace({ signal: AbortSignal.abort() });
    await expect(scrub(store, { pace })).rejects.toThrow();
    expect((await scrub(store)).superblockCopies).toEqual([1, 2]);
    expect((await scrub(store)).superblockCopies).toEqual([]);
    await store.close();
  });

  it('is not written while scrub reads it', async () => {
    const files = await makeDisk();
    const open = files.open.bind(files);
    let [reads, overlaps] = [0, 0];
    files.open = async (path, create) => {
      const file = await open(path, create);
      if (!path.endsWith('superblock')) return file;
      return {
        ...file,
        async read(...args) {
          reads++;
          await delay(5);
          reads--;
          return file.read(...args);
        },
        async write(...args) {
          if (reads > 0) overlaps++;
          await file.write(...args);
        },
      };
    };
    const store = await openTiny(files);
    const scrubbing = scrub(store);
    await store.checkpoint();
    expect((await scrubbing).superblockCopies).toEqual([]);
    expect(overlaps).toBe(0);
    await store.close();
  });

  it('takes a misplaced copy for damaged', async () => {
    const files = await makeClone(0);
    const other = copyOf(files, 2);
    damageCopies(files, [0, 1], (copy) => copy.set(other));
    const { store } = await openAndListen(files);
    expect(store.problems[0]).toContain('copies 0 and 1 of the superblock');
    await abandon(store);
  });

  it('is made anew when a crash cut off its first generation, and only then', async () => {
    const diskWith = (bytes: Uint8Array) =>
      new SimFs({ inodes: [bytes], names: new Map([[SUPERBLOCK, 0]]) });
    const torn = new Uint8Array(3 * COPY).fill(7, 2 * COPY);
    const { store, told } = await openAndListen(diskWith(torn));
    expect([store.problems, told]).toEqual([[], []]);
    await store.close();
    const damaged = new Uint8Array(4 * COPY).fill(7, 2 * COPY);
    await expect(openTiny(diskWith(damaged))).rejects.toThrow('no copy of its superblock');
  });

  it('opens with a copy that cannot be read, but not with four', async () => {
    const files = await makeClone(0);
    for (const unreadable of [1, 2, 3, 4]) {
      let reads = 0;
      const copy = new SimFs(currentState(files));
      copy.fault = (op, path) =>
        op === 'read' && path === SUPERBLOCK && ++reads === unreadable ? 'EIO' : undefined;
      const { store } = await openAndListen(copy);
      expect(store.problems).toEqual([]);
      await abandon(store);
    }
    files.fault = (op, path) => (op === 'read' && path === SUPERBLOCK ? 'EIO' : undefined);
    await expect(openTiny(files)).rejects.toThrow('EIO');
  });

  it('opens when a crash cut off its second generation', async () => {
    const files = new SimFs();
    let writes = 0;
    files.fault = (op, path) =>
      op === 'write' && path === SUPERBLOCK && ++writes > 2 ? 'EIO' : undefined;
    await expect(openTiny(files)).rejects.toThrow();
    files.fault = () => undefined;
    const state = currentState(files);
    for (const [copies, problems] of [
      [[0], 0],
      [[0, 1], 1],
      [[1], 1],
    ] as const) {
      const cut = new SimFs(state);
      damageCopies(cut, copies, (copy) => copy.fill(7));
      const { store } = await openAndListen(cut);
      expect(store.problems).toHaveLength(problems);
      await abandon(store);
    }
  });

  it.each(['write', 'snapshot'])(
    'knows by a %s of the log that a catalog is lost',
    async (kind) => {
      const files = await makeDisk();
      const store = await openTiny(files, { checkpointBytes: 1 << 30 });
      const older = files.contentOf(SUPERBLOCK).slice();
      await store.changes.clone('before', 'copy');
      const client = clientOf(await store.openVolume('copy', SIZE));
      files.fault = (op, path) => (op === 'write' && path === SUPERBLOCK ? 'EIO' : undefined);
      if (kind === 'write') await client.write(0, blocksOf(4000, 9, 2));
      else await store.changes.snapshot('copy', 'later');
      await client.flush();
      files.fault = () => undefined;
      await abandon(store);
      files.contentOf(SUPERBLOCK).set(older);
      const { store: again } = await openAndListen(files);
      expect(again.problems).toEqual([expect.stringContaining('volume number 2')]);
      await abandon(again);
    },
  );
});

describe('a content-addressed store without space', () => {
  it('refuses writes, keeps what it has, and goes on when space returns', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', 64 * SIZE));
    await client.write(0, blocksOf(2, 10, 2));
    await client.flush();
    files.fault = (op) => (op === 'allocate' ? 'ENOSPC' : undefined);
    let refused = 0;
    for (let lba = 10; lba < 80; lba++) {
      await client.write(lba * BLOCK_SIZE, blockOf(1000 + 2 * lba)).catch((error) => {
        expect(error).toMatchObject({ code: 'noSpace' });
        refused++;
      });
      await client.flush();
    }
    expect(refused).toBeGreaterThan(10);
    await store.changes.snapshot('disk', 'full');
    expect((await client.read(0, 10 * BLOCK_SIZE)).equals(blocksOf(2, 10, 2))).toBe(true);
    files.fault = () => undefined;
    await client.write(90 * BLOCK_SIZE, blockOf(9000));
    await client.flush();
    expect((await client.read(90 * BLOCK_SIZE, BLOCK_SIZE)).equals(blockOf(9000))).toBe(true);
    await store.close();
  });

  it('gets room back by collection when its capacity is reached', async () => {
    const files = new SimFs();
    const capacityBytes = 12 * (64 << 10);
    const store = await openTiny(files, { capacityBytes });
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let round = 0; round < 60; round++) {
      const data = blocksOf(2 + round * 40, 10, 2);
      await client.write(0, data).catch(async () => {
        await collect(store, { liveMax: 0.9 });
        await client.write(0, data);
      });
      await client.flush();
    }
    expect((await client.read(0, 10 * BLOCK_SIZE)).equals(blocksOf(2 + 59 * 40, 10, 2))).toBe(true);
    expect(store.stats().physicalBytes).toBeLessThanOrEqual(capacityBytes);
    await store.close();
  });

  it('keeps room for all that it has taken, while much is in flight and segments are emptied', async () => {
    const random = seededRandom(5);
    // Larger batches than those that are ingested at once.
    const sizes = { segmentBytes: 256 << 10, batchBlocks: 16, cacheBytes: 128 * BLOCK_SIZE };
    const volumeBlocks = 256;
    let refused = 0;
    for (let round = 0; round < 10; round++) {
      const capacityBytes = (9 + (round % 3)) * sizes.segmentBytes;
      const store = await openTiny(new SimFs(), { ...sizes, capacityBytes });
      const client = clientOf(await store.openVolume('disk', volumeBlocks * BLOCK_SIZE));
      const known = Array.from({ length: volumeBlocks }, () => 0);
      const change = async (lba: number) => {
        const seed = 2 + 2 * Math.floor(random() * 9999);
        try {
          await client.write(lba * BLOCK_SIZE, blockOf(seed));
          known[lba] = seed;
        } catch {
          refused++;
        }
      };
      for (let step = 0; step < 10; step++) {
        const care = random() < 0.5 ? collect(store, { liveMax: 0.9 }) : store.checkpoint();
        const cared = care.catch((error: NodeJS.ErrnoException) =>
          expect(error.code).toBe('ENOSPC'),
        );
        for (let wave = 0; wave < 8; wave++) {
          const first = Math.floor(random() * (volumeBlocks - 16));
          await Promise.all(Array.from({ length: 16 }, (_, index) => change(first + index)));
        }
        await client.flush();
        await cared;
        expect(store.failure).toBeUndefined();
      }
      for (const [lba, seed] of known.entries()) {
        const found = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
        expect(found.equals(blockOf(seed))).toBe(true);
      }
      await store.close();
    }
    expect(refused).toBeGreaterThan(10);
  });
});

describe('a content-addressed store whose maps take room', () => {
  it('keeps room for them, without which nothing could be freed', async () => {
    const sizes = { segmentBytes: 1 << 20, batchBlocks: 128, cacheBytes: 512 * BLOCK_SIZE };
    const later = { checkpointBytes: 1 << 30, spareCount: 1 };
    const capacityBytes = 24 * sizes.segmentBytes;
    const store = await openTiny(new SimFs(), { ...sizes, ...later, capacityBytes });
    const leafBytes = 128 * BLOCK_SIZE;
    const client = clientOf(await store.openVolume('disk', 4000 * leafBytes));
    // Few blocks, so that the log is short; each leaf has its own order of them.
    const contents = Array.from({ length: 128 }, (_, index) => blockOf(2 + 2 * index));
    const leafAt = (leaf: number) =>
      Buffer.concat(
        contents.map(
          (_, index) => contents[(index * (2 * (leaf >> 7) + 1) + leaf) % 128] as Buffer,
        ),
      );
    let leaves = 0;
    const write = async (leaf: number) => {
      const data = leafAt(leaf);
      for (let at = 0; at < leafBytes; at += 8 * BLOCK_SIZE) {
        await client.write(leaf * leafBytes + at, data.subarray(at, at + 8 * BLOCK_SIZE));
      }
      await client.flush();
    };
    await expect(
      (async () => {
        for (; leaves < 4000; leaves++) await write(leaves);
      })(),
    ).rejects.toThrow('noSpace');
    expect(leaves).toBeGreaterThan(500);
    await store.checkpoint();
    await client.trim(0, leaves * leafBytes);
    await collect(store);
    await write(0);
    const start = await client.read(0, 16 * BLOCK_SIZE);
    expect(start.equals(leafAt(0).subarray(0, start.length))).toBe(true);
    await store.close();
  });
});

describe('a content-addressed store whose disk fails', () => {
  it.each(['write', 'sync'])(
    'takes no more after a failed %s of its maps, and lost none',
    async (op) => {
      const files = new SimFs();
      const store = await openTiny(files);
      const client = clientOf(await store.openVolume('disk', SIZE));
      await client.write(0, blocksOf(1, 12));
      await client.flush();
      files.fault = (name, path) => (name === op && path.endsWith('.seg') ? 'EIO' : undefined);
      await expect(store.checkpoint()).rejects.toThrow('EIO');
      files.fault = () => undefined;
      expect(store.failure).toBeDefined();
      await expect(store.checkpoint()).rejects.toThrow('EIO');
      await abandon(store);
      const again = await openTiny(files);
      const found = await clientOf(await again.openVolume('disk', SIZE)).read(0, 12 * BLOCK_SIZE);
      expect(found.equals(blocksOf(1, 12))).toBe(true);
      await again.close();
    },
  );

  it.each(['write', 'sync'])('confirms nothing after a failed %s and says so', async (op) => {
    for (let failAt = 0; failAt < 6; failAt++) {
      const files = new SimFs();
      const failures: Error[] = [];
      const store = await openTiny(files, { onFailed: (error) => failures.push(error) });
      const client = clientOf(await store.openVolume('disk', SIZE));
      await client.write(0, blockOf(1));
      await client.flush();
      let count = 0;
      files.fault = (name, path) =>
        name === op && path.endsWith('.seg') && count++ === failAt ? 'EIO' : undefined;
      const confirmed: number[] = [];
      let failed = false;
      for (let lba = 1; lba < 12; lba++) {
        try {
          await client.write(lba * BLOCK_SIZE, blockOf(lba + 1));
          await client.flush();
          expect(failed).toBe(false);
          confirmed.push(lba);
        } catch {
          failed = true;
        }
      }
      expect(failed).toBe(true);
      expect(failures.length).toBeGreaterThan(0);
      await abandon(store);
      const again = await openTiny(new SimFs(currentState(files)));
      const reader = clientOf(await again.openVolume('disk', SIZE));
      for (const lba of confirmed) {
        const block = await reader.read(lba * BLOCK_SIZE, BLOCK_SIZE);
        expect(block.equals(blockOf(lba + 1))).toBe(true);
      }
      await abandon(again);
    }
  });
});

/** Changes a bit of the blocks of these seeds wherever they are stored uncompressed. */
function damageBlocks(files: SimFs, seeds: readonly number[]): void {
  for (const path of files.paths().filter((name) => name.endsWith('.seg'))) {
    const bytes = Buffer.from(files.contentOf(path).buffer);
    for (const seed of seeds) {
      const at = bytes.indexOf(blockOf(seed).subarray(0, 64));
      if (at !== -1) bytes[at + 9] = (bytes[at + 9] as number) ^ 1;
    }
  }
}
