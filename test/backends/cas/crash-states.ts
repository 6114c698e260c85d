/**
 * Crashes at every moment: whatever state the disk is left in, the store opens, holds every write
 * that a flush confirmed, nothing that was never written, and says nothing of damage.
 */
import { inspect } from './crash-inspection.ts';
import { type Expected, type Found, NOTHING } from './crash-model.ts';
import { SEEDS_OF_LIFE, work } from './crash-work.ts';
import {
  CrashWalk,
  copyOf,
  type DiskState,
  SimFs,
  type Survival,
  seededRandom,
  Undo,
} from './sim-fs.ts';

/** How often a store crashes and is worked on again, upon what the crash left. */
const LIVES = 8;
/** Of all moments, how many are crashed at: more lives find more than more moments of one. */
const CRASHED_SHARE = 0.2;

/** How a store begins, or begins again. */
interface Beginning {
  readonly disk: DiskState | undefined;
  readonly found: Found;
}

/**
 * Crashes stores until the time `endMs`, with one seed after the other from `firstSeed` on.
 *
 * @returns in how many states they were looked at
 * @throws what is wrong with one, and where
 */
export async function crashUntil(endMs: number, firstSeed: number): Promise<number> {
  let states = 0;
  for (let seed = firstSeed; Date.now() < endMs; seed++) {
    let beginning: Beginning = { disk: undefined, found: NOTHING };
    for (let life = 0; life < LIVES && Date.now() < endMs; life++) {
      const files = new SimFs(beginning.disk);
      await work(files, beginning.found, seed + life * SEEDS_OF_LIFE, life);
      const crashes = await crashIn(files, endMs, seed + life * SEEDS_OF_LIFE);
      states += crashes.states;
      beginning = crashes.next ?? beginning;
    }
  }
  return states;
}

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
