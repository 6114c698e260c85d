import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import {
  BLOCK_SIZE,
  EntryKind,
  RecordType,
  readRecordHeader,
} from '../../../src/backends/cas/format.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { StoreOptions } from '../../../src/backends/cas/store-options.ts';
import type { DeviceClient } from '../../../src/core/device-client.ts';
import { hashOf, readRecord } from './oracle.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 40;
const SIZE = 2 * BLOCKS * BLOCK_SIZE;

interface MovedRecord {
  readonly bytes: Uint8Array;
  /** Seeds of its blocks. */
  readonly seeds: readonly number[];
}

/** The records of what was moved in a disk's segments, each with where it is to be damaged. */
function movedRecords(files: SimFs, seedOf: ReadonlyMap<string, number>): MovedRecord[] {
  const found: MovedRecord[] = [];
  for (const path of files.paths().filter((name) => name.endsWith('.seg'))) {
    const content = files.contentOf(path);
    for (let at = 0; at + BLOCK_SIZE <= content.length; at += BLOCK_SIZE) {
      const header = readRecordHeader(content.subarray(at), undefined);
      if (header?.type !== RecordType.moved) continue;
      const bytes = content.subarray(at, at + header.length);
      const blocks = readRecord(Buffer.from(bytes)).filter(({ kind }) => kind === EntryKind.block);
      const seeds = blocks.map(({ hash }) => seedOf.get(hash.toString('hex')) as number);
      if (seeds.length > 0) found.push({ bytes, seeds });
    }
  }
  return found;
}

/** Where the block of a seed is stored, by segment. */
function placesOf(files: SimFs, seed: number): { readonly bytes: Buffer; readonly at: number }[] {
  const paths = files.paths().filter((name) => name.endsWith('.seg'));
  return paths.sort().flatMap((path) => {
    const bytes = Buffer.from(files.contentOf(path).buffer);
    const at = bytes.indexOf(blockOf(seed).subarray(0, 64));
    return at === -1 ? [] : [{ bytes, at }];
  });
}

/** Damages the block of a seed, wherever it is stored or in one place. */
function damage(files: SimFs, seed: number, places = placesOf(files, seed)): void {
  for (const { bytes, at } of places) bytes[at + 9] = (bytes[at + 9] as number) ^ 1;
}

/** A store with one block twice, as its index had forgotten it when it was written again. */
async function storeTwice(seed: number, isMoved: boolean): Promise<SimFs> {
  const files = new SimFs();
  const store = await openTiny(files, { indexBytesMax: 1, checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blockOf(seed));
  await writeMuch(client);
  await client.write(BLOCKS * BLOCK_SIZE, blockOf(seed));
  await writeMuch(client);
  await store.checkpoint();
  if (isMoved) await collect(store, { liveMax: 1 });
  await store.close();
  return files;
}

/** Opens a store that is damaged. */
async function openDamaged(files: SimFs, options: Partial<StoreOptions> = {}) {
  const failures: string[] = [];
  const onFailed = ({ message }: Error) => failures.push(message);
  const store = await openTiny(files, { ...options, onFailed });
  await store.indexed;
  return { store, failures, client: clientOf(await store.openVolume('disk', SIZE)) };
}

/** Opens a store of so many blocks, with seeds from 2 on, of which that at `lba` is damaged. */
async function openWithDamage(lba: number, count: number, options: Partial<StoreOptions> = {}) {
  const files = new SimFs();
  const written = await openTiny(files, options);
  await clientOf(await written.openVolume('disk', SIZE)).write(0, blocksOf(2, count, 2));
  await written.close();
  damage(files, 2 + 2 * lba);
  return { files, ...(await openDamaged(files, options)) };
}

/** Writes so much else that an index drops what it may, and nothing stays in memory. */
async function writeMuch(client: DeviceClient): Promise<void> {
  for (let round = 1; round <= 8; round++) {
    await client.write((BLOCKS + 1) * BLOCK_SIZE, blocksOf(10_000 * round, BLOCKS - 1, 2));
    await client.flush();
  }
}

/** The first block of each seed; of what cannot be read there is none. */
async function readBlocks(store: CasStore, count: number): Promise<(Buffer | undefined)[]> {
  const client = clientOf(await store.openVolume('disk', SIZE));
  const blocks: (Buffer | undefined)[] = [];
  for (let lba = 0; lba < count; lba++) {
    blocks.push(await client.read(lba * BLOCK_SIZE, BLOCK_SIZE).catch(() => undefined));
  }
  return blocks;
}

describe('a record of moved frames that is damaged', () => {
  it('hides nothing behind it, and what it held is stored anew when it is written again', async () => {
    const files = new SimFs();
    const written = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await written.openVolume('disk', SIZE));
    const seeds = Array.from({ length: BLOCKS }, (_, lba) => 2 * lba + 2);
    // Beside each block that stays is one that does not.
    for (const [lba, seed] of seeds.entries()) {
      await client.write(lba * BLOCK_SIZE, blockOf(seed));
      await client.write(BLOCKS * BLOCK_SIZE, blocksOf(1000 + 10 * lba, 2, 2));
      await client.flush();
    }
    await written.checkpoint();
    expect((await collect(written)).freedSegments).toBeGreaterThan(3);
    await written.close();
    const seedOf = new Map(
      seeds.map((seed) => [hashOf('block', blockOf(seed)).toString('hex'), seed]),
    );
    const [damaged, ...behind] = movedRecords(files, seedOf);
    expect(behind.length).toBeGreaterThan(1);
    const { bytes, seeds: lost } = damaged as MovedRecord;
    bytes[100] = (bytes[100] as number) ^ 1;

    const { store, failures, client: again } = await openDamaged(files);
    expect(failures).toEqual([expect.stringMatching(/^segment \d+: no record at byte 0/)]);
    const isLost = (seed: number) => lost.includes(seed);
    expect(await readBlocks(store, BLOCKS)).toEqual(
      seeds.map((seed) => (isLost(seed) ? undefined : blockOf(seed))),
    );
    for (const [index, seed] of lost.entries()) {
      await again.write((BLOCKS + index) * BLOCK_SIZE, blockOf(seed));
    }
    await store.close();

    const healed = await openDamaged(files);
    expect(await readBlocks(healed.store, BLOCKS + lost.length)).toEqual(
      [...seeds, ...lost].map(blockOf),
    );
    expect((await scrub(healed.store)).affected).toEqual([]);
    await healed.store.close();
  });
});

describe('a block that is damaged', () => {
  it.each([
    ['older', 'was written', 0, false],
    ['newer', 'was written', 1, false],
    ['older', 'a collection has moved', 0, true],
    ['newer', 'a collection has moved', 1, true],
  ])('is read from another copy when it is the %s one that %s', async (_, __, which, isMoved) => {
    const files = await storeTwice(8, isMoved);
    const places = placesOf(files, 8);
    expect(places).toHaveLength(2);
    damage(files, 8, places.slice(which, which + 1));
    const { store } = await openDamaged(files);
    const blocks = await readBlocks(store, BLOCKS + 1);
    expect([blocks[0], blocks[BLOCKS]]).toEqual([blockOf(8), blockOf(8)]);
    await store.close();
  });

  it.each([
    ['older', 0],
    ['newer', 1],
  ])('keeps no segment when the %s of its copies is damaged and unread', async (_, which) => {
    const files = await storeTwice(8, false);
    damage(files, 8, placesOf(files, 8).slice(which, which + 1));
    const { store } = await openDamaged(files);
    const former = [...store.segments.table.values()].filter(({ stream }) => stream === 'data');
    await clientOf(await store.openVolume('disk', SIZE)).write(BLOCK_SIZE, blocksOf(3000, 20, 2));
    await store.checkpoint();
    await collect(store, { liveMax: 1 });
    expect(former.filter(({ number }) => store.segments.table.has(number))).toEqual([]);
    const blocks = await readBlocks(store, BLOCKS + 1);
    expect([blocks[0], blocks[BLOCKS]]).toEqual([blockOf(8), blockOf(8)]);
    await store.close();
  });

  it('is read from where it was stored anew, and is a duplicate of that, after a crash', async () => {
    const lba = 14;
    const { files, store, client } = await openWithDamage(lba, BLOCKS);
    await expect(client.read(lba * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
    await client.write(BLOCKS * BLOCK_SIZE, blockOf(30));
    await client.flush();
    await abandon(store);

    const { store: recovered, client: again } = await openDamaged(files);
    await again.write((BLOCKS + 1) * BLOCK_SIZE, blockOf(30));
    await again.flush();
    expect(await again.read(lba * BLOCK_SIZE, BLOCK_SIZE)).toEqual(blockOf(30));
    await recovered.close();
    const { store: healed } = await openDamaged(files);
    const blocks = await readBlocks(healed, BLOCKS + 2);
    expect([blocks[lba], ...blocks.slice(BLOCKS)]).toEqual([30, 30, 30].map(blockOf));
    await healed.close();
  });

  it('is stored anew when it is written again, once it is known to be', async () => {
    for (const find of ['read', 'scrub'] as const) {
      const lba = 14;
      const { files, store, client } = await openWithDamage(lba, BLOCKS);
      if (find === 'read')
        await expect(client.read(lba * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
      else expect((await scrub(store)).affected).toEqual([{ name: 'disk', lba, count: 1 }]);
      await client.write(BLOCKS * BLOCK_SIZE, blockOf(30));
      await store.close();

      const { store: healed } = await openDamaged(files);
      expect((await readBlocks(healed, BLOCKS + 1)).at(-1)).toEqual(blockOf(30));
      await healed.close();
    }
  });

  it('is read from where it was stored anew, however much the index forgets since', async () => {
    const options = { indexBytesMax: 48 << 10, checkpointBytes: 1 << 30 };
    const lba = 3;
    const { store, client } = await openWithDamage(lba, 8, options);
    await expect(client.read(lba * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
    await client.write(BLOCKS * BLOCK_SIZE, blockOf(8));
    await writeMuch(client);
    expect((await readBlocks(store, lba + 1))[lba]).toEqual(blockOf(8));
    await store.close();
  });

  it.each([
    ['the same segment', 'alone', [3]],
    ['the same segment', 'beside one that stays', [2, 3]],
    ['another segment', 'alone', [3]],
    ['another segment', 'beside one that stays', [2, 3]],
  ])(
    'is found where it was stored anew in %s when a collection has freed it %s, also after a start',
    async (where, _, staying) => {
      const options = { indexBytesMax: 48 << 10, checkpointBytes: 1 << 30 };
      const lba = 3;
      const { files, store, client } = await openWithDamage(lba, 8, options);
      const former = [...store.segments.table.values()].filter(({ stream }) => stream === 'data');
      await expect(client.read(lba * BLOCK_SIZE, BLOCK_SIZE)).rejects.toThrow();
      const again = () => client.write(BLOCKS * BLOCK_SIZE, blockOf(8));
      if (where === 'the same segment') await again();
      for (let other = 0; other < 8; other++) {
        if (staying.includes(other)) continue;
        await client.write(other * BLOCK_SIZE, blockOf(1000 + 2 * other));
      }
      await client.write(8 * BLOCK_SIZE, blocksOf(2000, 20, 2));
      if (where === 'another segment') await again();
      await client.flush();
      await store.checkpoint();
      await collect(store, { liveMax: 1 });
      expect(former.filter(({ number }) => store.segments.table.has(number))).toEqual([]);
      await writeMuch(client);
      const expected = staying.map((index) => blockOf(2 + 2 * index));
      const blocks = await readBlocks(store, 8);
      expect(staying.map((index) => blocks[index])).toEqual(expected);
      await store.close();
      const restarted = await openDamaged(files, options);
      const found = await readBlocks(restarted.store, 8);
      expect(staying.map((index) => found[index])).toEqual(expected);
      await restarted.store.close();
    },
  );
});
