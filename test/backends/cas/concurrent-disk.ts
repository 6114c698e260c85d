/** A volume that many write, trim and read at once, and what it must hold. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CasDevice } from '../../../src/backends/cas/cas-device.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { SECTOR_SIZE } from '../../../src/core/block-device.ts';
import type { DeviceClient } from '../../../src/core/device-client.ts';
import {
  BLOCK_SECTORS,
  type Chance,
  contentOf,
  Model,
  only,
  recognize,
  SECTORS,
  SIZE,
  type Tags,
} from './concurrent-model.ts';
import { clientOf, orderedClient } from './tiny-store.ts';

/** Requests in flight, at most. */
export const LANES = 24;
const SLOT_SECTORS = 64;
const TRIM_SECTORS = 200;
/** Half of the requests are for these, and meet each other. */
const HOT_SECTORS = 128;

export class Disk {
  readonly name: string;
  readonly model: Model;
  readonly #device: CasDevice;
  readonly #client: DeviceClient;
  readonly #chance: Chance;
  readonly #hot: number;
  #inFlight = 0;
  #isPaused = false;

  /** Opens a volume that holds this. */
  static async open(store: CasStore, chance: Chance, name: string, tags: Tags): Promise<Disk> {
    return new Disk(await store.openVolume(name, SIZE), chance, name, tags);
  }

  private constructor(device: CasDevice, chance: Chance, name: string, tags: Tags) {
    this.name = name;
    this.model = new Model(tags);
    this.#device = device;
    this.#client = orderedClient(device, chance.hasWriteCache, LANES, SLOT_SECTORS * SECTOR_SIZE);
    this.#chance = chance;
    this.#hot = chance.pick(SECTORS - HOT_SECTORS - TRIM_SECTORS);
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Makes a request at random, and compares what is read. */
  async request(): Promise<void> {
    this.#inFlight++;
    try {
      const choice = this.#chance.pick(100);
      if (choice < 50) await this.write();
      else if (choice < 60) await this.#trim();
      else if (choice < 99) await this.#read();
      else await this.flush();
    } finally {
      this.#inFlight--;
    }
  }

  flush(): Promise<void> {
    return this.#client.flush();
  }

  /** Does something while no request is in flight. */
  async whilePaused(work: () => Promise<void>): Promise<void> {
    this.#isPaused = true;
    while (this.#inFlight > 0) await nextTurn();
    await work();
    this.#isPaused = false;
  }

  /** Compares all of it, while no request is in flight. */
  async compare(): Promise<void> {
    const tags = this.model.newest();
    await readAll(this.#device, this.name, only(tags));
    this.model.reset(tags);
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  async write(): Promise<void> {
    const [first, count] = this.#place(SLOT_SECTORS);
    const tags = this.#chance.tags(first, count);
    const answered = this.model.change(first, tags);
    await this.#client.write(first * SECTOR_SIZE, contentOf(tags));
    answered();
  }

  async #trim(): Promise<void> {
    const [first, count] = this.#place(TRIM_SECTORS);
    const answered = this.model.change(first, new Array(count).fill(0));
    await this.#client.trim(first * SECTOR_SIZE, count * SECTOR_SIZE);
    answered();
  }

  async #read(): Promise<void> {
    const [first, count] = this.#place(SLOT_SECTORS);
    // What is requested later is executed later, where it overlaps.
    const expected = only(this.model.newest(first, count));
    const bytes = await this.#client.read(first * SECTOR_SIZE, count * SECTOR_SIZE);
    recognize(this.name, first, bytes, expected);
  }

  /** Sectors, at least one: seldom many, else a few of them or of blocks. */
  #place(countMax: number): [first: number, count: number] {
    const chance = this.#chance;
    const isHot = chance.pick(2) === 0;
    let first = isHot ? this.#hot + chance.pick(HOT_SECTORS) : chance.pick(SECTORS - TRIM_SECTORS);
    if (chance.pick(3) === 0) first -= first % BLOCK_SECTORS;
    if (chance.pick(12) === 0) return [first, 1 + chance.pick(countMax)];
    if (chance.pick(3) === 0) return [first, BLOCK_SECTORS * (1 + chance.pick(4))];
    return [first, 1 + chance.pick(20)];
  }
}

/** Reads a snapshot. @throws it holds what is not possible */
export async function readSnapshot(
  store: CasStore,
  name: string,
  possible: readonly Tags[],
): Promise<Tags> {
  const device = await store.openSnapshot(name);
  const tags = await readAll(device, name, possible);
  await device.close();
  return tags;
}

async function readAll(device: CasDevice, name: string, possible: readonly Tags[]): Promise<Tags> {
  return recognize(name, 0, await clientOf(device).read(0, SIZE), possible);
}
