/** Opens what a crash left, and compares what it holds with what was expected. */
import type { CasDevice } from '../../../src/backends/cas/cas-device.ts';
import { blockLater, blockNow } from './block-probe.ts';
import {
  BLOCKS,
  CACHE_BYTES,
  type Expected,
  type ExpectedSnapshot,
  type Found,
  knownBlock,
  SIZE,
  STRIDE,
} from './crash-model.ts';
import type { SimFs } from './sim-fs.ts';
import { abandon, openTiny } from './tiny-store.ts';

/** Opens what a crash left. @returns what it holds @throws that it tells of damage, or shows it */
export async function inspect(files: SimFs): Promise<Found> {
  const failures: Error[] = [];
  const store = await openTiny(files, {
    cacheBytes: CACHE_BYTES,
    onFailed: (error) => failures.push(error),
  });
  await store.indexed;
  const [problem] = [...store.problems, ...failures];
  if (problem !== undefined) throw new Error('it tells of damage', { cause: problem });
  const snapshots: ExpectedSnapshot[] = [];
  for (const { name, root } of store.snapshots) {
    const content = await contentOf(await store.openSnapshot(name));
    snapshots.push({ name, content, root: root[0] });
  }
  const confirmed = await contentOf(await store.openVolume('disk', SIZE));
  await abandon(store);
  return { confirmed, snapshots };
}

/** Reads all blocks. @returns their seeds @throws one has never been written by anybody */
async function contentOf(device: CasDevice): Promise<number[]> {
  const seeds = new Array<number>(BLOCKS).fill(0);
  for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
    const block = blockNow(device, lba) ?? (await blockLater());
    const seed = block.readUInt32LE(0);
    if (!knownBlock(seed).equals(block)) throw new Error(`block ${lba} is foreign`);
    seeds[lba] = seed;
  }
  return seeds;
}

/** @throws what was found is not what was expected, by one of these expectations */
export function judge(found: Found, expectations: readonly Expected[]): void {
  for (const { confirmed, possible, snapshots } of expectations) {
    judgeSnapshots(found.snapshots, snapshots);
    for (let lba = 0; lba < BLOCKS; lba += STRIDE) {
      const seed = found.confirmed[lba] as number;
      const certain = confirmed[lba] as number;
      if (seed === certain || possible.get(lba)?.has(seed)) continue;
      const allowed = [certain, ...(possible.get(lba) ?? [])];
      throw new Error(`block ${lba} is ${seed}, none of ${allowed}`);
    }
  }
}

function judgeSnapshots(
  found: readonly ExpectedSnapshot[],
  expected: readonly ExpectedSnapshot[],
): void {
  for (const snapshot of expected) {
    judgeSnapshot(
      found.find(({ name }) => name === snapshot.name),
      snapshot,
    );
  }
  for (const { name } of found) {
    if (expected.every((snapshot) => snapshot.name !== name)) throw new Error(`${name} is there`);
  }
}

/** Is a snapshot what it was when it was taken? One that was not confirmed need not be there. */
function judgeSnapshot(
  found: ExpectedSnapshot | undefined,
  { name, content, root }: ExpectedSnapshot,
): void {
  if (root !== undefined && found?.root !== root) {
    throw new Error(`the root of ${name} is ${found?.root}, not ${root}`);
  }
  const lba = found?.content.findIndex((seed, index) => seed !== content[index]) ?? -1;
  if (lba !== -1) throw new Error(`block ${lba} of ${name} is not ${content[lba]}`);
}
