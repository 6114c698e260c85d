import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { BlockOp, type BlockRequest, SECTOR_SIZE } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import { Limits } from '../../src/core/limits.ts';
import { OrderedDevice } from '../../src/core/ordered-device.ts';
import { dataOf, HandDevice, Requester } from './hand-device.ts';

const { read: READ, write: WRITE, flush: FLUSH, trim: TRIM } = BlockOp;
const NOW_US = 1_800_000_000_000_000;

describe('OrderedDevice', () => {
  let below: HandDevice;
  let ordered: OrderedDevice;
  let requester: Requester;

  beforeEach(() => {
    below = new HandDevice(4096);
    ordered = new OrderedDevice(below);
    requester = new Requester(300);
  });

  function submit(op: BlockOp, sector: number, sectorCount = 1, arrivalUs = 0): BlockRequest {
    const request = requester.make(op, sector, sectorCount, arrivalUs);
    ordered.submit(request);
    return request;
  }

  function write(sector: number, sectorCount = 1, fill = 1, arrivalUs = 0): BlockRequest {
    const request = requester.makeWrite(sector, sectorCount, fill, arrivalUs);
    ordered.submit(request);
    return request;
  }

  function submitParts(...parts: [sector: number, sectorCount: number][]): BlockRequest {
    const [start] = parts[0] as [number, number];
    const [last, lastCount] = parts.at(-1) as [number, number];
    const request = requester.make(TRIM, start, last + lastCount - start);
    request.nextPart = () => {
      const part = parts.shift();
      if (part === undefined) return false;
      [request.offset, request.length] = [part[0] * SECTOR_SIZE, part[1] * SECTOR_SIZE];
      return true;
    };
    ordered.submit(request);
    return request;
  }

  it('takes nothing that arrived before it began', () => {
    ordered = new OrderedDevice(below, NOW_US);
    expect(requester.statusOf(write(0, 1, 1, NOW_US - 1))).toBe(BlockStatus.stale);
    expect(below.pending).toEqual([]);
    const [read, late] = [submit(READ, 1, 1, NOW_US - 1), write(0, 1, 2, NOW_US + 1)];
    expect(below.pending).toEqual([read, late]);
  });

  describe('requests that do not conflict', () => {
    it('lets requests of different sectors run side by side', () => {
      const all = [write(0), write(1), submit(READ, 2), submit(TRIM, 3), write(8, 8)];
      expect(below.pending).toEqual(all);
    });

    it('lets reads of the same sectors run side by side', () => {
      const all = [submit(READ, 0, 8), submit(READ, 0, 8), submit(READ, 4, 1)];
      expect(below.pending).toEqual(all);
    });

    it('tells sectors of one page apart', () => {
      const all = [write(0), write(1), submit(READ, 2)];
      expect(below.pending).toEqual(all);
    });

    it('tells ranges apart that share a bucket of the table', () => {
      const tableSectors = (1 << 14) * 8;
      const all = [write(0), write(tableSectors), submit(READ, 2 * tableSectors)];
      expect(below.pending).toEqual(all);
    });

    it('lets what a request of several parts does not reach run beside it', () => {
      const trim = submitParts([10, 1], [30, 2]);
      expect(below.pending).toEqual([trim, write(9), write(32)]);
    });

    it('lets a flush pass', () => {
      const first = write(0);
      expect(below.pending).toEqual([first, submit(FLUSH, 0)]);
    });
  });

  describe('requests that conflict', () => {
    it.each([
      ['write', 'write', WRITE, WRITE],
      ['write', 'read', WRITE, READ],
      ['read', 'write', READ, WRITE],
      ['trim', 'read', TRIM, READ],
      ['read', 'trim', READ, TRIM],
      ['trim', 'write', TRIM, WRITE],
    ] as const)('lets a %s go before a later %s of the same sector', (_a, _b, first, second) => {
      const earlier = submit(first, 5, 2);
      const later = submit(second, 6, 2);
      expect(below.pending).toEqual([earlier]);
      below.end(earlier);
      expect(below.pending).toEqual([later]);
      below.end(later);
      expect(requester.outcomes.map(({ request }) => request)).toEqual([earlier, later]);
    });

    it('does not let a request overtake a waiting one that it conflicts with', () => {
      const first = write(0, 2);
      const waiting = write(1, 2);
      const third = write(2, 2);
      const free = write(8);
      expect(below.pending).toEqual([first, free]);
      below.end(first);
      expect(below.pending).toEqual([free, waiting]);
      below.end(waiting);
      expect(below.pending).toEqual([free, third]);
    });

    it('lets all start at once that waited for one', () => {
      const first = write(0, 8);
      const reads = [submit(READ, 0), submit(READ, 3), submit(READ, 0, 8)];
      below.end(first);
      expect(below.pending).toEqual(reads);
    });

    it('goes on after a request that failed', () => {
      const first = write(0);
      const second = write(0);
      below.end(first, BlockStatus.ioError);
      expect(requester.statusOf(first)).toBe(BlockStatus.ioError);
      expect(below.pending).toEqual([second]);
    });

    it('knows those that run, in whatever order others end', () => {
      const [first, second, third] = [write(0), write(1), write(2)];
      for (const request of [first, third]) below.end(request);
      const next = write(1);
      expect(below.pending).toEqual([second]);
      below.end(second);
      expect(below.pending).toEqual([next]);
    });

    it('keeps the data of a write that waits, whatever becomes of the receive ring', () => {
      const first = write(0, 1, 0x11);
      const second = write(0, 1, 0x22);
      requester.loseRing();
      expect(dataOf(second)).toEqual(Buffer.alloc(SECTOR_SIZE, 0x22));
      expect(first.data).toBe(requester.ring);
    });

    it('keeps the range of a request of several parts until the last is done', () => {
      const trim = submitParts([10, 1], [30, 2]);
      const [inside, between] = [write(31), submit(READ, 20)];
      expect(below.pending).toEqual([trim]);
      expect([trim.offset, trim.length]).toEqual([10 * SECTOR_SIZE, SECTOR_SIZE]);
      below.end(trim);
      expect(below.pending).toEqual([trim]);
      expect([trim.offset, trim.length]).toEqual([30 * SECTOR_SIZE, 2 * SECTOR_SIZE]);
      below.end(trim);
      expect(below.pending).toEqual([inside, between]);
      expect([trim.offset, trim.length]).toEqual([10 * SECTOR_SIZE, 22 * SECTOR_SIZE]);
      expect(requester.statusOf(trim)).toBe(BlockStatus.ok);
    });

    it('ends a request of several parts with the first that fails', () => {
      const trim = submitParts([10, 1], [30, 2]);
      below.end(trim, BlockStatus.ioError);
      expect(below.pending).toEqual([]);
      expect(requester.statusOf(trim)).toBe(BlockStatus.ioError);
    });

    it('finds a conflict where its table begins anew', () => {
      const tableSectors = 2 ** 26 / SECTOR_SIZE;
      const first = write(tableSectors - 8, 16);
      submit(READ, tableSectors);
      expect(below.pending).toEqual([first]);
    });

    it('finds a conflict with a trim that is wider than the table counts', () => {
      const trim = submit(TRIM, 0, 2048);
      const inside = write(2047);
      const outside = write(2048);
      expect(below.pending).toEqual([trim, outside]);
      below.end(trim);
      expect(below.pending).toEqual([outside, inside]);
      const wide = submit(TRIM, 1000, 3000);
      expect(below.pending).toEqual([outside, inside]);
      below.end(outside);
      below.end(inside);
      expect(below.pending).toEqual([wide]);
    });
  });

  describe('writes that come late', () => {
    it('does not execute a write that arrived before one that was let through', () => {
      below.end(write(0, 2, 1, NOW_US - 100));
      const late = write(1, 1, 2, NOW_US - 200);
      expect(requester.statusOf(late)).toBe(BlockStatus.stale);
      expect(below.pending).toEqual([]);
      const trim = submit(TRIM, 0, 1, NOW_US - 101);
      expect(requester.statusOf(trim)).toBe(BlockStatus.stale);
    });

    it('executes late reads, late writes elsewhere, and writes of the same moment', () => {
      below.end(write(0, 8, 1, NOW_US - 100));
      const all = [
        submit(READ, 0, 8, NOW_US - 200),
        write(8, 8, 1, NOW_US - 200),
        write(1 << 15, 8, 1, NOW_US - 200),
        write(16, 8, 1, NOW_US - 100),
      ];
      expect(below.pending).toEqual(all);
    });

    it('remembers a write that waits as let through', () => {
      write(0, 1, 1, NOW_US - 300);
      write(0, 1, 2, NOW_US - 100);
      expect(requester.statusOf(write(0, 1, 3, NOW_US - 200))).toBe(BlockStatus.stale);
    });

    it('judges each sector of a page by itself', () => {
      const all = [0, 2, 1, 3].map((lba, index) => write(lba, 1, 1, NOW_US - 100 * lba - index));
      expect(below.pending).toEqual(all);
    });

    it('does not execute the oldest that is taken up, whose age is rounded down', () => {
      below.end(write(0, 1, 1, NOW_US + 999));
      const late = write(0, 1, 2, NOW_US - Limits.frameAgeMsMax * 1000);
      expect(requester.statusOf(late)).toBe(BlockStatus.stale);
    });

    it('executes writes after the clock was set back', () => {
      below.end(write(0, 1, 1, NOW_US));
      const after = write(0, 1, 2, NOW_US - (Limits.frameAgeMsMax + 1) * 1000);
      expect(below.pending).toEqual([after]);
    });

    it('knows no age of requests that no clock has stamped', () => {
      below.end(write(0, 1, 1, NOW_US));
      const own = write(0, 1, 2, 0);
      expect(below.pending).toEqual([own]);
    });
  });

  it('hands on size, capabilities, kick, refresh and close', async () => {
    below.grown = true;
    ordered.kick();
    await ordered.close();
    expect(ordered.refresh()).toBe(true);
    expect(ordered.sizeBytes).toBe(below.sizeBytes);
    expect(ordered.capabilities).toBe(below.capabilities);
    expect([below.kickCount, below.closeCount]).toEqual([1, 1]);
  });

  it('is like one request after the other, in whatever order the storage ends them', () => {
    fc.assert(fc.property(fc.array(stepArbitrary, { maxLength: 120 }), checkOrder));
  });

  it('is so with trims wider than its table, too', () => {
    const wide = fc.record({
      op: fc.constant(TRIM),
      sector: fc.nat(40),
      sectorCount: fc.integer({ min: 513, max: 600 }),
    });
    const step = fc.oneof({ weight: 5, arbitrary: stepArbitrary }, wide);
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), checkOrder));
  });
});

interface Submission {
  readonly op: BlockOp;
  readonly sector: number;
  readonly sectorCount: number;
}
/** Submits a request, ends one of those with the device, or ends a batch. */
type Step = Submission | { readonly end: number } | 'batch';

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom(READ, WRITE, WRITE, TRIM),
      sector: fc.nat(24),
      sectorCount: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ end: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.constant('batch' as const) },
);

/** Runs `steps` on a device, and on a model that executes each request when it arrives. */
function checkOrder(steps: readonly Step[]): void {
  const below = new HandDevice(1024);
  const ordered = new OrderedDevice(below);
  const requester = new Requester(steps.length);
  const model = Buffer.alloc(below.sizeBytes);
  const expectedReads = new Map<BlockRequest, Buffer>();
  let submittedCount = 0;
  const end = (choice: number) => {
    const request = below.pending[choice % below.pending.length];
    if (request !== undefined) below.end(request);
  };
  for (const step of steps) {
    if (step === 'batch') {
      ordered.kick();
      requester.loseRing();
    } else if ('end' in step) {
      end(step.end);
    } else {
      submittedCount += 1;
      // Each write has the ring for itself: the one before it is already written or kept.
      ordered.kick();
      const { op, sector, sectorCount } = step;
      const request =
        op === WRITE
          ? requester.makeWrite(sector, sectorCount, submittedCount)
          : requester.make(op, sector, sectorCount);
      const { offset, length } = request;
      if (op === READ)
        expectedReads.set(request, Buffer.from(model.subarray(offset, offset + length)));
      else model.fill(op === TRIM ? 0 : submittedCount, offset, offset + length);
      ordered.submit(request);
    }
    expectNoConflict(below.pending);
  }
  ordered.kick();
  requester.loseRing();
  while (below.pending.length > 0) end(submittedCount * 7);
  expect(requester.outcomes).toHaveLength(submittedCount);
  for (const [request, data] of expectedReads) expect(dataOf(request).equals(data)).toBe(true);
  expect(below.disk.equals(model)).toBe(true);
}

function expectNoConflict(running: readonly BlockRequest[]): void {
  for (const [index, a] of running.entries()) {
    for (const b of running.slice(0, index)) {
      const overlap = a.offset < b.offset + b.length && b.offset < a.offset + a.length;
      expect(overlap && (a.op !== READ || b.op !== READ)).toBe(false);
    }
  }
}
