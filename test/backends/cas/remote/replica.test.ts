import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BlobExistsError } from '../../../../src/backends/cas/blob-store.ts';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { FencedError, Journal, partName } from '../../../../src/backends/cas/remote/journal.ts';
import type { Segment } from '../../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { CrashWalk, type DiskState, SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf } from '../tiny-store.ts';
import {
  BLOCK_COUNT,
  openRemote,
  openVolume,
  ownerOf,
  readSeeds,
  recoverSeeds,
} from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

interface History {
  /** The seeds of all blocks after each flush. */
  readonly states: number[][];
  /** For each flush, how many changes of blobs there had been when it was confirmed. */
  readonly confirmedAt: number[];
}

/** Writes, flushes, makes checkpoints and collects, as a random number says. */
async function work(
  store: CasStore,
  blobs: TraceBlobs,
  steps: number,
  seed: number,
  collectShare = 0.1,
): Promise<History> {
  const random = seededRandom(seed);
  const client = await openVolume(store);
  const seeds = await readSeeds(store);
  const history: History = { states: [[...seeds]], confirmedAt: [0] };
  for (let step = 1; step <= steps; step++) {
    const lba = Math.floor(random() * BLOCK_COUNT);
    seeds[lba] = seed * 1000 + step;
    await client.write(lba * BLOCK_SIZE, blockOf(seeds[lba]));
    await client.flush();
    history.states.push([...seeds]);
    history.confirmedAt.push(blobs.trace.length);
    if (random() < 0.1) await store.checkpoint();
    if (random() < collectShare) await collect(store, { liveMax: 0.8 });
  }
  return history;
}

/** What power cuts leave on a disk at the marks in its trace, when all that was not synced is lost. */
function crashStates(files: SimFs): { readonly disk: DiskState; readonly mark: number }[] {
  const walk = new CrashWalk(files.base, seededRandom(1));
  const states: { disk: DiskState; mark: number }[] = [];
  for (const entry of files.trace) {
    if (entry.op === 'mark') states.push({ disk: walk.crash('none'), mark: entry.value as number });
    walk.step(entry);
  }
  return states;
}

/** Of a record with one block that does not compress. */
const RECORD_BYTES = 8192;

/** Damages the block in the last record of the log. */
function damageLast({ log, segments }: CasStore, files: SimFs): void {
  const { segment, offset } = log.durable;
  files.contentOf(segments.pathOf(segment)).fill(1, offset - 7000, offset - 6000);
}

/** Is all of the durable log in the blobs? */
async function stored({ log }: CasStore, blobs: TraceBlobs): Promise<boolean> {
  const { segments } = (await Journal.read(blobs)).image;
  return segments.get(log.durable.segment)?.at(-1)?.[1] === log.durable.offset;
}

/** The name and content of the journal's last entry. */
function lastEntry({ blobs }: TraceBlobs): [string, Uint8Array] {
  const names = [...blobs.keys()].filter((name) => name.startsWith('journal-')).sort();
  const name = names.at(-1) as string;
  return [name, blobs.get(name) as Uint8Array];
}

/** The disk as `cp -a` copies it. */
function copyOf(files: SimFs): SimFs {
  const walk = new CrashWalk(files.base, seededRandom(1));
  for (const entry of files.trace) walk.step(entry);
  return new SimFs(walk.crash('all'));
}

describe('a store that is kept in blobs', () => {
  it('comes back whole when it was closed and its disk is lost', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs);
    const client = await openVolume(store);
    await client.write(0, blocksOf(1, 8));
    await store.snapshot('v', 's');
    await client.write(0, blocksOf(100, 4));
    await store.close();

    const again = await openRemote(new SimFs(), blobs);
    expect((await readSeeds(again)).slice(0, 9)).toEqual([100, 101, 102, 103, 5, 6, 7, 8, 0]);
    expect(again.snapshots.map(({ name }) => name)).toEqual(['s']);
    await again.close();
  });

  it('comes back to a flush, at whatever moment its disk is lost', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayBytes: 1 });
    const { states } = await work(store, blobs, 60, 1);
    await store.close();
    const known = new Map(states.map((state, index) => [state.join(), index]));
    const empty = Array.from({ length: BLOCK_COUNT }, () => 0).join();
    let newest = 0;
    for (let count = 0; count <= blobs.trace.length; count++) {
      const found = (await recoverSeeds(blobs.before(count))).join();
      const index = found === empty ? 0 : known.get(found);
      expect(index, `after ${count} changes`).toBeGreaterThanOrEqual(newest);
      newest = index as number;
    }
    expect(newest).toBe(states.length - 1);
  });

  it('loses no confirmed flush with its disk when flushes wait for the blobs', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const { states, confirmedAt } = await work(store, blobs, 60, 2);
    await store.close();
    for (const [flush, count] of confirmedAt.entries()) {
      if (count === 0) continue;
      expect(await recoverSeeds(blobs.before(count))).toEqual(states[flush]);
    }
  });

  it('never has more in the blobs than a power cut leaves on the disk', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayBytes: 1 });
    blobs.onChange = (count) => files.mark(count);
    const client = await openVolume(store);
    for (let step = 0; step < 40; step++) {
      // More than a record holds, so some of it is written before the flush syncs it.
      await client.write((step % 3) * 4 * BLOCK_SIZE, blocksOf(step * 10 + 2, 10));
      await delay(1);
      if (step % 3 === 0) await client.flush();
      if (step % 7 === 0) await store.checkpoint();
    }
    await store.close();
    for (const { disk, mark } of crashStates(files)) {
      const past = blobs.before(mark);
      const again = await openRemote(new SimFs(disk), past);
      const found = await readSeeds(again);
      await again.close();
      expect(await recoverSeeds(past), `after ${mark} changes`).toEqual(found);
    }
  });

  it('goes on over failures, lost answers and restarts', async () => {
    const blobs = new TraceBlobs();
    const random = seededRandom(3);
    const files = new SimFs();
    let troubles = 0;
    const remote = { durability: 'remote', onTrouble: () => troubles++ } as const;
    for (let life = 1; life <= 4; life++) {
      const store = await openRemote(files, blobs, remote);
      blobs.fail = () => (random() < 0.1 ? (random() < 0.5 ? 'before' : 'after') : undefined);
      const { states } = await work(store, blobs, 12, life + 3);
      blobs.fail = () => undefined;
      await abandon(store);
      expect(await recoverSeeds(blobs.before(blobs.trace.length))).toEqual(states.at(-1));
    }
    expect(troubles).toBeGreaterThan(0);
  });

  it('lets a collection go on while blobs are slow', async () => {
    const blobs = new TraceBlobs();
    const troubles: Error[] = [];
    const onTrouble = (error: Error) => troubles.push(error);
    const store = await openRemote(new SimFs(), blobs, { delayBytes: 1, onTrouble });
    blobs.pause = () => delay(10);
    const { states } = await work(store, blobs, 120, 8, 0.5);
    await store.close();
    expect(troubles).toEqual([]);
    expect(await recoverSeeds(blobs)).toEqual(states.at(-1));
  });

  it('stores what became durable while a round ran, without another write', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 20 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await expect.poll(() => client.flush().then(() => stored(store, blobs))).toBe(true);
    // In the log, and not durable when the round begins that is to store it.
    const { file } = store.log.segment as Segment;
    const write = file.write.bind(file);
    file.write = (...record) => delay(100).then(() => write(...record));
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    await expect.poll(() => stored(store, blobs)).toBe(true);
    await store.close();
  });

  it('does nothing any more when it is closed with a log that never became durable', async () => {
    const files = new SimFs();
    const troubles: Error[] = [];
    const onTrouble = (error: Error) => troubles.push(error);
    const store = await openRemote(files, new TraceBlobs(), { delayMs: 20, onTrouble });
    const client = await openVolume(store);
    files.fault = (op) => (op === 'write' ? 'EIO' : undefined);
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    await delay(100);
    expect(troubles).toEqual([]);
  });

  it('tells that the blob store does not answer, until it does', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 1 });
    const client = await openVolume(store);
    blobs.fail = () => 'before';
    await client.write(0, blockOf(2));
    await client.flush();
    await expect.poll(() => store.replica?.unreachable?.message).toBe('the connection was refused');
    expect(store.replica?.damage).toBeUndefined();
    expect(store.replica?.lagBytes).toBeGreaterThan(BLOCK_SIZE);
    blobs.fail = () => undefined;
    await expect.poll(() => store.replica).toMatchObject({ lagBytes: 0, unreachable: undefined });
    await store.close();
  });

  it('lets flushes wait when too much of the log is on the disk only', async () => {
    const blobs = new TraceBlobs();
    const lags: boolean[] = [];
    const store = await openRemote(new SimFs(), blobs, {
      lagBytesMax: 64 << 10,
      onLag: (isWaiting) => lags.push(isWaiting),
    });
    const client = await openVolume(store);
    blobs.fail = () => 'before';
    let confirmed = 0;
    const writing = (async () => {
      for (let step = 1; step <= 40; step++) {
        await client.write((step % BLOCK_COUNT) * BLOCK_SIZE, blockOf(2 * step));
        await client.flush();
        confirmed = step;
      }
    })();
    await expect.poll(() => lags).toEqual([true]);
    await delay(50);
    expect(confirmed).toBeGreaterThan(4);
    expect(confirmed).toBeLessThan(12);
    blobs.fail = () => undefined;
    await writing;
    await store.close();
    expect(lags.slice(0, 2)).toEqual([true, false]);
    expect((await recoverSeeds(blobs))[BLOCK_COUNT - 1]).toBe(2 * (BLOCK_COUNT - 1));
  });

  it('removes from the blobs what a collection freed, and what an interruption left', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs);
    const client = await openVolume(store);
    for (let round = 0; round < 12; round++) {
      await client.write(0, blocksOf(round * 100 + 2, 16, 2));
      await client.flush();
    }
    await store.checkpoint();
    await collect(store, { liveMax: 0.8 });
    await store.close();
    await blobs.put('segment-left-behind', Uint8Array.of(1));
    await (await openRemote(files, blobs)).close();
    const sizeBytes = [...blobs.blobs.values()].reduce((sum, { length }) => sum + length, 0);
    expect([...blobs.blobs.keys()]).not.toContain('segment-left-behind');
    expect(sizeBytes).toBeLessThan(12 * 16 * BLOCK_SIZE);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([1102, 1104]);
  });
});

describe('parts that nothing names any more', () => {
  /** Names of parts, and those of them that the journal names. */
  async function namesOf(blobs: TraceBlobs) {
    const there = [...blobs.blobs.keys()].filter((name) => name.startsWith('segment-'));
    const { segments } = (await Journal.read(blobs)).image;
    const named = [...segments].flatMap(([number, parts]) =>
      parts.map((part) => partName(number, part)),
    );
    return { there: there.sort(), named: named.sort() };
  }

  async function expectTidy(blobs: TraceBlobs): Promise<void> {
    await expect
      .poll(async () => {
        const { there, named } = await namesOf(blobs);
        return there.filter((name) => !named.includes(name));
      })
      .toEqual([]);
  }

  it('are removed later when that fails, and nobody waits for it', async () => {
    const blobs = new TraceBlobs();
    const troubles: string[] = [];
    const onTrouble = ({ message }: Error) => troubles.push(message);
    const remote = { durability: 'remote', onTrouble } as const;
    const files = new SimFs();
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    blobs.fail = ({ op }) => (op === 'delete' ? 'before' : undefined);
    for (let step = 1; step <= 5; step++) {
      await client.write(0, blockOf(step));
      await client.flush();
    }
    const { there, named } = await namesOf(blobs);
    expect(there.length).toBeGreaterThan(named.length);
    expect(troubles).toEqual(['obsolete blobs cannot be removed: the connection was refused']);
    blobs.fail = () => undefined;
    await client.write(0, blockOf(6));
    await client.flush();
    await expectTidy(blobs);
    await abandon(store);
  });

  it('are removed when no entry ever named them', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    // The round fails after all of its attempts, and the next one has more to store.
    blobs.fail = ({ name }) => (name.startsWith('journal-') ? 'before' : undefined);
    await client.write(0, blockOf(2));
    const flushes = [client.flush()];
    await client.write(BLOCK_SIZE, blockOf(4));
    flushes.push(client.flush());
    await expect.poll(() => store.replica?.unreachable, { timeout: 6000 }).toBeDefined();
    blobs.fail = () => undefined;
    await Promise.all(flushes);
    await expectTidy(blobs);
    await abandon(store);
  });

  it('do not keep a store from being opened when they cannot be removed', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    await blobs.put('segment-00000001-00000001-00000000-00000064', Uint8Array.of(1));
    blobs.fail = ({ op }) => (op === 'delete' ? 'before' : undefined);
    await (await openRemote(files, blobs)).close();
    blobs.fail = () => undefined;
    await (await openRemote(files, blobs)).close();
    await expectTidy(blobs);
  });

  it('are not those of a server that has taken over', async () => {
    const blobs = new TraceBlobs();
    const later = 'segment-00000001-00000002-00000000-00000064';
    await blobs.put(later, Uint8Array.of(1));
    await (await openRemote(new SimFs(), blobs)).close();
    expect([...blobs.blobs.keys()]).toContain(later);
  });
});

describe('a store that is kept in blobs, damaged on its disk', () => {
  it('stores nothing that is damaged', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 << 30 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    await store.checkpoint();
    await expect
      .poll(async () => (await Journal.read(blobs)).image.segments.size)
      .toBeGreaterThan(1);
    const puts = blobs.trace.length;
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    damageLast(store, files);
    await store.checkpoint();
    await expect.poll(() => blobs.trace.length).toBeGreaterThan(puts);
    await abandon(store);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([2, 0]);
  });

  it('says so, fails flushes that wait for the blobs, and goes on when it is right again', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const told: Error[] = [];
    const onLocalDamage = (error: Error) => told.push(error);
    const onTrouble = (error: Error) => expect.unreachable(error.message);
    const remote = { durability: 'remote', onLocalDamage, onTrouble } as const;
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    const readFails = (op: string) => (op === 'read' ? 'EIO' : undefined);
    files.fault = readFails;
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await expect(client.flush()).rejects.toThrow();
    // The first attempts to repeat it follow soon.
    await delay(500);
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^segment \d+ cannot be read \(EIO.* at byte \d+ on the local disk/),
    ]);
    expect(store.replica?.damage?.message).toBe(told[0]?.message);
    expect(store.replica?.unreachable).toBeUndefined();
    files.fault = () => undefined;
    await expect.poll(() => store.replica?.damage, { timeout: 3000 }).toBeUndefined();
    await client.flush();
    await abandon(store);
    expect((await recoverSeeds(blobs))[0]).toBe(2);
  });

  it('is not left to another server when it is closed', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 << 30 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    damageLast(store, files);
    await store.close();
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is in use by the server on');
  });

  it('is repaired from the blobs where it is stored together with what follows', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    const content = files.contentOf(store.segments.pathOf(store.log.durable.segment));
    const before = content.slice();
    damageLast(store, files);
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    expect(content.subarray(0, RECORD_BYTES)).toEqual(before.subarray(0, RECORD_BYTES));
    await abandon(store);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([2, 4]);
  });
});

describe('a store that cannot be opened after it was claimed', () => {
  for (const [step, op, path, skipped] of [
    ['restored', 'allocate', '00000001.seg', 0],
    ['loaded', 'read', '.seg', 0],
    // Its two copies are written when it is restored, too.
    ['started', 'write', 'superblock', 2],
  ] as const) {
    it(`is left as it was when it cannot be ${step}`, async () => {
      const blobs = new TraceBlobs();
      const first = new SimFs();
      const store = await openRemote(first, blobs);
      await (await openVolume(store)).write(0, blockOf(2));
      await store.close();
      const second = new SimFs();
      let count = 0;
      second.fault = (name, at) =>
        name === op && at.includes(path) && count++ >= skipped ? 'EIO' : undefined;
      await expect(openRemote(second, blobs)).rejects.toThrow('EIO');
      second.fault = () => undefined;
      for (const files of [new SimFs(), second]) {
        const past = blobs.before(blobs.trace.length);
        const again = await openRemote(files, past);
        expect((await readSeeds(again))[0]).toBe(2);
        await again.close();
      }
      await (await openRemote(first, blobs)).close();
    });
  }

  it('is at work no more', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    // Removed once the first checkpoint is made, and being stored.
    await files.open('/store/segments/00000050.seg', true);
    let superblocks = 0;
    files.fault = (op, path) => {
      if (op === 'write' && path.includes('superblock')) superblocks++;
      return op === 'syncDirectory' && path.includes('segments') && superblocks > 0
        ? 'EIO'
        : undefined;
    };
    blobs.pause = () => delay(10);
    await expect(openRemote(files, blobs)).rejects.toThrow('EIO');
    const count = blobs.trace.length;
    await delay(100);
    expect(blobs.trace).toHaveLength(count);
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('stays with its last owner when an older copy of the directory is refused', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { durability: 'remote' });
    const client = await openVolume(store);
    const copy = copyOf(files);
    await client.write(0, blockOf(1));
    await client.flush();
    await abandon(store);
    await expect(openRemote(copy, blobs)).rejects.toThrow('is out of date');
    const again = await openRemote(files, blobs);
    expect((await readSeeds(again))[0]).toBe(1);
    await again.close();
  });
});

describe('two servers and one blob store', () => {
  it('refuses the second while the first has it', async () => {
    const blobs = new TraceBlobs();
    const first = await openRemote(new SimFs(), blobs);
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is in use by the server on');
    await first.close();
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('stops the first when it was taken over, before it confirms anything', async () => {
    const blobs = new TraceBlobs();
    const failures: Error[] = [];
    const onFailed = (error: Error) => failures.push(error);
    const first = await openRemote(new SimFs(), blobs, { durability: 'remote' }, { onFailed });
    const client = await openVolume(first);
    await client.write(0, blockOf(1));
    await client.flush();
    const second = await openRemote(new SimFs(), blobs, {
      takeOver: await ownerOf(blobs),
    });
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    expect(failures[0]?.message).toContain('has taken over the blob store');
    await expect(client.write(0, blockOf(3))).rejects.toThrow();
    expect((await readSeeds(second))[0]).toBe(1);
    await second.close();
    await first.close();
  });

  it('lets one of two that start at once on copies of a directory have it', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blockOf(1));
    await client.flush();
    await abandon(store);
    const starts = [copyOf(files), copyOf(files)].map((copy) => openRemote(copy, blobs));
    const ends = await Promise.allSettled(starts);
    const [failure] = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    expect(failure).toBeInstanceOf(FencedError);
    expect(failure.remedy).toContain('copy');
    const [winner] = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
    expect((await readSeeds(winner as CasStore))[0]).toBe(1);
    await winner?.close();
  });

  it('stops one whose directory was copied when the copy is started, and for good', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const first = await openRemote(files, blobs, { durability: 'remote' });
    const client = await openVolume(first);
    await client.write(0, blockOf(1));
    await client.flush();
    const second = await openRemote(copyOf(files), blobs, { durability: 'remote' });
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    const other = await openVolume(second);
    await other.write(0, blockOf(3));
    await other.flush();
    // As long as what is here, and something else.
    await expect(openRemote(files, blobs)).rejects.toThrow('is in use by the server on');
    await second.close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is out of date');
    expect((await recoverSeeds(blobs))[0]).toBe(3);
  });

  it('goes on with the directory of a claim whose answer was lost', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs);
    await store.close();
    blobs.fail = ({ name }) => (name.startsWith('journal') ? 'after' : undefined);
    const starting = openRemote(files, blobs);
    await expect.poll(async () => (await ownerOf(blobs)) !== undefined).toBe(true);
    blobs.fail = () => undefined;
    await abandon(await starting);
    await (await openRemote(files, blobs)).close();
  });

  it('stops one that finds an entry as if it had written it itself', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blockOf(1));
    await client.flush();
    // What a machine does that was cloned while it ran, or set back to a moment of its past.
    const entry = JSON.parse(Buffer.from(lastEntry(blobs)[1]).toString());
    const number = entry.number + 1;
    const twin = { ...entry, number, segments: [], removed: [], nonce: '0'.repeat(32) };
    const name = `journal-${String(number).padStart(16, '0')}`;
    await blobs.put(name, Buffer.from(JSON.stringify(twin)));
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('stops one that finds other bytes under the name of a part', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blockOf(1));
    await client.flush();
    const put = blobs.put.bind(blobs);
    blobs.put = async (name, bytes) => {
      if (!name.startsWith('segment-')) return put(name, bytes);
      await put(
        name,
        bytes.map((byte) => byte ^ 1),
      );
      throw new BlobExistsError(name);
    };
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await store.close();
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('refuses blobs that cannot keep them apart', async () => {
    const blobs = new TraceBlobs();
    blobs.isExclusive = false;
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('cannot keep two servers apart');
  });

  it('refuses a directory that another server has overtaken', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    await (await openRemote(new SimFs(), blobs)).close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is out of date');
  });

  it('refuses a directory that was put back from a copy', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const remote = { durability: 'remote' } as const;
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    files.mark(0);
    const copy = crashStates(files).at(-1)?.disk;
    await client.write(0, blockOf(1));
    await client.flush();
    await abandon(store);
    await expect(openRemote(new SimFs(copy), blobs)).rejects.toThrow('is out of date');
    expect((await recoverSeeds(blobs))[0]).toBe(1);
  });

  it('refuses a journal of another version, and does not mind keys that it does not know', async () => {
    const blobs = new TraceBlobs();
    await (await openRemote(new SimFs(), blobs)).close();
    const [name, bytes] = lastEntry(blobs);
    const entry = JSON.parse(Buffer.from(bytes).toString());
    blobs.blobs.set(name, Buffer.from(JSON.stringify({ ...entry, version: 2 })));
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('no journal entry of version 1');
    blobs.blobs.set(name, Buffer.from(JSON.stringify({ ...entry, later: true })));
    await (await openRemote(new SimFs(), blobs)).close();
  });

  it('refuses a directory of another store', async () => {
    const blobs = new TraceBlobs();
    await (await openRemote(new SimFs(), blobs)).close();
    const files = new SimFs();
    await (await openRemote(files, new TraceBlobs())).close();
    await expect(openRemote(files, blobs)).rejects.toThrow('is not the store');
  });
});
