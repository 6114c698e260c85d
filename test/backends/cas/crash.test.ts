/**
 * Crashes at every moment: whatever state the disk is left in, the store opens, holds every write
 * that a flush confirmed, nothing that was never written, and says nothing of damage.
 */
import { describe, expect, it } from 'vitest';
import type { CasDevice } from '../../../src/backends/cas/cas-device.ts';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { BlockOp, BlockRequest } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';
import {
  CrashWalk,
  copyOf,
  type DiskState,
  SimFs,
  type Survival,
  seededRandom,
  Undo,
} from './sim-fs.ts';
import { abandon, blockOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 200;
const SIZE = BLOCKS * BLOCK_SIZE;
/** Blocks that are written, over two leaves: every tenth. */
const STRIDE = 10;
/** Fewer than are written, so that some are evicted. */
const CACHE_BYTES = 12 * BLOCK_SIZE;
/** How many snapshots are kept, about: each is compared in each state. */
const SNAPSHOTS = 2;
const STEPS = Number(process.env['AOE_CAS_CRASH_STEPS'] ?? 16);
/** Runs as long as it is told to, with other seeds: AOE_CAS_CRASH_MS, AOE_CAS_CRASH_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_CRASH_MS'] ?? 60_000);

/** How often a store crashes and is worked on again, upon what the crash left. */
const LIVES = 8;
/** No two lives write the same but for duplicates. */
const SEEDS_OF_LIFE = 1_000_000;
/** Of all moments, how many are crashed at: more lives find more than more moments of one. */
const CRASHED_SHARE = 0.2;

/** What is confirmed, and what was written since. */
interface Expected {
  readonly confirmed: readonly number[];
  readonly possible: ReadonlyMap<number, ReadonlySet<number>>;
  readonly snapshots: readonly ExpectedSnapshot[];
}

interface ExpectedSnapshot {
  readonly name: string;
  readonly content: readonly number[];
  /** Undefined until it is confirmed. */
  readonly root: string | undefined;
}

/** What a store was found to hold. */
type Found = Pick<Expected, 'confirmed' | 'snapshots'>;

/** How a store begins, or begins again. */
interface Beginning {
  readonly disk: DiskState | undefined;
  readonly found: Found;
}

const NOTHING: Found = { confirmed: new Array(BLOCKS).fill(0), snapshots: [] };

class Model {
  #snapshots: readonly ExpectedSnapshot[];
  readonly confirmed: number[];
  #latest = new Map<number, number>();
  #possible = new Map<number, Set<number>>();

  constructor({ confirmed, snapshots }: Found) {
    this.confirmed = [...confirmed];
    this.#snapshots = snapshots;
  }

  change(lba: number, seed: number): void {
    this.#latest.set(lba, seed);
    const seeds = this.#possible.get(lba) ?? new Set();
    this.#possible.set(lba, seeds.add(seed));
  }

  confirm(): void {
    for (const [lba, seed] of this.#latest) this.confirmed[lba] = seed;
    this.#latest = new Map();
    this.#possible = new Map();
  }

  /** Takes notice of a snapshot of what was written; with its root, it is confirmed. */
  keep(name: string, root: string | undefined): void {
    if (root !== undefined) this.confirm();
    const content = [...this.confirmed];
    for (const [lba, seed] of this.#latest) content[lba] = seed;
    const others = this.#snapshots.filter((snapshot) => snapshot.name !== name);
    this.#snapshots = [...others, { name, content, root }];
  }

  /** Takes notice that a snapshot is being deleted: from now on it need not be there. */
  deleting(name: string): void {
    this.#snapshots = this.#snapshots.map((snapshot) =>
      snapshot.name === name ? { ...snapshot, root: undefined } : snapshot,
    );
  }

  /** Takes notice that a snapshot has been deleted: from now on it must not be there. */
  deleted(name: string): void {
    this.#snapshots = this.#snapshots.filter((snapshot) => snapshot.name !== name);
  }

  /** A snapshot to be deleted, if there are enough. */
  get surplus(): string | undefined {
    return this.#snapshots.length > SNAPSHOTS ? this.#snapshots[0]?.name : undefined;
  }

  snapshot(): Expected {
    const possible = new Map([...this.#possible].map(([lba, seeds]) => [lba, new Set(seeds)]));
    return { confirmed: [...this.confirmed], possible, snapshots: this.#snapshots };
  }
}

/**
 * Random writes, duplicates, trims, flushes, checkpoints, snapshots and starts, with marks in the
 * trace.
 */
async function work(files: SimFs, found: Found, seed: number, life: number): Promise<void> {
  const random = seededRandom(seed);
  const pick = (count: number) => Math.floor(random() * count);
  const model = new Model(found);
  files.mark(model.snapshot());
  let store = await openTiny(files, { cacheBytes: CACHE_BYTES });
  let client = clientOf(await store.openVolume('disk', SIZE));
  files.mark(model.snapshot());
  // Now and then no checkpoint comes about for a while, so that snapshots are in the log only.
  let blockedSteps = 0;
  files.fault = (op, path) =>
    blockedSteps > 0 && op === 'write' && path.endsWith('superblock') ? 'EIO' : undefined;
  const checkpoint = () =>
    store.checkpoint().catch((error) => {
      if (blockedSteps === 0) throw error;
    });
  for (let step = 0; step < STEPS; step++, blockedSteps = Math.max(0, blockedSteps - 1)) {
    // Now and then more than the cache holds, so that some is logged before anybody flushes.
    const count = pick(8) === 0 ? 40 : 1 + pick(10);
    // Records of as many blocks that do not compress are of one length.
    const isRandom = pick(2) === 0;
    for (let i = 0; i < count; i++) {
      const lba = STRIDE * pick(BLOCKS / STRIDE);
      if (pick(12) === 0) {
        model.change(lba, 0);
        files.mark(model.snapshot());
        await client.trim(lba * BLOCK_SIZE, BLOCK_SIZE);
        continue;
      }
      const newest = life * SEEDS_OF_LIFE + 1000 + step * 128 + (isRandom ? 2 * i : i);
      const content = pick(4) === 0 && !isRandom ? pick(8) : newest;
      model.change(lba, content);
      files.mark(model.snapshot());
      await client.write(lba * BLOCK_SIZE, blockOf(content));
    }
    if (pick(8) === 0) await checkpoint();
    if (pick(8) === 0) {
      // In the middle of a checkpoint, or with none in sight.
      const running = pick(3) === 0 ? checkpoint() : undefined;
      if (pick(2) === 0) blockedSteps = 1 + pick(4);
      const name = `s${life}-${step}`;
      model.keep(name, undefined);
      files.mark(model.snapshot());
      const { root } = await store.snapshot('disk', name);
      model.keep(name, root[0]);
      files.mark(model.snapshot());
      await running;
    }
    await client.flush();
    model.confirm();
    files.mark(model.snapshot());
    if (pick(step === 0 ? 2 : 12) === 0) await checkpoint();
    const { surplus } = model;
    if (blockedSteps === 0 && surplus !== undefined) {
      model.deleting(surplus);
      files.mark(model.snapshot());
      await store.deleteSnapshot(surplus);
      model.deleted(surplus);
      files.mark(model.snapshot());
    }
    if (blockedSteps === 0 && pick(8) === 0) await collect(store, { liveMax: 1 });
    if (blockedSteps === 0 && pick(15) === 0) {
      await store.close();
      store = await openTiny(files, { cacheBytes: CACHE_BYTES });
      client = clientOf(await store.openVolume('disk', SIZE));
    }
  }
}

/** Opens what a crash left and compares. @returns what it holds */
async function inspect(files: SimFs, expected: Expected): Promise<Found> {
  const failures: Error[] = [];
  const store = await openTiny(files, {
    cacheBytes: CACHE_BYTES,
    onFailed: (error) => failures.push(error),
  });
  await store.indexed;
  const [problem] = [...store.problems, ...failures];
  if (problem !== undefined) throw new Error('it tells of damage', { cause: problem });
  const snapshots = await expectSnapshots(store, expected.snapshots);
  const device = await store.openVolume('disk', SIZE);
  const confirmed = [...NOTHING.confirmed];
  for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
    const block = blockNow(device, lba) ?? (await blockLater());
    const certain = expected.confirmed[lba] as number;
    if (knownBlock(certain).equals(block)) {
      confirmed[lba] = certain;
      continue;
    }
    const seeds = [...(expected.possible.get(lba) ?? [])];
    const seed = seeds.find((one) => knownBlock(one).equals(block));
    if (seed === undefined) throw new Error(`block ${lba} is none of ${[certain, ...seeds]}`);
    confirmed[lba] = seed;
  }
  await abandon(store);
  return { confirmed, snapshots };
}

/** Compares all snapshots. @returns those that are there, which are confirmed now */
async function expectSnapshots(
  store: CasStore,
  expected: readonly ExpectedSnapshot[],
): Promise<ExpectedSnapshot[]> {
  for (const snapshot of expected) await compare(store, snapshot);
  for (const { name } of store.snapshots) {
    if (expected.every((snapshot) => snapshot.name !== name)) throw new Error(`${name} is there`);
  }
  return expected.flatMap((snapshot) => {
    const entry = store.snapshots.find(({ name }) => name === snapshot.name);
    return entry === undefined ? [] : [{ ...snapshot, root: entry.root[0] }];
  });
}

/** Is a snapshot what it was when it was taken? One that was not confirmed need not be there. */
async function compare(store: CasStore, { name, content, root }: ExpectedSnapshot): Promise<void> {
  const entry = store.snapshots.find((snapshot) => snapshot.name === name);
  if (root !== undefined && entry?.root[0] !== root) {
    throw new Error(`the root of ${name} is ${entry?.root[0]}, not ${root}`);
  }
  if (entry === undefined) return;
  const device = await store.openSnapshot(name);
  for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
    const block = blockNow(device, lba) ?? (await blockLater());
    if (!knownBlock(content[lba] as number).equals(block)) {
      throw new Error(`block ${lba} of ${name} is not ${content[lba]}`);
    }
  }
}

/** One request for all reads: nothing is allocated for a block, or waited for that is there. */
const request = new BlockRequest(0, { bytes: Buffer.alloc(BLOCK_SIZE), region: 0 }, 0);
let isRead = false;
let whenRead = (): void => {};
request.completer = {
  completed() {
    isRead = true;
    whenRead();
  },
};

/** Reads a block. @returns its bytes until the next one is read; undefined if that takes a while */
function blockNow(device: CasDevice, lba: number): Buffer | undefined {
  isRead = false;
  whenRead = () => {};
  request.op = BlockOp.read;
  request.offset = lba * BLOCK_SIZE;
  request.length = BLOCK_SIZE;
  device.submit(request);
  device.kick();
  return isRead ? readBytes() : undefined;
}

/** What {@link blockNow} has begun to read. */
async function blockLater(): Promise<Buffer> {
  await new Promise<void>((resolve) => {
    whenRead = resolve;
  });
  return readBytes();
}

function readBytes(): Buffer {
  if (request.status !== BlockStatus.ok) throw new Error(`byte ${request.offset} cannot be read`);
  return request.data.bytes;
}

const known = new Map<number, Buffer>();
function knownBlock(seed: number): Buffer {
  const block = known.get(seed) ?? blockOf(seed);
  known.set(seed, block);
  return block;
}

describe('the content-addressed store after a crash', () => {
  it(
    'holds every confirmed write and nothing foreign, wherever it was cut',
    async () => {
      const endMs = Date.now() + BUDGET_MS;
      let states = 0;
      const startMs = Date.now();
      for (let seed = Number(process.env['AOE_CAS_CRASH_SEED'] ?? 1); Date.now() < endMs; seed++) {
        let beginning: Beginning = { disk: undefined, found: NOTHING };
        for (let life = 0; life < LIVES && Date.now() < endMs; life++) {
          const files = new SimFs(beginning.disk);
          await work(files, beginning.found, seed + life * SEEDS_OF_LIFE, life);
          const crashes = await crashIn(files, endMs, seed + life * SEEDS_OF_LIFE);
          states += crashes.states;
          beginning = crashes.next ?? beginning;
        }
      }
      const perSecond = Math.round((states * 1000) / (Date.now() - startMs));
      console.log(`${states} crash states, ${perSecond} a second`);
      expect(states).toBeGreaterThan(100);
    },
    BUDGET_MS + 60_000,
  );
});

/**
 * Crashes at moments of a trace.
 *
 * @returns how often, and how the store begins again after one of them
 */
async function crashIn(
  files: SimFs,
  endMs: number,
  seed: number,
): Promise<{ states: number; next: Beginning | undefined }> {
  const random = seededRandom(seed);
  const walk = new CrashWalk(files.base, random);
  const nextIndex = Math.floor(random() * files.trace.length);
  let next: Beginning | undefined;
  let states = 0;
  let expected: Expected | undefined;
  for (const [index, entry] of files.trace.entries()) {
    if (Date.now() > endMs) break;
    walk.step(entry);
    if (entry.op === 'mark') expected = entry.value as Expected;
    const isNext = index === nextIndex;
    if (expected === undefined || (!isNext && random() > CRASHED_SHARE)) continue;
    const survivals: Survival[] = ['none', 'all', 'random', 'random'];
    const survival = survivals[Math.floor(random() * survivals.length)] as Survival;
    // All are looked at in the memory of the walk. What is to be gone on with is copied.
    const [crashed, worked] = [new Undo(), new Undo()];
    const disk = walk.crash(survival, crashed);
    const kept = isNext ? copyOf(disk) : undefined;
    const again = new SimFs(disk, worked);
    try {
      const found = await inspect(again, expected);
      states++;
      worked.run();
      if (kept !== undefined) next = { disk: kept, found };
      if (random() < 0.05) states += await crashAgain(again, expected, random);
    } catch (cause) {
      const life = Math.floor(seed / SEEDS_OF_LIFE);
      const where = `seed ${seed % SEEDS_OF_LIFE}, life ${life}, operation ${index}`;
      throw new Error(`${where}, unsynced: ${survival}`, { cause });
    }
    crashed.run();
  }
  return { states, next };
}

/** Crashes during recovery. @returns how often */
async function crashAgain(files: SimFs, expected: Expected, random: () => number): Promise<number> {
  const undo = new Undo();
  const walk = new CrashWalk(files.base, random, undo);
  const cut = Math.floor(random() * files.trace.length);
  for (const entry of files.trace.slice(0, cut)) walk.step(entry);
  await inspect(new SimFs(walk.crash('random', undo), undo), expected);
  undo.run();
  return 1;
}
