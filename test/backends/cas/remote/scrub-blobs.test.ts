import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { Pace } from '../../../../src/backends/cas/pace.ts';
import { PART_PREFIX, partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import type { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import type { Part } from '../../../../src/backends/cas/remote/journal-entry.ts';
import { verifyPart } from '../../../../src/backends/cas/remote/part.ts';
import { Repairs } from '../../../../src/backends/cas/remote/repairs.ts';
import { scrubBlobs } from '../../../../src/backends/cas/remote/scrub-blobs.ts';
import { scrub } from '../../../../src/backends/cas/scrub.ts';
import type { Segment } from '../../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import type { Volume } from '../../../../src/backends/cas/volume.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from '../tiny-store.ts';
import { damageSome } from './fsck-store.ts';
import { openRemote, openVolume, recoverSeeds, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const SEEDS = Array.from({ length: 12 }, (_, i) => 2 * i + 2);

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('a scrub of the blob store, %s', (_, knowsConditions) => {
  /** A store with several parts and entries, all of it here and there. */
  async function openWhole() {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    for (const [lba, seed] of SEEDS.entries()) {
      await client.write(lba * BLOCK_SIZE, blockOf(seed));
      await client.flush();
      if (lba % 4 === 3) await store.checkpoint();
    }
    await store.checkpoint();
    // Until it has reached the blobs: a round may store what is damaged together with what follows.
    const isStored = () => store.journal?.image.superblock?.generation === store.generation;
    await expect.poll(isStored, { ...WAIT, interval: 5 }).toBe(true);
    return { blobs, store };
  }

  const scrubAll = (store: CasStore) => scrub(store, { remote: true });
  /** Without the checkpoint before. */
  const scrubNow = (store: CasStore) => scrubBlobs(store, store.journal as Journal, new Pace());

  async function expectRepaired(blobs: TraceBlobs, store: CasStore, name: string): Promise<void> {
    expect(await scrubAll(store)).toMatchObject({ damage: [], blobs: { damage: [] } });
    await expect.poll(() => blobs.blobs.has(name), WAIT).toBe(false);
    await abandon(store);
    expect((await recoverSeeds(blobs)).slice(0, SEEDS.length)).toEqual(SEEDS);
  }

  it('finds nothing where all is well, and reads every blob that counts', async () => {
    const { blobs, store } = await openWhole();
    blobs.reads.length = 0;
    const { blobs: report, affected } = await scrubAll(store);
    expect(report?.damage).toEqual([]);
    expect(affected).toEqual([]);
    const { image, entries } = store.journal as Journal;
    const named = [...image.segments].flatMap(([segment, parts]) =>
      parts.map((part) => partName(segment, part)),
    );
    expect(blobs.reads).toEqual(expect.arrayContaining([...named, ...entries.keys()]));
    expect(named.length).toBeGreaterThan(2);
    expect(report?.doneBytes).toBe(
      named.reduce((sum, name) => sum + (blobs.blobs.get(name)?.length ?? 0), 0),
    );
    await store.close();
  });

  it('reads no part when it is not asked for', async () => {
    const { blobs, store } = await openWhole();
    blobs.reads.length = 0;
    expect((await scrub(store)).blobs).toBeUndefined();
    expect(blobs.reads.filter((name) => name.startsWith(PART_PREFIX))).toEqual([]);
    await store.close();
  });

  it('finds damage in any part, and stores it anew', async () => {
    const { blobs: first, store: whole } = await openWhole();
    const partCount = partsOf(first).length;
    await whole.close();
    const random = seededRandom(1);
    for (let i = 0; i < partCount; i++) {
      const { blobs, store } = await openWhole();
      const name = partsOf(blobs)[i] as string;
      damageSome(blobs.blobs.get(name) as Uint8Array, random);
      expect(await scrubNow(store)).toMatchObject({
        damage: [{ name, isMissing: false, isReplaced: true }],
        suspects: [],
      });
      await expectRepaired(blobs, store, name);
    }
  });

  it('finds that a part is gone, and stores it anew', async () => {
    const { blobs, store } = await openWhole();
    const name = partsOf(blobs)[0] as string;
    blobs.blobs.delete(name);
    const { damage } = await scrubNow(store);
    expect(damage).toEqual([{ name, isMissing: true, isReplaced: true }]);
    await expectRepaired(blobs, store, name);
  });

  it('finds a flipped bit in any entry of the journal, and lets it count no more', async () => {
    const { blobs: first, store: whole } = await openWhole();
    const entryCount = (whole.journal as Journal).entries.size;
    await abandon(whole);
    expect(entryCount).toBeGreaterThan(3);
    expect(first.blobs.size).toBeGreaterThan(entryCount);
    const random = seededRandom(2);
    for (let i = 0; i < entryCount; i++) {
      const { blobs, store } = await openWhole();
      const name = [...(store.journal as Journal).entries.keys()][i] as string;
      flip(blobs, name, random);
      const { damage } = await scrubNow(store);
      expect(damage).toEqual([{ name, isMissing: false, isReplaced: true }]);
      expect((store.journal as Journal).entries.has(name)).toBe(false);
      await expectRepaired(blobs, store, name);
    }
  });

  it('does not go on where the last entry is gone', async () => {
    const { blobs, store } = await openWhole();
    const name = [...(store.journal as Journal).entries.keys()].at(-1) as string;
    blobs.blobs.delete(name);
    const { damage } = await scrubNow(store);
    expect(damage).toEqual([{ name, isMissing: true, isReplaced: false }]);
    expect(store.failure).toBeUndefined();
    await abandon(store);
  });
});

describe('a scrub of blobs that hold what is not on the disk', () => {
  const COUNT = 128;

  async function openSparse(cacheBytes = 0) {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { cacheBytes, durability: 'remote' });
    const client = clientOf(await store.openVolume('v', COUNT * BLOCK_SIZE));
    await client.write(0, blocksOf(2, COUNT, 2));
    await client.flush();
    for (let i = 0; i < 3; i++) {
      await client.write(0, blockOf(2));
      await client.flush();
      await store.checkpoint();
    }
    await store.changes.snapshot('v', 'kept');
    await store.whenSnapshotsStored();
    const isSparse = async () => {
      let bytes = 0;
      for (const { file, usedBytes } of store.segments.table.values()) {
        bytes += await file.dataBytes(0, usedBytes);
      }
      return bytes < COUNT * BLOCK_SIZE * 0.6 + cacheBytes;
    };
    await expect.poll(isSparse, { ...WAIT, interval: 5 }).toBe(true);
    return { blobs, store };
  }

  it('gives up what it has stored anew as it does everything else', async () => {
    const { blobs, store } = await openSparse(256 << 10);
    const sizeOf = ({ file, usedBytes }: Segment) => file.dataBytes(0, usedBytes);
    const { image } = store.journal as Journal;
    let kept: Segment | undefined;
    for (const segment of store.segments.table.values()) {
      const isWhole = (await sizeOf(segment)) === segment.usedBytes;
      const isSettled = segment.stream === 'data' && segment.number < store.logStart.segment;
      if (isWhole && isSettled) kept = segment;
    }
    const { number } = kept as Segment;
    const [part] = image.segments.get(number) ?? [];
    blobs.blobs.delete(partName(number, part as Part));
    expect((await scrub(store, { remote: true })).blobs?.damage).toMatchObject([
      { isReplaced: true },
    ]);
    const volume = store.findVolume('v') as Volume;
    const block = Buffer.alloc(BLOCK_SIZE);
    await expect
      .poll(async () => {
        // More than fits, and none of it is in this segment.
        for (let lba = 0; lba < COUNT / 2; lba++) await store.reader.read(volume, lba, block, 0);
        return sizeOf(kept as Segment);
      }, WAIT)
      .toBeLessThan(16 << 10);
    await store.close();
  });

  it('fetches each once', async () => {
    const { blobs, store } = await openSparse();
    blobs.reads.length = 0;
    expect((await scrub(store, { remote: true })).blobs?.damage).toEqual([]);
    const parts = blobs.reads.filter((name) => name.startsWith(PART_PREFIX));
    expect(new Set(parts).size).toBe(parts.length);
    await store.close();
  });

  it.each(['damaged', 'missing'])('tells what a %s one takes with it', async (state) => {
    const { blobs, store } = await openSparse();
    // The first part holds the first blocks.
    const name = partsOf(blobs)[0] as string;
    const bytes = blobs.blobs.get(name) as Uint8Array;
    if (state === 'missing') blobs.blobs.delete(name);
    else bytes[5000] = (bytes[5000] as number) ^ 1;
    const { blobs: report, affected } = await scrub(store, { remote: true });
    expect(report?.damage).toEqual([{ name, isMissing: state === 'missing', isReplaced: false }]);
    expect([...new Set(affected.map((entry) => entry.name))].sort()).toEqual(['kept', 'v']);
    const lost = new Set<number>();
    for (const { lba, count } of affected.filter((entry) => entry.name === 'v')) {
      for (let block = 0; block < count; block++) lost.add(lba + block);
    }
    expect(lost.size).toBeGreaterThan(0);
    const volume = store.findVolume('v') as Volume;
    for (let lba = 0; lba < COUNT; lba++) {
      // Past the blocks in memory.
      const block = Buffer.alloc(BLOCK_SIZE);
      const reading = store.reader.read(volume, lba, block, 0);
      if (lost.has(lba)) await expect(reading).rejects.toThrow('no intact copy');
      else await reading.then(() => expect(block.equals(blockOf(2 * lba + 2))).toBe(true));
    }
    await store.close();
  });
});

describe('a part', () => {
  it('is damaged whichever of its bytes is another one', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blocksOf(2, 6, 2));
    await client.flush();
    const { image } = store.journal as Journal;
    const parts = store.recordParts;
    for (const [segment, stored] of image.segments) {
      // Nodes are compressed: there are several ways to write the same one.
      if (store.segments.table.get(segment)?.stream !== 'data') continue;
      for (const part of stored) {
        const bytes = blobs.blobs.get(partName(segment, part)) as Uint8Array;
        expect(await verifyPart(parts, segment, part, bytes)).toBeUndefined();
        for (let at = 0; at < bytes.length; at++) {
          // Zeroes between frames and behind them mean nothing.
          if (bytes[at] === 0) continue;
          bytes[at] = (bytes[at] as number) ^ 1;
          expect(await verifyPart(parts, segment, part, bytes), `byte ${at}`).toBeDefined();
          bytes[at] = (bytes[at] as number) ^ 1;
        }
        const longer = Buffer.concat([bytes, Buffer.alloc(1)]);
        expect(await verifyPart(parts, segment, part, longer)).toBeDefined();
        for (const length of [0, 4096, bytes.length - 1]) {
          const shorter = bytes.subarray(0, length);
          expect(await verifyPart(parts, segment, part, shorter)).toBeDefined();
        }
      }
    }
    await store.close();
  });
});

it('has nothing to scrub where there is no blob store', async () => {
  const store = await openTiny(new SimFs());
  await expect(scrub(store, { remote: true })).rejects.toThrow('is in no blob store');
  await store.close();
});

function partsOf({ blobs }: TraceBlobs): string[] {
  return [...blobs.keys()].filter((name) => name.startsWith(PART_PREFIX));
}

/** Flips a bit of a blob, but none that means nothing. */
function flip({ blobs }: TraceBlobs, name: string, random: () => number): void {
  const bytes = blobs.get(name) as Uint8Array;
  let at = Math.floor(random() * bytes.length);
  while (bytes[at] === 0) at = (at + 1) % bytes.length;
  bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
}

it('a repair has come about only when its round ends well, and is refused where none follows', async () => {
  const repairs = new Repairs();
  const failed = repairs.add(async () => true);
  const round = repairs.before(() => Promise.reject(new Error('no route')));
  await expect(round).rejects.toThrow('no route');
  expect(await failed).toBe(false);
  const refused = repairs.add(async () => true);
  repairs.refuse();
  expect(await refused).toBe(false);
});
