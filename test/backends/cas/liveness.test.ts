/**
 * Every request ends, however the disk and the engine delay or fail what they are asked for: small
 * stores that are nearly full, overwritten, trimmed, flushed, snapshotted and collected at once.
 */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import type { DeviceClient } from '../../../src/core/device-client.ts';
import { type Delays, delayed, Outstanding, SlowFs, unlessStuck, whileSlow } from './delays.ts';
import { seededRandom } from './sim-fs.ts';
import { blockOf, openTiny, orderedClient } from './tiny-store.ts';

/** Runs as long as it is told to, from a seed on: AOE_CAS_LIVENESS_MS, AOE_CAS_LIVENESS_SEED. */
const BUDGET_MS = Number(process.env['AOE_CAS_LIVENESS_MS'] ?? 5000);
const FIRST_SEED = Number(process.env['AOE_CAS_LIVENESS_SEED'] ?? Date.now() % 1e9);
/** Each store is under load for so long, or until it fails. */
const LOAD_MS = 250;

const SEGMENT = 128 << 10;
const CLIENTS = 12;
const SLOT = 4 * BLOCK_SIZE;

class Run implements Delays {
  readonly random: () => number;
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

  /** Waits for nothing, a microtask, a turn of the event loop, or a few milliseconds. */
  async pause(): Promise<void> {
    const choice = this.random();
    if (choice < 0.4) return;
    if (choice < 0.6) await Promise.resolve();
    else if (choice < 0.97) await new Promise((resolve) => setImmediate(resolve));
    else await new Promise((resolve) => setTimeout(resolve, 3 * this.random()));
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
      this.#clients.push(orderedClient(volume, this.pick(2) === 0, CLIENTS, SLOT));
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
      await this.pause();
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

describe('the content-addressed store on a slow and failing disk', () => {
  it(
    'ends every request',
    async () => {
      const endMs = Date.now() + BUDGET_MS;
      let [seed, collections, ended] = [FIRST_SEED, 0, 0];
      for (; Date.now() < endMs; seed++) {
        const run = new Run(seed);
        const work = whileSlow(run, () => run.go());
        collections += await unlessStuck(run.outstanding, work).catch((cause) => {
          throw new Error(`AOE_CAS_LIVENESS_SEED=${seed}`, { cause });
        });
        ended += run.outstanding.endedCount;
      }
      console.log(`seeds ${FIRST_SEED} to ${seed - 1}: ${ended} ended, ${collections} collections`);
      expect(collections).toBeGreaterThan(0);
    },
    BUDGET_MS + 60_000,
  );
});
