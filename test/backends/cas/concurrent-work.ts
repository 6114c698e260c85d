/** A store with which everything is done at once, and which is opened again now and then. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { examine } from '../../../src/backends/cas/fsck/index.ts';
import { PersistentBlobs } from '../../../src/backends/cas/remote/persistent-blobs.ts';
import {
  REMOTE_DEFAULTS,
  type RemoteOptions,
} from '../../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { StoreOptions } from '../../../src/backends/cas/store-options.ts';
import { Changes, requireSound } from './concurrent-changes.ts';
import { Disk, LANES, readSnapshot } from './concurrent-disk.ts';
import { Chance, NOTHING, only, type Tags } from './concurrent-model.ts';
import { type Delays, delayed, Outstanding, SlowFs } from './delays.ts';
import { ownerOf } from './remote/remote-store.ts';
import { slowBlobs } from './remote/slow-blobs.ts';
import type { TraceBlobs } from './remote/trace-blobs.ts';
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
  /** Where the store is kept besides, if anywhere. */
  readonly #blobs: TraceBlobs | undefined;
  /** Who has them, if that is to be taken over. */
  #takeOver: string | undefined;
  #isStoredAtOnce = false;
  /** What volumes held when the store was closed, or hold at first. */
  #volumes = new Map<string, Tags>([
    ['one', NOTHING],
    ['other', NOTHING],
  ]);
  #disks: Disk[] = [];
  readonly #snapshots = new Map<string, Tags>();

  /**
   * @param endMs no more is begun from then on, by the clock of `Date`
   * @param isRemote the store is kept in a blob store as well
   */
  constructor(seed: number, endMs: number, isRemote: boolean) {
    this.#chance = new Chance(seed);
    this.#endMs = endMs;
    this.random = this.#chance.random;
    this.#blobs = isRemote ? slowBlobs(this) : undefined;
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
  readonly pause = async (): Promise<void> => {
    const turns = this.#chance.pick(10) > 0 ? this.#chance.pick(3) : this.#chance.pick(60);
    for (let turn = 0; turn < turns; turn++) await nextTurn();
  };

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
      remote: this.#remoteOptions(problems),
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

  #remoteOptions(problems: string[]): RemoteOptions | undefined {
    if (this.#blobs === undefined) return undefined;
    const pick = (count: number) => this.#chance.pick(count);
    this.#isStoredAtOnce = pick(2) === 0;
    return {
      ...REMOTE_DEFAULTS,
      blobs: this.#blobs,
      durability: this.#isStoredAtOnce ? 'remote' : 'local',
      delayMs: pick(200),
      delayBytes: (32 + pick(256)) << 10,
      cacheBytes: pick(3) === 0 ? Number.POSITIVE_INFINITY : (1 + pick(4)) << 18,
      lagBytesMax: pick(3) === 0 ? (128 + pick(512)) << 10 : Number.POSITIVE_INFINITY,
      takeOver: this.#takeOver,
      onLocalDamage: (error) => problems.push(`${error.stack}`),
    };
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

  /** Lets the independent examination look at what is on the disk. @throws it finds something */
  async examine(): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), 'aoe-concurrent-'));
    try {
      for (const path of this.#files.paths()) {
        const copy = join(directory, path);
        await mkdir(dirname(copy), { recursive: true });
        await writeFile(copy, this.#files.contentOf(path));
      }
      const { findings } = await examine(join(directory, 'store'));
      if (findings.length > 0) throw new Error(`it finds: ${JSON.stringify(findings)}`);
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  /** Closes the store, or lets go of it as a kill does. What is in blobs can do without its disk. */
  async #end(store: CasStore): Promise<void> {
    const isKilled = this.#chance.pick(2) === 0;
    if (isKilled) for (const disk of this.#disks) await disk.flush();
    else await store.close();
    this.#volumes = new Map(this.#disks.map(({ name, model }) => [name, model.newest()]));
    if (isKilled) await abandon(store);
    this.#takeOver = undefined;
    const isStored = this.#blobs !== undefined && (this.#isStoredAtOnce || !isKilled);
    const isLost = isStored && this.#chance.pick(2) === 0;
    this.#files = new SlowFs(this, isLost ? undefined : stateOf(this.#files));
    if (isLost) this.#takeOver = await ownerOf(new PersistentBlobs(this.#blobs as TraceBlobs));
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
