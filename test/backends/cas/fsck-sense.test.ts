/** Stores that are right in each checksum, and say what cannot be true. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostFiles } from '../../../src/backends/cas/file-layer.ts';
import {
  BLOCK_SIZE,
  ENTRY_SIZE,
  EntryKind,
  FANOUT,
  frameOffset,
  HINT_WORD,
  RECORD_HEADER_SIZE,
  RecordType,
} from '../../../src/backends/cas/format.ts';
import { type Examination, examine } from '../../../src/backends/cas/fsck/index.ts';
import type { ReadCatalog } from '../../../src/backends/cas/fsck/superblock.ts';
import { openCasStore } from '../../../src/backends/cas/open.ts';
import { segmentName } from '../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { TreeNode } from '../../../src/backends/cas/tree.ts';
import { native } from '../../../src/native.ts';
import { abandon, blockOf, blocksOf, clientOf, TINY } from './tiny-store.ts';

const BLOCKS = 2 * FANOUT;
const SIZE = BLOCKS * BLOCK_SIZE;
const COPY_SIZE = 4096;

const directory = mkdtempSync(join(tmpdir(), 'aoe-fsck-sense-'));
afterAll(() => rmSync(directory, { recursive: true }));
/** A store that was closed, and the same with log since then. */
const CLOSED = join(directory, 'closed');
const LOGGED = join(directory, 'logged');
let copyCount = 0;

beforeAll(async () => {
  const store = await openOnHost(CLOSED);
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(2, BLOCKS, 2));
  await store.changes.snapshot('disk', 'before');
  await store.close();
  cpSync(CLOSED, LOGGED, { recursive: true });
  const again = await openOnHost(LOGGED);
  const logging = clientOf(await again.openVolume('disk', SIZE));
  await logging.write((BLOCKS - 1) * BLOCK_SIZE, blockOf(4002));
  await logging.trim(20 * BLOCK_SIZE, 4 * BLOCK_SIZE);
  await logging.flush();
  await abandon(again);
});

function openOnHost(path: string): Promise<CasStore> {
  return openCasStore(path, { ...TINY, files: hostFiles() });
}

function copyOf(path: string): string {
  const copy = join(directory, `copy-${copyCount++}`);
  cpSync(path, copy, { recursive: true });
  return copy;
}

/** Changes a record and makes it right in itself again. */
function changeRecord(path: string, segment: number, at: number, change: (record: Buffer) => void) {
  const file = join(path, 'segments', segmentName(segment));
  const bytes = readFileSync(file);
  const record = bytes.subarray(at, at + bytes.readUInt32LE(at + 60));
  change(record);
  new native.CasEngine(0).seal(record);
  writeFileSync(file, bytes);
}

/** Where the catalog is that counts. */
function placeOfCatalog(path: string): [segment: number, at: number] {
  const bytes = readFileSync(join(path, 'superblock'));
  const copies = [0, 2].map((number) => bytes.subarray(number * COPY_SIZE));
  const [one, other] = copies as [Buffer, Buffer];
  const newest = one.readBigUInt64LE(24) > other.readBigUInt64LE(24) ? one : other;
  return [newest.readUInt32LE(40), newest.readUInt32LE(44)];
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

function changeCatalog(path: string, change: (catalog: Writable<ReadCatalog>) => void): void {
  changeRecord(path, ...placeOfCatalog(path), (record) => {
    const end = RECORD_HEADER_SIZE + record.readUInt32LE(64);
    const catalog = JSON.parse(record.toString('utf8', RECORD_HEADER_SIZE, end));
    change(catalog);
    record.fill(0, RECORD_HEADER_SIZE);
    const length = record.write(JSON.stringify(catalog), RECORD_HEADER_SIZE);
    record.writeUInt32LE(length, 64);
  });
}

/** Where the log goes on after the catalog, and the sequence of its next record. */
function startOfLog(path: string): [segment: number, at: number, sequence: bigint] {
  let start: [number, number, bigint] = [0, 0, 0n];
  changeCatalog(path, ({ streams: { data } }) => {
    start = [data.segment, data.offset, BigInt(data.sequence)];
  });
  return start;
}

/** The first segment of data, and where its records begin. */
function dataRecords(path: string): [segment: number, places: readonly number[]] {
  let segment = 0;
  const places: number[] = [];
  changeCatalog(path, ({ segments }) => {
    const listed = segments.find(({ stream }) => stream === 'data');
    segment = listed?.number ?? 0;
    const bytes = readFileSync(join(path, 'segments', segmentName(segment)));
    for (let at = 0; at < (listed?.usedBytes ?? 0); at += bytes.readUInt32LE(at + 60)) {
      places.push(at);
    }
  });
  return [segment, places];
}

/** Damages the frame of a block that is stored as it is, once. */
function damageBlock(path: string, seed: number): void {
  const start = blockOf(seed).subarray(0, 64);
  for (const name of readdirSync(join(path, 'segments'))) {
    const file = join(path, 'segments', name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(start);
    if (at === -1) continue;
    bytes[at + 100] = ~(bytes[at + 100] as number);
    writeFileSync(file, bytes);
    return;
  }
  throw new Error('the block is in no segment');
}

function messagesOf({ findings }: Examination): string[] {
  return findings.map(({ message }) => message);
}

function lostIn({ findings }: Examination): string[] {
  return findings.flatMap(({ lost }) => lost.map(({ name, firstLba }) => `${name} ${firstLba}`));
}

describe('an examination finds', () => {
  it.each<[string, (catalog: Writable<ReadCatalog>) => void]>([
    [
      'segment \\d+ is not below nextSegment',
      (catalog) => {
        catalog.nextSegment = Math.max(...catalog.segments.map(({ number }) => number));
      },
    ],
    [
      'segment \\d+ holds more than it can',
      (catalog) => {
        const [first] = catalog.segments as [Writable<ReadCatalog['segments'][number]>];
        first.usedBytes = catalog.segmentBytes + 4096;
      },
    ],
    [
      'volume disk has a number not below nextVolume',
      (catalog) => {
        catalog.nextVolume = catalog.volumes[0]?.id ?? 0;
      },
    ],
    [
      'the name disk is there twice',
      ({ volumes, snapshots }) => {
        const [volume] = volumes as [ReadCatalog['volumes'][number]];
        snapshots.push({ ...volume, volume: 'disk' });
      },
    ],
    [
      'the volume number \\d+ is there twice',
      ({ volumes }) => {
        const [volume] = volumes as [ReadCatalog['volumes'][number]];
        volumes.push({ ...volume, name: 'other' });
      },
    ],
    [
      'segment \\d+ is listed twice',
      ({ segments }) => {
        segments.push(segments[0] as ReadCatalog['segments'][number]);
      },
    ],
  ])('a catalog that contradicts itself: %s', async (message, change) => {
    const path = copyOf(CLOSED);
    changeCatalog(path, change);
    expect(messagesOf(await examine(path))).toContainEqual(
      expect.stringMatching(new RegExp(`^${message}$`)),
    );
  });

  it.each<[string, (record: Buffer) => void]>([
    ['its sequence has a gap', (record) => record.writeBigUInt64LE(99n, 32)],
    ['its epoch is wrong', (record) => record.writeBigUInt64LE(0n, 40)],
    ['its epoch is wrong', (record) => record.writeBigUInt64LE(99n, 40)],
    ['its type 2 is wrong', (record) => record.writeUInt16LE(RecordType.node, 6)],
  ])('a record that does not fit where it is: %s', async (problem, change) => {
    const path = copyOf(CLOSED);
    const [segment, [, second = 0]] = dataRecords(path);
    changeRecord(path, segment, second, change);
    expect(messagesOf(await examine(path))).toContain(
      `segment ${segment}, record at ${second}: ${problem}`,
    );
  });

  it.each<[string, (entry: Buffer) => void]>([
    ['its kind 9 is unknown', (entry) => entry.writeUInt32LE(9)],
    ['its frame is in another segment', (entry) => entry.writeUInt32LE(77, 48)],
    ['a duplicate of zeroes', (entry) => entry.fill(0, 16, 48).writeUInt32LE(EntryKind.duplicate)],
    [
      'zeroes with a hash or of more than one block',
      (entry) => entry.writeUInt32LE(EntryKind.zero),
    ],
    [
      'zeroes with a hash or of more than one block',
      (entry) => {
        entry.fill(0, 16, 48).writeUInt32LE(EntryKind.zero);
        entry.writeUInt32LE(2, 56);
      },
    ],
    ['a trim with a hash', (entry) => entry.writeUInt32LE(EntryKind.trim)],
  ])('an entry that makes no sense: %s', async (problem, change) => {
    const path = copyOf(CLOSED);
    const [segment, [first = 0]] = dataRecords(path);
    changeRecord(path, segment, first, (record) => {
      change(record.subarray(RECORD_HEADER_SIZE + ENTRY_SIZE, RECORD_HEADER_SIZE + 2 * ENTRY_SIZE));
    });
    expect(messagesOf(await examine(path))).toContain(
      `segment ${segment}, record at ${first}, entry 1: ${problem}`,
    );
  });

  it('something between frames that no entry speaks of', async () => {
    const path = copyOf(CLOSED);
    const [segment, [first = 0]] = dataRecords(path);
    changeRecord(path, segment, first, (record) => {
      // The last frame is nobody's, and its entry a trim.
      const last = RECORD_HEADER_SIZE + ENTRY_SIZE * (record.readUInt32LE(56) - 1);
      expect(frameOffset(record.readUInt32LE(last + 52))).toBeGreaterThan(0);
      record.fill(0, last + 16, last + 48).writeUInt32LE(EntryKind.trim, last);
    });
    expect(messagesOf(await examine(path))).toContain(
      `segment ${segment}, record at ${first}: there is something between or behind its frames`,
    );
  });

  it.each(['volumes', 'snapshots'] as const)(
    'blocks behind the end of one of the %s, also where others have them',
    async (kind) => {
      const path = copyOf(CLOSED);
      changeCatalog(path, (catalog) => {
        const [one] = catalog[kind] as [Writable<ReadCatalog['snapshots'][number]>];
        one.sizeBytes -= 4 * BLOCK_SIZE;
      });
      const name = kind === 'volumes' ? 'disk' : 'before';
      const messages = messagesOf(await examine(path));
      expect(messages).toEqual([
        expect.stringMatching(`^node [0-9a-f]{64} of ${name} has blocks behind the end`),
      ]);
    },
  );

  it('a write to behind the end of a disk in the log', async () => {
    const path = copyOf(LOGGED);
    changeCatalog(path, ({ volumes }) => {
      const [volume] = volumes as [Writable<ReadCatalog['volumes'][number]>];
      volume.sizeBytes -= BLOCK_SIZE;
    });
    expect(messagesOf(await examine(path))).toContain(
      `block ${BLOCKS - 1} of disk is behind the end of the disk`,
    );
  });

  it('zeroes that have a place', async () => {
    const path = join(directory, 'zeroes');
    const store = await openOnHost(path);
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blockOf(2));
    await client.flush();
    const leaf = (await store.findVolume('disk')?.tree.fetch(0)) as TreeNode;
    leaf.words[HINT_WORD + 2 * 5] = 1;
    await store.close();
    expect(messagesOf(await examine(path))).toEqual(['block 5 of disk is zero, but has a place']);
  });
});

describe('an examination knows by the log', () => {
  it('that nobody misses a damaged block which was written over, or trimmed', async () => {
    const path = copyOf(LOGGED);
    for (const lba of [BLOCKS - 1, 19, 20, 23, 24]) damageBlock(path, 2 + 2 * lba);
    expect(lostIn(await examine(path)).sort()).toEqual([
      ...[BLOCKS - 1, 19, 20, 23, 24].map((lba) => `before ${lba}`).sort(),
      ...['disk 19', 'disk 24'],
    ]);
  });

  it('what a snapshot holds that was taken before more was written', async () => {
    const path = copyOf(CLOSED);
    const store = await openOnHost(path);
    const client = clientOf(await store.openVolume('disk', SIZE));
    // The log only refers to what the index has already.
    await store.indexed;
    for (const lba of [0, 1]) await client.write(lba * BLOCK_SIZE, blockOf(2 + 2 * 30));
    await client.flush();
    await store.changes.snapshot('disk', 'logged');
    await client.write(0, blockOf(5002));
    await client.trim(BLOCK_SIZE, BLOCK_SIZE);
    await client.flush();
    await abandon(store);
    damageBlock(path, 2 + 2 * 30);
    const lost = lostIn(await examine(path)).sort();
    expect(lost).toEqual(['before 30', 'disk 30', 'logged 0', 'logged 1', 'logged 30']);
  });

  it.each<[string, number]>([
    ['it had been durable', 1],
    ['it may never have been', 0],
  ])('what the next record says of a damaged one: %s', async (_, durableCount) => {
    const path = join(directory, `next-${durableCount}`);
    const fresh = await openOnHost(path);
    await clientOf(await fresh.openVolume('disk', SIZE)).write(9 * BLOCK_SIZE, blockOf(9));
    await fresh.close();
    const store = await openOnHost(path);
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (const lba of [0, 1]) {
      await client.write(lba * BLOCK_SIZE, blockOf(2 + 2 * lba));
      await client.flush();
    }
    await abandon(store);
    const [segment, at, sequence] = startOfLog(path);
    let next = 0;
    changeRecord(path, segment, at, (record) => {
      next = at + record.length;
      record.writeBigUInt64LE(sequence + 100n, 32);
    });
    changeRecord(path, segment, next, (record) => {
      record.writeBigUInt64LE(sequence + BigInt(durableCount), 48);
    });
    const lost = `record ${sequence} (segment ${segment}, byte ${at}) is damaged, though it had been durable`;
    const found = await examine(path);
    expect(messagesOf(found)).toEqual(durableCount === 1 ? [lost] : []);
    // Of both the heads can still be read.
    expect(lostIn(found)).toEqual(durableCount === 1 ? ['disk 0', 'disk 1'] : []);
  });
});
