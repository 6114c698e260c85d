import { randomFillSync } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  BLOCK_SIZE,
  ENTRIES_MAX,
  ENTRY_SIZE,
  EntryKind,
  RECORD_HEADER_SIZE,
  RecordType,
  recordSizeMax,
  writeRecordHeader,
} from '../../../src/backends/cas/format.ts';
import { native } from '../../../src/native.ts';
import { createFile, ExportedFile, LoopDevice, STORAGE_TOOLS } from '../../faults/storage.ts';
import { describeWith, TempDirectory } from '../../support/tools.ts';
import { decodeFrame, hashOf, readRecord } from './oracle.ts';
import { seededRandom } from './sim-fs.ts';
import { blockOf } from './tiny-store.ts';

const STORE = new Uint8Array(16).fill(7);
const NEVER_FULL = 2 ** 30;
/** Of a record's header. */
const ENTRY_COUNT_OFFSET = 56;

/** Known to TypeScript in browsers only. */
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer };
};

function header(
  record: Uint8Array,
  segment: number,
  offset: number,
  sequence = 1,
  type: RecordType = RecordType.data,
): void {
  const rest = { sequence, epoch: 1, durableSequence: 1 };
  writeRecordHeader(record, STORE, { type, segment, offset, ...rest });
}

/** A record of so many blocks as fit, which nobody has written. */
function randomRecord(number: number, type: RecordType): Uint8Array {
  const record = new Uint8Array(recordSizeMax(ENTRIES_MAX, 0));
  header(record, number, 0, number, type);
  randomFillSync(record, RECORD_HEADER_SIZE);
  const view = new DataView(record.buffer);
  view.setUint32(ENTRY_COUNT_OFFSET, ENTRIES_MAX, true);
  for (let i = 0; i < ENTRIES_MAX; i++) {
    view.setUint32(RECORD_HEADER_SIZE + i * ENTRY_SIZE, EntryKind.block, true);
  }
  return record;
}

/** Rows for blocks that lie one after the other. */
function rowsOf(count: number): Int32Array {
  const rows = new Int32Array(count * 6);
  for (let i = 0; i < count; i++) rows.set([1, 5, i + 10, 1, i * BLOCK_SIZE, 1], i * 6);
  return rows;
}

describe('the engine of the content-addressed store', () => {
  it.each([1, 2, 4, 5, 8, 63, 64, 65, 256])('lays out %d blocks as described', async (count) => {
    const random = seededRandom(count);
    const seeds = Array.from({ length: count }, () => Math.floor(random() * 2 * count));
    const slab = Buffer.concat(seeds.map(blockOf));
    const record = Buffer.alloc(recordSizeMax(count, BLOCK_SIZE));
    header(record, 3, 8192);
    const engine = new native.CasEngine(NEVER_FULL);
    engine.attach(3, new Uint8Array(0));
    const length = await engine.ingest(slab, rowsOf(count), count, record, true);
    expect(record.readUInt32LE(60)).toBe(length);
    expect(engine.check(record, true)).toBe(-1);
    const entries = readRecord(record);
    const firsts = new Map<number, number>();
    entries.forEach((entry, index) => {
      const seed = seeds[index] as number;
      expect(entry).toMatchObject({ volume: 5, lba: 2 ** 32 + 10 + index });
      if (seed === 0) {
        expect(entry.kind).toBe(3);
        return;
      }
      const first = firsts.get(seed);
      expect(entry.kind).toBe(first === undefined ? 1 : 2);
      firsts.set(seed, first ?? entry.offset);
      if (first !== undefined) expect(entry.offset).toBe(first);
      expect(entry.hash.equals(hashOf('block', blockOf(seed)))).toBe(true);
      const start = entry.offset - 8192;
      const frame = record.subarray(start, start + entry.stored);
      expect(decodeFrame(frame, BLOCK_SIZE).equals(blockOf(seed))).toBe(true);
      // Odd seeds are mostly zeroes; the others do not compress.
      expect(entry.stored === BLOCK_SIZE).toBe(seed % 2 === 0);
    });
  });

  // Behind the memory of WebAssembly nothing can be read.
  it.each([1, 2, 5, 6, 7, 8, 9, 12, 16])('reads nothing behind %d blocks', (count) => {
    const memory = Buffer.from(new WebAssembly.Memory({ initial: 1 }).buffer);
    const slab = memory.subarray(memory.length - count * BLOCK_SIZE);
    const blocks = Array.from({ length: count }, (_, index) => blockOf(2 * index + 2));
    slab.set(Buffer.concat(blocks));
    const record = Buffer.alloc(recordSizeMax(count, BLOCK_SIZE));
    const engine = new native.CasEngine(NEVER_FULL);
    // Each of them is in each lane of the processor once.
    for (let turn = 0; turn < count; turn++) {
      header(record, 3, 0);
      const rows = rowsOf(count);
      const blockIn = (row: number) => (row + turn) % count;
      for (let row = 0; row < count; row++) rows[row * 6 + 4] = blockIn(row) * BLOCK_SIZE;
      engine.ingestNow(slab, rows, count, record, false);
      readRecord(record).forEach(({ hash }, row) => {
        expect(hash.equals(hashOf('block', blocks[blockIn(row)] as Buffer))).toBe(true);
      });
    }
  });

  it('takes up no descriptor that it cannot duplicate', () => {
    const engine = new native.CasEngine(NEVER_FULL);
    expect(() => engine.attach(1, 999_999)).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }),
    );
  });

  it('takes a full hash for proof, not the 64 bits of the index', () => {
    const engine = new native.CasEngine(NEVER_FULL);
    const segment = new Uint8Array(16_384);
    engine.attach(1, segment);
    const record = segment.subarray(0, recordSizeMax(1, BLOCK_SIZE));
    header(record, 1, 0);
    engine.ingestNow(blockOf(2), rowsOf(1), 1, record, false);
    engine.written(record);
    // Another block whose hash begins with the same 64 bits: the entry says so, the block differs.
    (record[128 + 16 + 31] as number) ^= 1;
    const second = Buffer.alloc(recordSizeMax(1, BLOCK_SIZE));
    header(second, 1, 8192, 2);
    engine.ingestNow(blockOf(2), rowsOf(1), 1, second, false);
    expect(readRecord(second)[0]?.kind).toBe(1);
  });

  it('finds a duplicate in a segment that is attached, not in one that is condemned or gone', () => {
    const engine = new native.CasEngine(NEVER_FULL);
    const segment = new Uint8Array(16_384);
    engine.attach(1, segment);
    const first = segment.subarray(0, 8192);
    header(first, 1, 0);
    engine.ingestNow(blockOf(2), rowsOf(1), 1, first, true);
    engine.written(first);
    const kindOfNext = (sequence: number) => {
      const record = Buffer.alloc(recordSizeMax(1, BLOCK_SIZE));
      header(record, 2, 0, sequence);
      engine.ingestNow(blockOf(2), rowsOf(1), 1, record, true);
      engine.written(record);
      return readRecord(record)[0]?.kind;
    };
    expect(kindOfNext(2)).toBe(2);
    engine.condemn(1);
    expect(kindOfNext(3)).toBe(1);
  });

  it('finds every torn or flipped byte of a record', () => {
    const engine = new native.CasEngine(NEVER_FULL);
    const record = Buffer.alloc(recordSizeMax(2, BLOCK_SIZE));
    header(record, 1, 0);
    const slab = Buffer.concat([blockOf(1), blockOf(2)]);
    const length = engine.ingestNow(slab, rowsOf(2), 2, record, true);
    const used = readRecord(record).reduce((sum, { stored }) => sum + stored, 128 + 2 * 64);
    const random = seededRandom(1);
    for (let round = 0; round < 2000; round++) {
      const at = Math.floor(random() * used);
      const copy = Buffer.from(record.subarray(0, length));
      copy[at] = (copy[at] as number) ^ (1 << Math.floor(random() * 8));
      const verdict = engine.check(copy, true);
      if (verdict === -1) {
        // LZ4 can say the same in two ways: then the content is right.
        const [entry] = readRecord(copy);
        const frame = copy.subarray(entry?.offset, (entry?.offset ?? 0) + (entry?.stored ?? 0));
        expect(decodeFrame(frame, BLOCK_SIZE).equals(blockOf(1))).toBe(true);
      }
    }
  });

  it('does not tell where a frame is before its record is made', async () => {
    const count = 256;
    const slab = Buffer.concat(Array.from({ length: count }, (_, i) => blockOf(i + 1)));
    const hashes = new Uint32Array(count * 8);
    const record = Buffer.alloc(recordSizeMax(count, BLOCK_SIZE));
    const places: Uint32Array[] = [];
    for (let segment = 1; segment <= 20; segment++) {
      const engine = new native.CasEngine(NEVER_FULL);
      engine.hash(0, slab, count, new Uint8Array(hashes.buffer));
      header(record, segment, 0);
      const ingested = engine.ingest(slab, rowsOf(count), count, record, true);
      // The last one is in the index for a while before its frame is made.
      const looks = Array.from({ length: 4 * count }, async () => {
        const place = new Uint32Array(2);
        if ((await engine.locate(hashes, (count - 1) * 8, place)) === 1) places.push(place);
      });
      await Promise.all([ingested, ...looks]);
    }
    expect(places.length).toBeGreaterThan(0);
    expect(places.filter(([segment]) => segment === 0)).toEqual([]);
  });

  it('keeps the index within 20 bytes an entry and within its limit', () => {
    const count = 256;
    const slab = Buffer.alloc(count * BLOCK_SIZE);
    const record = Buffer.alloc(recordSizeMax(count, BLOCK_SIZE));
    const fill = (engine: InstanceType<typeof native.CasEngine>, records: number) => {
      for (let r = 0; r < records; r++) {
        for (let i = 0; i < count; i++) slab.writeUInt32LE(r * count + i + 1, i * BLOCK_SIZE);
        header(record, r + 1, 0, r + 1);
        engine.ingestNow(slab, rowsOf(count), count, record, true);
        engine.written(record);
      }
    };
    const unbounded = new native.CasEngine(NEVER_FULL);
    fill(unbounded, 400);
    expect(unbounded.indexCount()).toBe(400 * count);
    expect(unbounded.indexBytes() / unbounded.indexCount()).toBeLessThanOrEqual(20);
    const bounded = new native.CasEngine(400_000);
    fill(bounded, 400);
    expect(bounded.indexBytes()).toBeLessThanOrEqual(400_000);
    expect(bounded.indexCount()).toBeGreaterThan(10_000);
  });

  it('forgets little at a time, before its index is full', async () => {
    const limit = 8_000_000;
    const engine = new native.CasEngine(limit);
    const recordCount = 3000;
    let [most, mostLost] = [0, 0];
    for (let number = 1; number <= recordCount; number++) {
      const before = engine.indexCount();
      engine.addToIndex(randomRecord(number, RecordType.data), false);
      most = Math.max(most, engine.indexBytes());
      mostLost = Math.max(mostLost, before - engine.indexCount());
    }
    expect(most).toBeLessThanOrEqual(limit);
    expect(most).toBeGreaterThan(0.9 * limit);
    // Of some 400,000 it would lose an eighth.
    expect(mostLost).toBeGreaterThan(0);
    expect(mostLost).toBeLessThan(20_000);
    // Nothing is attached, so nothing of it can be found: all of it goes.
    await engine.dropDetached();
    expect(engine.indexCount()).toBe(0);
  });

  it('knows what is new when what must be kept nearly fills its index', () => {
    const limit = 8_000_000;
    const engine = new native.CasEngine(limit);
    let number = 1;
    while (engine.indexBytes() < 0.96 * limit) {
      engine.addToIndex(randomRecord(number++, RecordType.moved), false);
    }
    const kept = engine.indexCount();
    const newCount = 160;
    for (let i = 0; i < newCount; i++) {
      engine.addToIndex(randomRecord(number++, RecordType.data), false);
    }
    expect(engine.indexCount() - kept).toBeGreaterThan(0.7 * newCount * ENTRIES_MAX);
  });
});

/** More blocks than a loop device takes requests, each in a place of its own. */
const COLD_BLOCKS = 250;
const GAP = 65_536;
const FRAME_UNIT = 16;
const WOULD_BLOCK = 1;
const HANG_SECONDS = 5;
const AT_ONCE_MS = 1000;
/** Time enough for a search to have begun. */
const BEGUN_MS = 200;
/** Where nobody has looked before. */
const FAR = 8 << 20;

describeWith(STORAGE_TOOLS, 'the engine of a store on a disk that hangs', () => {
  it('does not wait to find what is not in memory', async () => {
    await using directory = await TempDirectory.create();
    await createFile(directory.join('below'), COLD_BLOCKS * GAP);
    await using disk = await ExportedFile.of(directory.join('below'), directory.join('disk'));
    await using loop = await LoopDevice.attach(disk.path);
    const fd = openSync(loop.path, 'r');
    const engine = new native.CasEngine(NEVER_FULL);
    engine.attach(1, fd);
    const [hash, out] = [new Uint32Array(8), Buffer.alloc(BLOCK_SIZE)];
    disk.hangFor(HANG_SECONDS);
    const startMs = performance.now();
    for (let block = 0; block < COLD_BLOCKS; block++) {
      const place = ((block * GAP) / FRAME_UNIT) * 512 + BLOCK_SIZE / FRAME_UNIT;
      const result = engine.readNow(1, place, EntryKind.block, hash, 0, out, 0);
      expect(result).toBe(WOULD_BLOCK);
    }
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
    disk.goOn();
    engine.detach(1);
    closeSync(fd);
  });

  it('lets others use its index while it looks for a duplicate there', async () => {
    await using directory = await TempDirectory.create();
    const block = blockOf(2);
    const known = Buffer.alloc(recordSizeMax(1, BLOCK_SIZE));
    header(known, 1, FAR);
    new native.CasEngine(NEVER_FULL).ingestNow(block, rowsOf(1), 1, known, false);
    await createFile(directory.join('below'), 2 * FAR);
    await using below = await open(directory.join('below'), 'r+');
    await below.write(known, 0, known.length, FAR);
    await using disk = await ExportedFile.of(directory.join('below'), directory.join('disk'));
    await using loop = await LoopDevice.attach(disk.path);
    const fd = openSync(loop.path, 'r');
    const engine = new native.CasEngine(NEVER_FULL);
    engine.attach(1, fd);
    engine.addToIndex(known, false);
    disk.hangFor(HANG_SECONDS);
    const record = Buffer.alloc(recordSizeMax(1, BLOCK_SIZE));
    header(record, 2, 0);
    const ingested = engine.ingest(block, rowsOf(1), 1, record, false);
    await sleep(BEGUN_MS);
    const startMs = performance.now();
    expect(engine.indexCount()).toBe(1);
    engine.addToIndex(known, false);
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
    disk.goOn();
    await ingested;
    expect(readRecord(record).map(({ kind }) => kind)).toEqual([EntryKind.duplicate]);
    engine.detach(1);
    closeSync(fd);
  });
});
