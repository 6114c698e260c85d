/** A store with which everything is done at once, and which is opened again now and then. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { StoreOptions } from '../../../src/backends/cas/store-options.ts';
import { Changes, requireSound } from './concurrent-changes.ts';
import { Disk, LANES, readSnapshot } from './concurrent-disk.ts';
import { Chance, NOTHING, only, type Tags } from './concurrent-model.ts';
import { type Delays, delayed, Outstanding, SlowFs } from './delays.ts';
import type { DiskState, SimFs } from './sim-fs.ts';
import { abandon, openTiny } from './tiny-store.ts';

/** How often a store is opened, and how many requests there are until it is closed. */
const LIVES = 3;
const REQUESTS = 700;
/** Changes of volumes at once; where there is one only, others flush less of what it finds. */
const CHANGES_MAX = 3;

export class ConcurrentWork implements Delays {
  readonly outstanding = new Outstanding();
  readonly random: () => number;
  requestCount = 0;
  /** What the store that is open has said of itself that it must not say. */
  problems: string[] = [];
  readonly #chance: Chance;
  readonly #endMs: number;
  readonly #options: Partial<StoreOptions>;
  #files = new SlowFs(this);
  /** What volumes held when the store was closed, or hold at first. */
  #volumes = new Map<string, Tags>([
    ['one', NOTHING],
    ['other', NOTHING],
  ]);
  #disks: Disk[] = [];
  readonly #snapshots = new Map<string, Tags>();

  /** @param endMs no more is begun from then on, by the clock of `Date` */
  constructor(seed: number, endMs: number) {
    this.#chance = new Chance(seed);
    this.#endMs = endMs;
    this.random = this.#chance.random;
    const pick = (count: number) => this.#chance.pick(count);
    this.#options = {
      segmentBytes: (256 + 128 * pick(3)) << 10,
      cacheBytes: (12 + pick(24)) * BLOCK_SIZE,
      nodeCountMax: 1 + pick(6),
      queuedMax: 20 + pick(60),
      checkpointBytes: (512 + pick(1500)) << 10,
      batchBlocks: 1 + pick(48),
      compress: pick(4) > 0,
    };
  }

  /** How many disks, snapshots and copies there were. */
  get madeCount(): number {
    return this.#chance.nameCount;
  }

  /** Waits a turn of the event loop or two, and now and then many. */
  async pause(): Promise<void> {
    const turns = this.#chance.pick(10) > 0 ? this.#chance.pick(3) : this.#chance.pick(60);
    for (let turn = 0; turn < turns; turn++) await nextTurn();
  }

  /** @throws something is not what it must be */
  async run(): Promise<void> {
    let store = await this.#open();
    for (let life = 0; life < LIVES && Date.now() < this.#endMs; life++) {
      await this.#load(store);
      await this.#verify(store);
      await this.#end(store);
      store = await this.#open();
      await this.#verify(store);
    }
    await store.close();
  }

  async #open(): Promise<CasStore> {
    const problems: string[] = [];
    this.problems = problems;
    const store: CasStore = await openTiny(delayed(this.#files, this), {
      ...this.#options,
      // Now and then the index knows the newest segments only.
      indexBytesMax: this.#chance.pick(3) === 0 ? 1 : 1 << 20,
      onProblem: (problem) => problems.push(problem),
      onDamage: ({ volume, lba, error }) => problems.push(`${volume}, ${lba}: ${error.message}`),
      onFailed: (error) => problems.push(`${error.stack}`),
    });
    this.#disks = [];
    for (const [name, tags] of this.#volumes) {
      this.#disks.push(await Disk.open(store, this.#chance, name, tags));
    }
    return store;
  }

  async #load(store: CasStore): Promise<void> {
    const changes = new Changes(store, this.#chance, this.#disks, this.#snapshots);
    let requestsLeft = REQUESTS;
    const lane = async (work: () => Promise<void>) => {
      while (requestsLeft > 0 && Date.now() < this.#endMs) {
        await work();
        if (this.#chance.pick(3) === 0) await nextTurn();
      }
    };
    const request = async () => {
      const disk = this.#disks[this.#chance.pick(this.#disks.length)] as Disk;
      if (disk.isPaused) return;
      requestsLeft--;
      await this.outstanding.watch(`request to ${disk.name}`, disk.request());
    };
    const collectAll = async () => {
      await collect(store, { liveMax: this.#chance.pick(2) === 0 ? 1 : 0.6 });
      // While none runs, less is flushed.
      for (let turns = this.#chance.pick(1000); turns > 0 && requestsLeft > 0; turns--)
        await nextTurn();
    };
    const lanes = [lane(collectAll)];
    for (let i = 0; i < LANES; i++) lanes.push(lane(request));
    for (let i = this.#chance.pick(CHANGES_MAX); i >= 0; i--)
      lanes.push(lane(() => changes.make()));
    await Promise.all(lanes);
    this.requestCount += REQUESTS - requestsLeft;
  }

  async #verify(store: CasStore): Promise<void> {
    for (const disk of this.#disks) await disk.compare();
    for (const [name, tags] of this.#snapshots) await readSnapshot(store, name, only(tags));
    await requireSound(store);
    requireSame(
      Array.from(store.volumes, ({ name }) => name),
      this.#disks.map(({ name }) => name),
    );
    requireSame(
      store.snapshots.map(({ name }) => name),
      [...this.#snapshots.keys()],
    );
    if (this.problems.length > 0) throw new Error('it tells of problems');
  }

  /** Closes the store, or lets go of it as a kill does. */
  async #end(store: CasStore): Promise<void> {
    const isKilled = this.#chance.pick(2) === 0;
    if (isKilled) for (const disk of this.#disks) await disk.flush();
    else await store.close();
    this.#volumes = new Map(this.#disks.map(({ name, model }) => [name, model.newest()]));
    this.#files = new SlowFs(this, stateOf(this.#files));
    if (isKilled) await abandon(store);
  }
}

/** What is on a disk now. */
function stateOf(files: SimFs): DiskState {
  const paths = files.paths();
  return {
    inodes: paths.map((path) => files.contentOf(path)),
    names: new Map(paths.map((path, index) => [path, index])),
  };
}

function requireSame(found: readonly string[], expected: readonly string[]): void {
  const [sorted, wanted] = [[...found].sort().join(), [...expected].sort().join()];
  if (sorted !== wanted) throw new Error(`there are ${sorted}, not ${wanted}`);
}
