import { describe, expect, it } from 'vitest';
import {
  BlobConditionError,
  type BlobInfo,
  BlobMissingError,
  type BlobStore,
} from '../../../../src/backends/cas/blob-store.ts';
import { parseUniqueName, partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import {
  type Entry,
  FencedError,
  newNonce,
  type Part,
} from '../../../../src/backends/cas/remote/journal-entry.ts';
import { seededRandom } from '../sim-fs.ts';

const SCHEDULES = 300;
const SEGMENTS = 3;

/** What a service holds; each request takes effect in steps that a random number puts in order. */
class Service {
  readonly blobs = new Map<string, Uint8Array>();
  readonly #ownerOfEpoch = new Map<number, string>();
  readonly #random: () => number;
  readonly #steps: (() => void)[] = [];
  /** How often an answer is lost; what was asked for may come about much later. */
  lossRate = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  step(): Promise<void> {
    return new Promise((resolve) => this.#steps.push(resolve));
  }

  /** Lets all go on, one step at a time, until that is done. */
  async run<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const end = (): void => {
      isDone = true;
    };
    work.then(end, end);
    while (!isDone) {
      // What follows from the last step, as far as it needs no other.
      await new Promise(setImmediate);
      const index = Math.floor(this.#random() * this.#steps.length);
      this.#steps.splice(index, 1)[0]?.();
    }
    return work;
  }

  /** For one server; `isAtOnce` for one who looks at it from outside. */
  open(isAtOnce = false): BlobStore {
    const { blobs } = this;
    const note = this.#note.bind(this);
    const step = isAtOnce ? async () => {} : () => this.step();
    const change = async (work: () => void): Promise<void> => {
      await step();
      if (!isAtOnce && this.#random() < this.lossRate) {
        void step()
          .then(step)
          .then(step)
          .then(() => this.#random() < 0.7 && work());
        throw new Error('no answer');
      }
      work();
      await step();
    };
    return {
      put(name, bytes, isUnique = false) {
        if (!isUnique) return Promise.reject(new BlobConditionError(name));
        note(name, bytes);
        return change(() => void blobs.set(name, bytes));
      },
      delete: (name) => change(() => void blobs.delete(name)),
      async getRange(name, offset, length) {
        await step();
        const bytes = blobs.get(name);
        if (bytes === undefined) throw new BlobMissingError(name);
        return bytes.slice(offset, offset + length);
      },
      list: (prefix) => this.#list(prefix, step),
    };
  }

  /** At most one server ever has an epoch. */
  #note(name: string, bytes: Uint8Array): void {
    if ((parseUniqueName(name)?.number ?? 0) === 0) return;
    const { epoch, owner } = JSON.parse(new TextDecoder().decode(bytes)) as Entry;
    const first = this.#ownerOfEpoch.get(epoch) ?? owner.host;
    expect(owner.host).toBe(first);
    this.#ownerOfEpoch.set(epoch, first);
  }

  /** A list is no snapshot: it is gathered from several places, in any order. */
  async *#list(prefix: string, step: () => Promise<void>): AsyncIterable<BlobInfo> {
    const found: BlobInfo[] = [];
    const turn = Math.floor(this.#random() * 3);
    for (let part = 0; part < 3; part++) {
      await step();
      for (const [name, { length }] of this.blobs) {
        const place = (name.charCodeAt(name.length - 1) + turn) % 3;
        if (name.startsWith(prefix) && place === part) found.push({ name, sizeBytes: length });
      }
    }
    await step();
    yield* found.sort((one, other) => (one.name < other.name ? -1 : 1));
  }
}

/** What all servers of a schedule have confirmed. */
class Ledger {
  readonly #service: Service;
  /** Of each segment, its newest part that was confirmed. */
  readonly #confirmed = new Map<number, Part>();
  /** Epochs of claims that have come to their end. */
  readonly epochs: number[] = [];

  constructor(service: Service) {
    this.#service = service;
  }

  get owner(): number {
    return Math.max(0, ...this.epochs);
  }

  claimed(epoch: number): void {
    expect(this.epochs).not.toContain(epoch);
    this.epochs.push(epoch);
  }

  confirmed(segment: number, part: Part): void {
    this.#confirmed.set(segment, part);
  }

  /** Does the journal have all that was confirmed, or what came after, and is all of it there? */
  async check(): Promise<void> {
    const { image } = await Journal.read(this.#service.open(true), { waitMs: 0 });
    for (const [segment, [part]] of image.segments) {
      expect(this.#service.blobs.has(partName(segment, part as Part))).toBe(true);
    }
    for (const [segment, [, to]] of this.#confirmed) {
      expect(image.segments.get(segment)?.[0]?.[1]).toBeGreaterThanOrEqual(to);
    }
  }
}

interface Server {
  readonly service: Service;
  readonly ledger: Ledger;
  readonly host: string;
  readonly random: () => number;
}

/** Stores parts, one replacing the other, and removes what the journal does not name any more. */
async function append(server: Server, blobs: BlobStore, journal: Journal): Promise<void> {
  const segment = 1 + Math.floor(server.random() * SEGMENTS);
  const before = journal.image.segments.get(segment)?.[0];
  const part: Part = [0, (before?.[1] ?? 0) + 1, journal.epoch, 0, newNonce()];
  await blobs.put(partName(segment, part), Uint8Array.of(1), true);
  const { owner } = server.ledger;
  await journal.append({ segments: new Map([[segment, [part]]]) });
  // Whoever begins an entry when another server has the store does not get it confirmed.
  expect(owner).toBeLessThanOrEqual(journal.epoch);
  server.ledger.confirmed(segment, part);
  await server.ledger.check();
  if (before !== undefined) await blobs.delete(partName(segment, before)).catch(() => {});
  await server.ledger.check();
}

/** @returns undefined when it has not got the store */
async function claim(server: Server, mayTakeOver: boolean): Promise<Journal | undefined> {
  try {
    const journal = await Journal.read(server.service.open(), { waitMs: 0 });
    if (!journal.isFree && !mayTakeOver) return undefined;
    await journal.claim({ id: newNonce(), host: server.host });
    server.ledger.claimed(journal.epoch);
    await server.ledger.check();
    return journal;
  } catch (error) {
    if (server.service.lossRate > 0 && (error as Error).message === 'no answer') return undefined;
    if (error instanceof FencedError) return undefined;
    // An owner that is fenced takes entries back while they are read.
    if (error instanceof BlobMissingError) return undefined;
    throw error;
  }
}

/** Appends until it is fenced, or so many entries are confirmed. */
async function work(server: Server, journal: Journal, count: number): Promise<void> {
  const blobs = server.service.open();
  for (let done = 0; done < count; ) {
    try {
      await append(server, blobs, journal);
      done++;
    } catch (error) {
      if (error instanceof FencedError) return;
      if ((error as Error).message !== 'no answer') throw error;
    }
  }
}

describe('a journal whose entries have unique names', () => {
  function newServers(seed: number): Server[] {
    const random = seededRandom(seed);
    const service = new Service(random);
    const ledger = new Ledger(service);
    return ['a', 'b', 'c'].map((host) => ({ service, ledger, host, random }));
  }

  it('has one owner at most of those that claim it at once, and mostly one', async () => {
    let claims = 0;
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      const servers = newServers(seed);
      const { service, ledger } = servers[0] as Server;
      const starts = servers.map((server) => claim(server, false));
      await service.run(Promise.all(starts));
      expect(ledger.epochs.length, `schedule ${seed}`).toBeLessThanOrEqual(1);
      claims += ledger.epochs.length;
    }
    expect(claims).toBeGreaterThan(0.9 * SCHEDULES);
  }, 120_000);

  for (const lossRate of [0, 0.05]) {
    it(`loses nothing that was confirmed when servers take it over, ${lossRate} lost`, async () => {
      let takeOvers = 0;
      for (let seed = 1; seed <= SCHEDULES; seed++) {
        const servers = newServers(seed);
        const [first, ...others] = servers as [Server, Server, Server];
        const { service, ledger } = first;
        const start = claim(first, false);
        const journal = await service.run(start);
        service.lossRate = lossRate;
        const works = [work(first, journal as Journal, 12)];
        for (const server of others) {
          const life = async (): Promise<void> => {
            for (let wait = Math.floor(server.random() * 60); wait > 0; wait--) {
              await service.step();
            }
            const taken = await claim(server, true);
            if (taken !== undefined) await work(server, taken, 4);
          };
          works.push(life());
        }
        await service.run(Promise.all(works));
        await ledger.check();
        takeOvers += ledger.epochs.length - 1;
      }
      expect(takeOvers).toBeGreaterThan(SCHEDULES / 4);
    }, 120_000);
  }
});
