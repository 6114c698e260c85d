import { beforeEach, describe, expect, it } from 'vitest';
import { Ata } from '../../src/aoe/codec/ata.ts';
import { BlockOp, BlockRequest } from '../../src/core/block-device.ts';
import { BlockError, BlockStatus, blockStatusName } from '../../src/core/block-error.ts';
import { CheckedDevice } from '../../src/core/checked-device.ts';
import { CountedDevice } from '../../src/core/counted-device.ts';
import { Limits } from '../../src/core/limits.ts';
import { RequestPool, slabBytes, slotOffset } from '../../src/core/request-pool.ts';
import { StartupError } from '../../src/core/startup-error.ts';
import { HandDevice, Requester } from './hand-device.ts';

const { read: READ, write: WRITE, flush: FLUSH, trim: TRIM } = BlockOp;
const SIZE_SECTORS = 64;

describe('CheckedDevice', () => {
  let requester: Requester;

  beforeEach(() => {
    requester = new Requester(64);
  });

  function judge(device: HandDevice, request: BlockRequest): BlockStatus | 'passed' {
    new CheckedDevice(device).submit(request);
    return requester.statusOf(request) ?? 'passed';
  }

  it('lets through what lies inside the device, to the last sector', () => {
    const device = new HandDevice(SIZE_SECTORS);
    for (const op of [READ, WRITE, TRIM]) {
      expect(judge(device, requester.make(op, 0, SIZE_SECTORS))).toBe('passed');
      expect(judge(device, requester.make(op, SIZE_SECTORS - 1, 1))).toBe('passed');
    }
  });

  it('refuses what reaches beyond the end, far beyond it too', () => {
    const device = new HandDevice(SIZE_SECTORS);
    for (const op of [READ, WRITE, TRIM]) {
      for (const [sector, count] of [
        [SIZE_SECTORS, 1],
        [SIZE_SECTORS - 1, 2],
        [0, SIZE_SECTORS + 1],
        [2 ** 48 - 1, 255],
      ] as const) {
        const request = requester.make(op, sector, count);
        expect(judge(device, request)).toBe(BlockStatus.outOfRange);
      }
    }
    expect(device.pending).toEqual([]);
  });

  it('refuses to change a read-only device, and lets it be read and flushed', () => {
    const device = new HandDevice(SIZE_SECTORS, { readOnly: true, trim: false });
    expect(judge(device, requester.make(WRITE))).toBe(BlockStatus.readOnly);
    expect(judge(device, requester.make(TRIM))).toBe(BlockStatus.readOnly);
    expect(judge(device, requester.make(READ))).toBe('passed');
    expect(judge(device, requester.make(FLUSH))).toBe('passed');
  });

  it('refuses a trim where there is none', () => {
    const device = new HandDevice(SIZE_SECTORS, { trim: false });
    expect(judge(device, requester.make(TRIM))).toBe(BlockStatus.unsupported);
  });

  it('crashes on a range that no frontend may produce', () => {
    const device = new HandDevice(SIZE_SECTORS);
    const broken = requester.make(READ, 0, 0);
    expect(() => judge(device, broken)).toThrow();
    broken.length = 100;
    expect(() => judge(device, broken)).toThrow();
    broken.length = 512;
    broken.offset = 100;
    expect(() => judge(device, broken)).toThrow();
  });
});

describe('CountedDevice', () => {
  it('counts requests and bytes by operation, and how they failed', () => {
    const below = new HandDevice(SIZE_SECTORS);
    const counted = new CountedDevice(below);
    const requester = new Requester(64);
    const run = (op: BlockOp, sectorCount: number, status: BlockStatus) => {
      const request = requester.make(op, 0, sectorCount);
      counted.submit(request);
      below.end(request, status);
      expect(requester.statusOf(request)).toBe(status);
    };
    run(READ, 2, BlockStatus.ok);
    run(READ, 3, BlockStatus.ok);
    run(WRITE, 4, BlockStatus.ok);
    run(FLUSH, 0, BlockStatus.ok);
    run(TRIM, 8, BlockStatus.ok);
    run(WRITE, 1, BlockStatus.ioError);
    run(WRITE, 1, BlockStatus.noSpace);
    run(FLUSH, 0, BlockStatus.failed);
    run(WRITE, 1, BlockStatus.stale);
    run(WRITE, 1, BlockStatus.readOnly);
    run(READ, 1, BlockStatus.outOfRange);
    expect(counted.counters).toEqual({
      reads: 2,
      writes: 1,
      flushes: 1,
      trims: 1,
      readBytes: 5 * 512,
      writtenBytes: 4 * 512,
      failures: 3,
      stale: 1,
    });
  });
});

describe('BlockRequest', () => {
  it('moves its data once, and only when it lies elsewhere', () => {
    const requester = new Requester(2);
    const request = requester.makeWrite(0, 1, 0x5a);
    request.stashData();
    requester.loseRing();
    request.stashData();
    expect(request.data).toBe(request.stash);
    expect(request.data.bytes[request.dataOffset]).toBe(0x5a);
  });

  it('must have somebody to complete to', () => {
    const request = new BlockRequest(0, { bytes: Buffer.alloc(0), region: 0 }, 0);
    expect(() => request.complete(BlockStatus.ok)).toThrow('without a completer');
  });
});

describe('RequestPool', () => {
  it('hands each request out once, and none beyond its capacity', () => {
    const pool = new RequestPool(3, (index) => ({ index }));
    const taken = [pool.take(), pool.take(), pool.take()];
    expect(taken.map((request) => request?.index)).toEqual([0, 1, 2]);
    expect(pool.take()).toBeUndefined();
    expect([pool.capacity, pool.inFlight]).toEqual([3, 3]);
    pool.give(taken[1] as { index: number });
    expect(pool.inFlight).toBe(2);
    expect(pool.take()).toBe(taken[1]);
  });

  it('has room for the largest frame in each slot, with data at a sector but not at a page', () => {
    const { requestCount, requestSlotBytes, mtuMax } = Limits;
    for (const index of [0, 1, requestCount - 1]) {
      const data = slotOffset(index, requestSlotBytes);
      expect([data % 512, data % 4096]).toEqual([0, 512]);
      const next = slotOffset(index + 1, requestSlotBytes);
      expect(data + mtuMax).toBeLessThanOrEqual(next - Ata.headerSize);
    }
    const end = slotOffset(requestCount - 1, requestSlotBytes) + mtuMax;
    expect(end).toBeLessThanOrEqual(slabBytes(requestCount, requestSlotBytes));
  });
});

describe('errors', () => {
  it('carry the code that a status stands for', () => {
    expect(blockStatusName(BlockStatus.ok)).toBe('ok');
    expect(blockStatusName(BlockStatus.stale)).toBe('stale');
    const cause = new Error('below');
    const error = new BlockError('noSpace', 'the disk is full', { cause });
    expect(error).toMatchObject({ name: 'BlockError', code: 'noSpace', cause });
  });

  it('of the start carry a remedy', () => {
    expect(new StartupError('no', 'do this')).toMatchObject({ message: 'no', remedy: 'do this' });
  });
});
