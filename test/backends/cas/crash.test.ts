/**
 * Crashes at every moment: whatever state the disk is left in, the store opens, holds every write
 * that a flush confirmed, nothing that was never written, and says nothing of damage.
 */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
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
}

class Model {
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

  snapshot(): Expected {
    const possible = new Map([...this.#possible].map(([lba, seeds]) => [lba, new Set(seeds)]));
    return { confirmed: [...this.confirmed], possible };
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
  for (let step = 0; step < STEPS; step++) {
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
    if (pick(8) === 0) await store.checkpoint();
    await client.flush();
    model.confirm();
    files.mark(model.snapshot());
    if (pick(12) === 0) await store.checkpoint();
    if (pick(20) === 0) await store.snapshot('disk', `s${step}`);
    if (pick(25) === 0) await collect(store, { liveMax: 1 });
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
