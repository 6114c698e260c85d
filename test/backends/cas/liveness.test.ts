/**
 * Every request ends, however the disk and the engine delay or fail what they are asked for: small
 * stores that are nearly full, overwritten, trimmed, flushed, snapshotted and collected at once.
 */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { CommittedDevice } from '../../../src/core/committed-device.ts';
import { DeviceClient } from '../../../src/core/device-client.ts';
import { OrderedDevice } from '../../../src/core/ordered-device.ts';
import { native } from '../../../src/native.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { blockOf, openTiny } from './tiny-store.ts';

/** Runs as long as it is told to, from a seed on: AOE_CAS_LIVENESS_MS, AOE_CAS_LIVENESS_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_LIVENESS_MS'] ?? 5000);
const FIRST_SEED = Number(process.env['AOE_CAS_LIVENESS_SEED'] ?? Date.now() % 1e9);
/** Each store is under load for so long, or until it fails. */
const LOAD_MS = 250;
/** Looks in a row that find no progress at a store that is stuck; delays are shorter than one. */
const LOOKS_MAX = 50;
const LOOK_MS = 100;

const SEGMENT = 128 << 10;
const CLIENTS = 12;
const SLOT = 4 * BLOCK_SIZE;

type Random = () => number;

/** What is asked for and has not ended yet, by name. */
class Outstanding {
  readonly #names = new Map<object, string>();
  endedCount = 0;

  async watch<T>(name: string, work: Promise<T>): Promise<T> {
    const key = {};
    this.#names.set(key, name);
    try {
      return await work;
    } finally {
      this.#names.delete(key);
      this.endedCount++;
    }
  }

  toString(): string {
    return [...this.#names.values()].join(', ');
  }
}

/** Waits for nothing, a microtask, a turn of the event loop, or a few milliseconds. */
async function pause(random: Random): Promise<void> {
  const choice = random();
  if (choice < 0.4) return;
  if (choice < 0.6) await Promise.resolve();
  else if (choice < 0.97) await new Promise((resolve) => setImmediate(resolve));
  else await new Promise((resolve) => setTimeout(resolve, 3 * random()));
}

/** `target` with delays before and after each of its methods, or those that are named. */
function delayed<T extends object>(
  target: T,
  { random, outstanding }: Run,
  names?: readonly string[],
): T {
  return new Proxy(target, {
    get(object, key) {
      const name = String(key);
      const value: unknown = Reflect.get(object, key);
      if (typeof value !== 'function') return value;
      if (names?.includes(name) === false) return value.bind(object);
      const call = async (args: readonly unknown[]) => {
        await pause(random);
        const result: unknown = await value.apply(object, args);
        await pause(random);
        return result;
      };
      return (...args: unknown[]) => outstanding.watch(name, call(args));
    },
  });
}

class SlowFs extends SimFs {
  readonly #run: Run;

  constructor(run: Run) {
    super();
    this.#run = run;
  }

  override async open(path: string, create: boolean): Promise<StoreFile> {
    return delayed(await super.open(path, create), this.#run);
  }
}

/** Of the engine, what another thread does. */
const SLOW_CALLS = ['ingest', 'read', 'locate', 'move'];

class Run {
  readonly random: Random;
  readonly outstanding = new Outstanding();
  readonly #disk = new SlowFs(this);
  readonly #clients: DeviceClient[] = [];
  #store: CasStore | undefined;
  #collections = 0;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  pick(count: number): number {
    return Math.floor(this.random() * count);
  }

  async go(): Promise<number> {
    const segmentCount = 16 + this.pick(16);
    const store = await this.#open(segmentCount);
    this.#store = store;
    // From a third full to hopelessly full.
    const share = 0.3 + 0.5 * this.random();
    const blocks = Math.floor((segmentCount * SEGMENT * share) / BLOCK_SIZE);
    for (const name of ['a', 'b']) {
      const volume = await store.openVolume(name, Math.floor(blocks / 2) * BLOCK_SIZE);
      const committed = new CommittedDevice(volume, this.pick(2) === 0, CLIENTS, () => {});
      const memory = { bytes: Buffer.alloc(CLIENTS * SLOT), region: 0 };
      this.#clients.push(new DeviceClient(new OrderedDevice(committed), memory, SLOT, 0));
    }
    const failAfter = this.pick(2) === 0 ? this.pick(400) : Number.POSITIVE_INFINITY;
    let calls = 0;
    // From some call on the disk is broken, or never.
    const broken = this.pick(2) === 0 ? 'sync' : 'write';
    this.#disk.fault = (op) => (op === broken && ++calls > failAfter ? 'EIO' : undefined);
    const endMs = performance.now() + LOAD_MS;
    const isOver = () => performance.now() > endMs || store.failure !== undefined;
    const workers = Array.from({ length: CLIENTS }, () => this.#work(blocks / 2, isOver));
    await Promise.all([...workers, this.#manage(isOver)]);
    if (failAfter === Number.POSITIVE_INFINITY) expect(store.failure).toBeUndefined();
    await this.outstanding.watch('close', store.close()).catch(() => {});
    return this.#collections;
  }

  #open(segmentCount: number): Promise<CasStore> {
    return openTiny(delayed(this.#disk, this), {
      segmentBytes: SEGMENT,
      capacityBytes: segmentCount * SEGMENT,
      cacheBytes: (8 + this.pick(64)) * BLOCK_SIZE,
      batchBlocks: 2 + this.pick(6),
      checkpointBytes: (1 + this.pick(8)) * SEGMENT,
      checkpointMs: this.pick(2) * 5,
      queuedMax: this.pick(2) === 0 ? 4 : 1024,
      spareCount: 1 + this.pick(2),
      makeRoom: () => this.outstanding.watch('makeRoom', this.#makeRoom()),
    });
  }

  async #makeRoom(): Promise<boolean> {
    if (this.#store === undefined) return false;
    this.#collections++;
    const collected = await collect(this.#store, { enoughBytes: 4 * SEGMENT }).catch(() => {});
    return collected !== undefined && collected.freedSegments > 0;
  }

  async #work(blocks: number, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const client = this.#clients[this.pick(2)] as DeviceClient;
      const count = 1 + this.pick(3);
      const lba = this.pick(blocks - count);
      const start = lba * BLOCK_SIZE;
      const choice = this.pick(40);
      const watch = (name: string, work: Promise<unknown>) =>
        this.outstanding.watch(`${name} ${lba}+${count}`, work).catch(() => {});
      if (choice === 0) await watch('flush', client.flush());
      else if (choice < 3) await watch('trim', client.trim(start + 512, count * BLOCK_SIZE));
      else if (choice < 5) await watch('read', client.read(start, BLOCK_SIZE));
      else if (choice < 8) await watch('part', client.write(start + 1024, Buffer.alloc(512, lba)));
      else {
        const content = Array.from({ length: count }, () => blockOf(1 + this.pick(1e6)));
        await watch('write', client.write(start, Buffer.concat(content)));
      }
      await pause(this.random);
    }
  }

  /** Snapshots, checkpoints and collections that nobody waits for. */
  async #manage(isOver: () => boolean): Promise<void> {
    const store = this.#store as CasStore;
    for (let step = 0; !isOver(); step++) {
      await new Promise((resolve) => setTimeout(resolve, this.pick(40)));
      const choice = this.pick(3);
      const work = async () => {
        if (choice === 0) await store.checkpoint();
        else if (choice === 1) await collect(store);
        else {
          await store.changes.snapshot('a', `s${step}`);
          await store.changes.deleteSnapshot(`s${step}`);
        }
      };
      await this.outstanding.watch(`managing ${choice}`, work()).catch(() => {});
    }
  }
}

/** Ends with `work`, or fails when nothing has ended for a while. */
async function unlessStuck<T>(run: Run, work: Promise<T>): Promise<T> {
  const { outstanding } = run;
  let [seen, looks] = [0, 0];
  let timer: NodeJS.Timeout | undefined;
  const stuck = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      looks = outstanding.endedCount === seen ? looks + 1 : 0;
      seen = outstanding.endedCount;
      if (looks > LOOKS_MAX) reject(new Error(`nothing goes on; outstanding: ${outstanding}`));
    }, LOOK_MS);
  });
  return Promise.race([work, stuck]).finally(() => clearInterval(timer));
}

describe('the content-addressed store on a slow and failing disk', () => {
  it(
    'ends every request',
    async () => {
      const { CasEngine: Engine } = native;
      let run: Run;
      native.CasEngine = new Proxy(Engine, {
        construct: (target, [indexBytesMax]) =>
          delayed(new target(indexBytesMax as number), run, SLOW_CALLS),
      });
      const endMs = Date.now() + BUDGET_MS;
      let [seed, collections, ended] = [FIRST_SEED, 0, 0];
      for (; Date.now() < endMs; seed++) {
        run = new Run(seed);
        collections += await unlessStuck(run, run.go()).catch((cause) => {
          throw new Error(`AOE_CAS_LIVENESS_SEED=${seed}`, { cause });
        });
        ended += run.outstanding.endedCount;
      }
      native.CasEngine = Engine;
      console.log(`seeds ${FIRST_SEED} to ${seed - 1}: ${ended} ended, ${collections} collections`);
      expect(collections).toBeGreaterThan(0);
    },
    BUDGET_MS + 60_000,
  );
});
