/** What is done with whole volumes and snapshots while requests are in flight. */
import { receiveSnapshot } from '../../../src/backends/cas/receive.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import { sendSnapshot } from '../../../src/backends/cas/send.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { IncomingTransfer } from '../../../src/backends/cas/transfer-stream.ts';
import { Disk, readSnapshot } from './concurrent-disk.ts';
import { type Chance, only, type Tags } from './concurrent-model.ts';

/** About so many are kept: all are compared in the end. */
const DISKS = 3;
const SNAPSHOTS = 4;
/** Of snapshots that are the same a receiver takes any for the base: none is deleted meanwhile. */
const BASES = 'bases';

export class Changes {
  readonly #store: CasStore;
  readonly #chance: Chance;
  readonly #disks: Disk[];
  readonly #snapshots: Map<string, Tags>;
  /** With what something is done that nothing else may come between. */
  readonly #busy = new Set<unknown>();

  /** Keeps account of disks and snapshots there. */
  constructor(store: CasStore, chance: Chance, disks: Disk[], snapshots: Map<string, Tags>) {
    this.#store = store;
    this.#chance = chance;
    this.#disks = disks;
    this.#snapshots = snapshots;
  }

  /** Makes a change at random, or none if what it would be made with is busy. */
  async make(): Promise<void> {
    const choice = this.#chance.pick(16);
    if (choice < 4) await this.#withIdle(this.#disks, (disk) => this.#takeSnapshot(disk));
    else if (choice < 6) await this.#withSnapshot((name, tags) => this.#compare(name, tags));
    else if (choice < 9) await this.#withIdle([BASES], () => this.#deleteSnapshot());
    else if (choice === 9) await this.#withIdle(this.#disks, (disk) => this.#rollBack(disk));
    else if (choice < 12) await this.#withSource((name, tags) => this.#clone(name, tags));
    else if (choice === 12) await this.#deleteDisk();
    else if (choice === 13) await this.#withIdle([BASES], () => this.#copy());
    else if (choice === 14) await this.#store.checkpoint();
    else await requireSound(this.#store);
  }

  async #takeSnapshot(disk: Disk): Promise<void> {
    const name = this.#chance.name('snapshot');
    const watched = disk.model.watch();
    await this.#store.changes.snapshot(disk.name, name);
    const possible = watched();
    const tags = await readSnapshot(this.#store, name, possible);
    disk.model.requireOneMoment(tags);
    this.#snapshots.set(name, tags);
  }

  async #compare(name: string, tags: Tags): Promise<void> {
    await readSnapshot(this.#store, name, only(tags));
  }

  async #deleteSnapshot(): Promise<void> {
    if (this.#snapshots.size < SNAPSHOTS) return;
    await this.#withSnapshot(async (name) => {
      this.#snapshots.delete(name);
      await this.#store.changes.deleteSnapshot(name);
    });
  }

  async #rollBack(disk: Disk): Promise<void> {
    await this.#withSource((name, tags) =>
      disk.whilePaused(async () => {
        await this.#store.changes.rollback(disk.name, name, true);
        disk.model.reset(tags);
        await disk.compare();
      }),
    );
  }

  async #clone(name: string, tags: Tags): Promise<void> {
    if (this.#disks.length > DISKS) return;
    const clone = this.#chance.name('disk');
    await this.#store.changes.clone(name, clone);
    const disk = await Disk.open(this.#store, this.#chance, clone, tags);
    await disk.compare();
    this.#disks.push(disk);
  }

  async #deleteDisk(): Promise<void> {
    if (this.#disks.length < DISKS) return;
    await this.#withIdle(this.#disks, (disk) =>
      disk.whilePaused(async () => {
        this.#disks.splice(this.#disks.indexOf(disk), 1);
        await disk.close();
        await this.#store.changes.deleteVolume(disk.name);
      }),
    );
  }

  /** Sends something to the store itself, in whole or what has changed since a snapshot. */
  async #copy(): Promise<void> {
    await this.#withSource(async (name, tags) => {
      const copy = this.#chance.name('copy');
      const receive = async (baseName?: string) => {
        const stream = sendSnapshot(this.#store, name, { baseName });
        await receiveSnapshot(this.#store, copy, await IncomingTransfer.open(stream));
        this.#snapshots.set(copy, tags);
      };
      if (this.#chance.pick(2) === 0) await receive();
      else await this.#withSnapshot((baseName) => receive(baseName));
    });
  }

  /** Does something with the content of a snapshot, or of a disk that is paused meanwhile. */
  async #withSource(work: (name: string, tags: Tags) => Promise<void>): Promise<void> {
    if (this.#chance.pick(2) === 0) return this.#withSnapshot(work);
    return this.#withIdle(this.#disks, (disk) =>
      disk.whilePaused(async () => {
        // With a write cache it may be in memory only.
        await disk.write();
        await work(disk.name, disk.model.newest());
      }),
    );
  }

  #withSnapshot(work: (name: string, tags: Tags) => Promise<void>): Promise<void> {
    const names = [...this.#snapshots.keys()];
    return this.#withIdle(names, (name) => work(name, this.#snapshots.get(name) as Tags));
  }

  /** Does something with one that is not busy, if there is one. */
  async #withIdle<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
    const idle = all.filter((one) => !this.#busy.has(one));
    if (idle.length === 0) return;
    const one = idle[this.#chance.pick(idle.length)] as T;
    this.#busy.add(one);
    await work(one);
    this.#busy.delete(one);
  }
}

/** @throws something in the store is damaged */
export async function requireSound(store: CasStore): Promise<void> {
  const { damage } = await scrub(store);
  if (damage.length > 0) throw new Error(`damaged: ${JSON.stringify(damage)}`);
}
