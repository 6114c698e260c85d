import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { BlockOp, type BlockRequest } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import { CommittedDevice } from '../../src/core/committed-device.ts';
import { HandDevice, Requester } from './hand-device.ts';

const { read: READ, write: WRITE, flush: FLUSH, trim: TRIM } = BlockOp;
const FLUSH_INDEX = 1000;

/** Lets microtasks run: the group closes in one. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('CommittedDevice', () => {
  let below: HandDevice;
  let committed: CommittedDevice;
  let requester: Requester;
  let failedCount: number;

  beforeEach(() => open(false));

  function open(writeCache: boolean): void {
    failedCount = 0;
    below = new HandDevice(64);
    committed = new CommittedDevice(below, writeCache, FLUSH_INDEX, () => {
      failedCount += 1;
    });
    requester = new Requester(64);
  }

  function submit(op: BlockOp, sector = 0): BlockRequest {
    const request = requester.make(op, sector);
    committed.submit(request);
    return request;
  }

  const flushCount = () => below.pending.filter(({ op }) => op === FLUSH).length;

  it.each([false, true])(
    'makes durable on demand what has come back (write cache: %s)',
    async (writeCache) => {
      open(writeCache);
      below.end(submit(WRITE));
      await settle();
      if (!writeCache) below.endNext(FLUSH);
      expect(flushCount()).toBe(0);
      const flushed = committed.flush();
      await settle();
      expect(flushCount()).toBe(1);
      below.endNext(FLUSH);
      expect(await flushed).toBe(BlockStatus.ok);
      const failing = committed.flush();
      await settle();
      below.endNext(FLUSH, BlockStatus.ioError);
      expect(await failing).toBe(BlockStatus.ioError);
      expect(await committed.flush()).toBe(BlockStatus.failed);
    },
  );

  it('ends one flush on demand after the other, each with what came back before it', async () => {
    open(true);
    const ended: string[] = [];
    void committed.flush().then(() => ended.push('first'));
    await settle();
    const write = submit(WRITE);
    below.end(write);
    void committed.flush().then(() => ended.push('second'));
    void committed.close().then(() => ended.push('closed'));
    await settle();
    expect([flushCount(), ended]).toEqual([1, []]);
    below.endNext(FLUSH);
    await settle();
    expect([flushCount(), ended, below.closeCount]).toEqual([1, ['first'], 0]);
    below.endNext(FLUSH);
    await settle();
    expect([ended, below.closeCount]).toEqual([['first', 'second', 'closed'], 1]);
  });

  describe('without a write cache', () => {
    it('completes a write when a flush after it has succeeded', async () => {
      const write = submit(WRITE);
      committed.kick();
      expect(flushCount()).toBe(0);
      below.end(write);
      await settle();
      expect(requester.statusOf(write)).toBeUndefined();
      expect(flushCount()).toBe(1);
      below.endNext(FLUSH);
      expect(requester.statusOf(write)).toBe(BlockStatus.ok);
    });

    it('holds trims to the same rule', async () => {
      const trim = submit(TRIM);
      below.end(trim);
      await settle();
      expect(requester.statusOf(trim)).toBeUndefined();
      below.endNext(FLUSH);
      expect(requester.statusOf(trim)).toBe(BlockStatus.ok);
    });

    it('completes reads at once, without a flush', async () => {
      const read = submit(READ);
      below.end(read);
      await settle();
      expect(requester.statusOf(read)).toBe(BlockStatus.ok);
      expect(below.pending).toEqual([]);
    });

    it('lets writes that came back together share one flush', async () => {
      const writes = [submit(WRITE, 0), submit(WRITE, 1), submit(WRITE, 2)];
      for (const write of writes) below.end(write);
      await settle();
      expect(flushCount()).toBe(1);
      below.endNext(FLUSH);
      expect(requester.outcomes.map(({ request }) => request)).toEqual(writes);
      expect(committed.groups.distribution()).toMatchObject({ count: 1, sum: 3 });
    });

    it('commits in a kick what came back before it', () => {
      below.end(submit(WRITE));
      expect(flushCount()).toBe(0);
      committed.kick();
      expect(flushCount()).toBe(1);
    });

    it('gives a write that came back during a flush another flush', async () => {
      const first = submit(WRITE, 0);
      const second = submit(WRITE, 1);
      below.end(first);
      await settle();
      below.end(second);
      await settle();
      expect(flushCount()).toBe(1);
      below.endNext(FLUSH);
      expect(requester.statusOf(first)).toBe(BlockStatus.ok);
      expect(requester.statusOf(second)).toBeUndefined();
      await settle();
      expect(flushCount()).toBe(1);
      below.endNext(FLUSH);
      expect(requester.statusOf(second)).toBe(BlockStatus.ok);
    });

    it('hands a failed write up at once, and lets others succeed', async () => {
      const bad = submit(WRITE, 0);
      const good = submit(WRITE, 1);
      below.end(bad, BlockStatus.noSpace);
      below.end(good);
      expect(requester.statusOf(bad)).toBe(BlockStatus.noSpace);
      await settle();
      below.endNext(FLUSH);
      expect(requester.statusOf(good)).toBe(BlockStatus.ok);
      expect(committed.failed).toBe(false);
    });

    it('answers a flush by a flush that started after it', async () => {
      below.end(submit(WRITE));
      await settle();
      const flush = submit(FLUSH);
      committed.kick();
      below.endNext(FLUSH);
      expect(requester.statusOf(flush)).toBeUndefined();
      await settle();
      below.endNext(FLUSH);
      expect(requester.statusOf(flush)).toBe(BlockStatus.ok);
    });
  });

  describe('above a device that executes in order', () => {
    beforeEach(() => {
      below.inOrder = true;
    });

    it('lets a lone write take its flush along', async () => {
      const write = submit(WRITE);
      committed.kick();
      expect(below.pending.map(({ op }) => op)).toEqual([WRITE, FLUSH]);
      below.end(write);
      await settle();
      expect(requester.statusOf(write)).toBeUndefined();
      below.endNext(FLUSH);
      expect(requester.statusOf(write)).toBe(BlockStatus.ok);
      expect(below.pending).toEqual([]);
      expect(committed.groups.distribution()).toMatchObject({ count: 1, sum: 1 });
    });

    it('gathers writes that come together, as above any other', async () => {
      const writes = [submit(WRITE, 0), submit(WRITE, 1)];
      committed.kick();
      expect(flushCount()).toBe(0);
      below.end(writes[1] as BlockRequest);
      committed.kick();
      expect(flushCount()).toBe(1);
      below.end(writes[0] as BlockRequest);
      below.endNext(FLUSH);
      expect(requester.statusOf(writes[0] as BlockRequest)).toBeUndefined();
    });

    it('lets no lone write go before those that wait for a flush', () => {
      const waiting = submit(WRITE, 0);
      below.end(waiting);
      const lone = submit(WRITE, 1);
      committed.kick();
      below.endNext(FLUSH);
      expect(below.pending).toEqual([lone]);
      expect(requester.statusOf(waiting)).toBe(BlockStatus.ok);
    });

    it('gives a write that follows the flush another one', async () => {
      const first = submit(WRITE, 0);
      committed.kick();
      const second = submit(WRITE, 1);
      committed.kick();
      below.end(first);
      below.end(second);
      below.endNext(FLUSH);
      expect(requester.statusOf(first)).toBe(BlockStatus.ok);
      expect(requester.statusOf(second)).toBeUndefined();
    });

    it('covers no request that is used again after its write failed', async () => {
      const write = submit(WRITE);
      committed.kick();
      below.end(write, BlockStatus.noSpace);
      expect(requester.statusOf(write)).toBe(BlockStatus.noSpace);
      const before = requester.outcomes.length;
      committed.submit(write);
      below.end(write);
      below.endNext(FLUSH);
      expect(requester.outcomes).toHaveLength(before);
    });

    it('takes no flush along for a request that was a write before', async () => {
      const request = submit(WRITE);
      below.end(request);
      await settle();
      below.endNext(FLUSH);
      request.op = READ;
      committed.submit(request);
      committed.kick();
      expect(below.pending).toEqual([request]);
    });

    it('fails the write when the flush fails', async () => {
      const write = submit(WRITE);
      committed.kick();
      below.end(write);
      below.endNext(FLUSH, BlockStatus.ioError);
      expect(requester.statusOf(write)).toBe(BlockStatus.ioError);
      expect(committed.failed).toBe(true);
    });
  });

  describe('with a write cache', () => {
    beforeEach(() => open(true));

    it('completes writes without a flush', async () => {
      const write = submit(WRITE);
      below.end(write);
      await settle();
      expect(requester.statusOf(write)).toBe(BlockStatus.ok);
      expect(below.pending).toEqual([]);
    });

    it('completes a lone write without one, too, above a device that executes in order', () => {
      below.inOrder = true;
      const write = submit(WRITE);
      committed.kick();
      expect(below.pending).toEqual([write]);
      below.end(write);
      expect(requester.statusOf(write)).toBe(BlockStatus.ok);
    });

    it('still answers a flush only when it is durable', async () => {
      const flush = submit(FLUSH);
      committed.kick();
      expect(requester.statusOf(flush)).toBeUndefined();
      below.endNext(FLUSH);
      expect(requester.statusOf(flush)).toBe(BlockStatus.ok);
    });

    it('makes writes durable that come back after it was switched off', async () => {
      const write = submit(WRITE);
      committed.writeCache = false;
      below.end(write);
      await settle();
      expect(requester.statusOf(write)).toBeUndefined();
      below.endNext(FLUSH);
      expect(requester.statusOf(write)).toBe(BlockStatus.ok);
    });

    it('says that a write is lost which came back after a flush failed', () => {
      const write = submit(WRITE);
      submit(FLUSH);
      committed.kick();
      below.endNext(FLUSH, BlockStatus.ioError);
      below.end(write);
      expect(requester.statusOf(write)).toBe(BlockStatus.failed);
    });
  });

  describe('after a flush that failed', () => {
    async function fail(): Promise<BlockRequest[]> {
      const covered = submit(WRITE, 0);
      below.end(covered);
      await settle();
      const waiting = submit(WRITE, 1);
      const below2 = submit(WRITE, 2);
      below.end(waiting);
      below.endNext(FLUSH, BlockStatus.ioError);
      return [covered, waiting, below2];
    }

    it('fails the writes that it covered, and those that wait for the next', async () => {
      const [covered, waiting, onTheWay] = (await fail()) as [
        BlockRequest,
        BlockRequest,
        BlockRequest,
      ];
      expect(requester.statusOf(covered)).toBe(BlockStatus.ioError);
      expect(requester.statusOf(waiting)).toBe(BlockStatus.failed);
      below.end(onTheWay);
      expect(requester.statusOf(onTheWay)).toBe(BlockStatus.failed);
    });

    it('lets no write, trim or flush succeed, and does not try', async () => {
      await fail();
      below.endNext(WRITE);
      for (const op of [WRITE, TRIM, FLUSH]) {
        expect(requester.statusOf(submit(op))).toBe(BlockStatus.failed);
      }
      committed.kick();
      await settle();
      expect(below.pending).toEqual([]);
    });

    it('takes no write of whoever is told of it', async () => {
      const write = requester.make(WRITE, 0);
      let next = write;
      write.completer = {
        completed: () => {
          next = submit(WRITE, 1);
        },
      };
      committed.submit(write);
      below.end(write);
      await settle();
      below.endNext(FLUSH, BlockStatus.ioError);
      expect(requester.statusOf(next)).toBe(BlockStatus.failed);
      expect(below.pending).toEqual([]);
    });

    it('lets no write on the way take a flush along', async () => {
      below.inOrder = true;
      below.end(submit(WRITE, 0));
      await settle();
      const onTheWay = submit(WRITE, 1);
      below.endNext(FLUSH, BlockStatus.ioError);
      committed.kick();
      expect(below.pending).toEqual([onTheWay]);
      below.end(onTheWay);
      expect(requester.statusOf(onTheWay)).toBe(BlockStatus.failed);
    });

    it('can still be read', async () => {
      await fail();
      const read = submit(READ);
      below.end(read);
      expect(requester.statusOf(read)).toBe(BlockStatus.ok);
    });

    it('hands up what a write on the way failed of', async () => {
      const [, , onTheWay] = await fail();
      below.end(onTheWay as BlockRequest, BlockStatus.noSpace);
      expect(requester.statusOf(onTheWay as BlockRequest)).toBe(BlockStatus.noSpace);
    });

    it('says so, once', async () => {
      expect(committed.failed).toBe(false);
      await fail();
      expect(committed.failed).toBe(true);
      expect(failedCount).toBe(1);
    });
  });

  it.each([false, true])(
    'never completes a write before a flush that covers it (device in order: %s)',
    async (inOrder) => {
      const steps = fc.array(stepArbitrary, { maxLength: 60 });
      await fc.assert(fc.asyncProperty(steps, (taken) => checkCommits(taken, inOrder)));
    },
  );
});

type Step = 'write' | 'flush' | 'kick' | 'turn' | { end: number; fails: boolean };

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<Step>('write', 'flush', 'kick', 'turn') },
  {
    weight: 4,
    arbitrary: fc.record({
      end: fc.nat(20),
      fails: fc.nat(30).map((chance) => chance === 0),
    }),
  },
);

/**
 * Counts flushes: one that is the n-th to start covers what came back before, so a write that came
 * back after n starts may complete only when a later one has succeeded. Of a device that executes
 * in order, a flush covers what was submitted before.
 */
async function checkCommits(steps: readonly Step[], inOrder: boolean): Promise<void> {
  const below = new WatchedDevice(64);
  below.inOrder = inOrder;
  const committed = new CommittedDevice(below, false, FLUSH_INDEX, () => {});
  const requester = new Requester(steps.length);
  /** How many flushes had started when the write came back, or the flush was asked for. */
  const needs = new Map<BlockRequest, number>();
  let failed = false;
  let checked = 0;
  const check = () => {
    for (const { request, status } of requester.outcomes.slice(checked)) {
      if (status !== BlockStatus.ok) continue;
      expect(failed).toBe(false);
      expect(below.lastSucceeded).toBeGreaterThan(needs.get(request) as number);
    }
    checked = requester.outcomes.length;
  };
  for (const step of steps) {
    if (step === 'write' || step === 'flush') {
      const request = requester.make(step === 'write' ? WRITE : FLUSH);
      if (step === 'flush' || inOrder) needs.set(request, below.startedCount);
      committed.submit(request);
    } else if (step === 'kick') {
      committed.kick();
    } else if (step === 'turn') {
      await Promise.resolve();
    } else {
      const place = step.end % below.pending.length;
      const request = below.pending[place];
      if (request === undefined) continue;
      if (request.op === WRITE && !inOrder) needs.set(request, below.startedCount);
      // Ends those before it first, of which none is a flush: there is one at a time.
      if (request.op === FLUSH && inOrder) {
        for (const earlier of below.pending.slice(0, place)) below.end(earlier);
      }
      const isFlush = request.op === FLUSH;
      if (isFlush && !step.fails) below.lastSucceeded = below.startedCount;
      const before = failed;
      // Writes that the failed flush covered may complete, but with an error.
      failed ||= isFlush && step.fails;
      below.end(request, step.fails ? BlockStatus.ioError : BlockStatus.ok);
      expect(committed.failed).toBe(before || failed);
    }
    expect(below.pending.filter(({ op }) => op === FLUSH).length).toBeLessThanOrEqual(1);
    check();
  }
  while (below.pending.length > 0 || requester.outcomes.length < needs.size) {
    for (const request of [...below.pending]) {
      if (request.op === FLUSH) below.lastSucceeded = below.startedCount;
      else if (!inOrder) needs.set(request, below.startedCount);
      below.end(request);
    }
    await settle();
    check();
  }
  const submittedCount = steps.filter((step) => step === 'write' || step === 'flush').length;
  expect(requester.outcomes).toHaveLength(submittedCount);
}

class WatchedDevice extends HandDevice {
  /** Flushes that came down. */
  startedCount = 0;
  /** Which of them was the last to succeed, from 1 on. */
  lastSucceeded = 0;

  override submit(request: BlockRequest): void {
    if (request.op === FLUSH) this.startedCount += 1;
    super.submit(request);
  }
}
