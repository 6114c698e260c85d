/** Opens what a crash left, and compares it with what was expected. */
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { blockLater, blockNow } from './block-probe.ts';
import {
  BLOCKS,
  CACHE_BYTES,
  type Expected,
  type ExpectedSnapshot,
  type Found,
  NOTHING,
  SIZE,
  STRIDE,
} from './crash-model.ts';
import type { SimFs } from './sim-fs.ts';
import { abandon, blockOf, openTiny } from './tiny-store.ts';

/** Opens what a crash left and compares. @returns what it holds */
export async function inspect(files: SimFs, expected: Expected): Promise<Found> {
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

const known = new Map<number, Buffer>();
function knownBlock(seed: number): Buffer {
  const block = known.get(seed) ?? blockOf(seed);
  known.set(seed, block);
  return block;
}
