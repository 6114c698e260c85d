/**
 * Crashes at every moment: whatever state the disk is left in, the store opens, holds every write
 * that a flush confirmed, nothing that was never written, and says nothing of damage.
 */
import { inspect, judge } from './crash-inspection.ts';
import { type Expected, type Found, NOTHING } from './crash-model.ts';
import { SEEDS_OF_LIFE, work } from './crash-work.ts';
import {
  CrashWalk,
  copyOf,
  type DiskState,
  SimFs,
  type Survival,
  seededRandom,
  type TraceEntry,
  Undo,
} from './sim-fs.ts';

/** How often a store crashes and is worked on again, upon what the crash left. */
const LIVES = 8;
/** Of all operations, how many are crashed behind: more lives find more than more moments of one. */
const CRASHED_SHARE = 0.3;

/** How a store begins, or begins again. */
interface Beginning {
  readonly disk: DiskState | undefined;
  readonly found: Found;
}

/**
 * Crashes stores until the time `endMs`, with the seeds `firstSeed`, `firstSeed + stride` and so on.
 *
 * @returns in how many states they were looked at
 * @throws what is wrong with one, and where
 */
export async function crashUntil(endMs: number, firstSeed: number, stride = 1): Promise<number> {
  let states = 0;
  for (let seed = firstSeed; Date.now() < endMs; seed += stride) {
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
 * Crashes behind operations of a trace.
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
  const moments = expectationsIn(files.trace);
  const nextIndex = Math.floor(random() * files.trace.length);
  let next: Beginning | undefined;
  let states = 0;
  for (const [index, entry] of files.trace.entries()) {
    if (Date.now() > endMs) break;
    const expected = moments[index];
    if (expected === undefined) continue;
    walk.step(entry);
    const isNext = next === undefined && index >= nextIndex;
    if (!isNext && random() > CRASHED_SHARE) continue;
    const survival = survivalBehind(entry, walk, random);
    // All are looked at in the memory of the walk. What is to be gone on with is copied.
    const [crashed, worked] = [new Undo(), new Undo()];
    const disk = walk.crash(survival, crashed);
    const kept = isNext ? copyOf(disk) : undefined;
    const again = new SimFs(disk, worked);
    try {
      const found = await inspect(again);
      judge(found, expected);
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

/**
 * What is expected after a crash behind each operation of a trace, by its index. What a crash may
 * leave there it may leave until the next sync, if all that follows is lost: so it must be right by
 * each mark until then.
 */
function expectationsIn(trace: readonly TraceEntry[]): (readonly Expected[] | undefined)[] {
  const moments: Expected[][] = [];
  let before: Expected[] = [];
  /** Of the operations since the last sync: each mark is for all of them. */
  let open: Expected[][] = [];
  for (const [index, entry] of trace.entries()) {
    if (entry.op === 'mark') {
      const expected = entry.value as Expected;
      before = [expected];
      for (const moment of open) moment.push(expected);
      continue;
    }
    if (isSync(entry)) open = [];
    moments[index] = [...before];
    open.push(moments[index]);
  }
  return moments;
}

function isSync({ op }: TraceEntry): boolean {
  return op === 'sync' || op === 'syncDirectory';
}

/** A state that a crash one operation before did not leave: only what is new is looked at. */
function survivalBehind(entry: TraceEntry, walk: CrashWalk, random: () => number): Survival {
  const whole = isSync(entry) ? 'none' : 'all';
  return walk.isSettled || random() < 0.5 ? whole : 'random';
}

/** Crashes during recovery. @returns how often */
async function crashAgain(
  files: SimFs,
  expected: readonly Expected[],
  random: () => number,
): Promise<number> {
  const undo = new Undo();
  const walk = new CrashWalk(files.base, random, undo);
  const cut = Math.floor(random() * files.trace.length);
  for (const entry of files.trace.slice(0, cut)) walk.step(entry);
  judge(await inspect(new SimFs(walk.crash('random', undo), undo)), expected);
  undo.run();
  return 1;
}
