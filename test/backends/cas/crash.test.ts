/**
 * Crashes at every moment: whatever state the disk is left in, the store opens, holds every write
 * that a flush confirmed, nothing that was never written, and says nothing of damage.
 */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { CrashWalk, type DiskState, SimFs, type Survival, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 200;
const SIZE = BLOCKS * BLOCK_SIZE;
/** Blocks that are written, over two leaves: every fifth. */
const STRIDE = 5;
const STEPS = Number(process.env['AOE_CAS_CRASH_STEPS'] ?? 60);
/** Runs as long as it is told to, with other seeds: AOE_CAS_CRASH_MS, AOE_CAS_CRASH_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_CRASH_MS'] ?? 15_000);

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

class Model {
  #snapshots: ExpectedSnapshot[] = [];
  readonly confirmed: number[] = new Array(BLOCKS).fill(0);
  #latest = new Map<number, number>();
  #possible = new Map<number, Set<number>>();

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

  snapshot(): Expected {
    const possible = new Map([...this.#possible].map(([lba, seeds]) => [lba, new Set(seeds)]));
    return { confirmed: [...this.confirmed], possible, snapshots: this.#snapshots };
  }
}

/** Random writes, duplicates, trims, flushes, checkpoints and snapshots, with marks in the trace. */
async function work(files: SimFs, seed: number): Promise<void> {
  const random = seededRandom(seed);
  const pick = (count: number) => Math.floor(random() * count);
  const model = new Model();
  const store = await openTiny(files);
  const client = clientOf(await store.openVolume('disk', SIZE));
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
    const count = pick(8) === 0 ? 40 : 1 + pick(6);
    for (let i = 0; i < count; i++) {
      const lba = STRIDE * pick(BLOCKS / STRIDE);
      if (pick(12) === 0) {
        model.change(lba, 0);
        files.mark(model.snapshot());
        await client.trim(lba * BLOCK_SIZE, BLOCK_SIZE);
        continue;
      }
      const content = pick(4) === 0 ? pick(8) : 1000 + step * 64 + i;
      model.change(lba, content);
      files.mark(model.snapshot());
      await client.write(lba * BLOCK_SIZE, blockOf(content));
    }
    if (pick(8) === 0) await checkpoint();
    if (pick(8) === 0) {
      // In the middle of a checkpoint, or with none in sight.
      const running = pick(3) === 0 ? checkpoint() : undefined;
      if (pick(2) === 0) blockedSteps = 1 + pick(4);
      model.keep(`s${step}`, undefined);
      files.mark(model.snapshot());
      const { root } = await store.snapshot('disk', `s${step}`);
      model.keep(`s${step}`, root[0]);
      files.mark(model.snapshot());
      await running;
    }
    await client.flush();
    model.confirm();
    files.mark(model.snapshot());
    if (pick(12) === 0) await checkpoint();
    if (blockedSteps === 0 && pick(25) === 0) await collect(store, { liveMax: 1 });
  }
}

/** Opens what a crash left and compares. @returns the disk afterwards */
async function inspect(state: DiskState, expected: Expected | undefined): Promise<SimFs> {
  const files = new SimFs(state);
  const failures: Error[] = [];
  const store = await openTiny(files, { onFailed: (error) => failures.push(error) });
  expect(store.problems).toEqual([]);
  await store.indexed;
  expect(failures).toEqual([]);
  if (expected !== undefined) {
    for (const snapshot of expected.snapshots) await compare(store, snapshot);
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
      const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
      const seeds = [expected.confirmed[lba] as number, ...(expected.possible.get(lba) ?? [])];
      const isAllowed = seeds.some((seed) => knownBlock(seed).equals(block));
      if (!isAllowed) throw new Error(`block ${lba} is none of ${seeds}`);
    }
  }
  await abandon(store);
  return files;
}

/** Is a snapshot what it was when it was taken? One that was not confirmed need not be there. */
async function compare(store: CasStore, { name, content, root }: ExpectedSnapshot): Promise<void> {
  const entry = store.snapshots.find((snapshot) => snapshot.name === name);
  if (root !== undefined) expect(entry?.root[0]).toBe(root);
  if (entry === undefined) return;
  const client = clientOf(await store.openSnapshot(name));
  for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
    const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
    if (!knownBlock(content[lba] as number).equals(block)) {
      throw new Error(`block ${lba} of ${name} is not ${content[lba]}`);
    }
  }
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
        const files = new SimFs();
        await work(files, seed);
        const random = seededRandom(seed);
        const walk = new CrashWalk(files.base, random);
        let expected: Expected | undefined;
        for (const [index, entry] of files.trace.entries()) {
          walk.step(entry);
          if (entry.op === 'mark') expected = entry.value as Expected;
          const survivals: Survival[] = ['none', 'all', 'random', 'random'];
          const survival = survivals[Math.floor(random() * survivals.length)] as Survival;
          const state = walk.crash(survival);
          const again = await inspect(state, expected).catch((cause) => {
            throw new Error(`seed ${seed}, operation ${index}, unsynced: ${survival}`, { cause });
          });
          states++;
          if (random() < 0.05) {
            states += await crashAgain(again, expected, random);
          }
          if (Date.now() > endMs) break;
        }
      }
      const perSecond = Math.round((states * 1000) / (Date.now() - startMs));
      console.log(`${states} crash states, ${perSecond} a second`);
      expect(states).toBeGreaterThan(100);
    },
    BUDGET_MS + 60_000,
  );
});

/** Crashes during recovery. */
async function crashAgain(
  files: SimFs,
  expected: Expected | undefined,
  random: () => number,
): Promise<number> {
  const walk = new CrashWalk(files.base, random);
  const cut = Math.floor(random() * files.trace.length);
  for (const entry of files.trace.slice(0, cut)) walk.step(entry);
  await inspect(walk.crash('random'), expected);
  return 1;
}
