/**
 * The entries of a journal in a blob store that knows no conditions: it cannot refuse to create
 * what is there already. It has to be strongly consistent: a blob whose put has ended is in every
 * list that begins afterwards, until it is deleted.
 *
 *     journal-eEEEEEEEEEEEEEEEE-NNNNNNNNNNNNNNNN-NONCE   epoch, number (0: the mark of a claim)
 *
 * No two blobs ever have one name. Whoever puts something lists afterwards, and what it has put
 * counts only if nothing is there that speaks against it. Of two servers that put and then list
 * at least one sees the other one, however their requests interleave and however late they arrive;
 * clocks and waiting times decide nothing.
 *
 * Invariants:
 * - A claim puts a mark with an epoch of its own choice, higher than all that it has read, and lists.
 *   It gives up if there is an entry that it has not read, or a higher epoch, or another mark of
 *   its epoch. So at most one server ever has an epoch, and it has read every entry that
 *   counts of those below.
 * - An entry counts, and anything may be confirmed or removed because of it, once a list afterwards
 *   has shown it and no higher epoch. A server that sees a higher epoch is fenced.
 * - Entries of the highest epoch count, those below are what it began with. Each claim begins with
 *   an entry that says everything and changes nothing: it is true from the moment it is seen,
 *   whether or not the claim comes to its end.
 * - Each attempt to put an entry has a number of its own: of those whose answer was lost the
 *   later one says what became of the earlier ones, also when these arrive last.
 * - A mark is removed by its maker, once it has given up, or by the owner of a higher epoch.
 * - An entry of our epoch that we have not put ourselves is a twin's, on a copy of this machine:
 *   both have put before they listed, so one at least is fenced before anything is confirmed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { StartupError } from '../../../core/startup-error.ts';
import { numberOf, parseUniqueName, type UniqueName, uniqueName } from './blob-names.ts';
import type { EntryBlobs } from './entry-blobs.ts';
import {
  type Entry,
  FencedError,
  newNonce,
  type Owner,
  UNKNOWN_OWNER,
  VERSION,
} from './journal-entry.ts';

/** How long a claim that is under way has to come to its end, before another one goes over it. */
const WAITS_MAX = 20;
export const WAIT_MS = 250;

export class UniqueEntries {
  readonly #blobs: EntryBlobs;
  readonly #waitMs: number;
  /** The names of all entries when the journal was read. */
  #known: ReadonlySet<string> = new Set();
  /** The highest epoch when the journal was read; our own one since we have claimed it. */
  #epoch = 0;
  #mark = '';
  /** The last entry that counts. */
  #last: UniqueName | undefined;
  #lastTried = 0;
  /** Names under which an entry that does not count yet may have been put. */
  readonly #attempts = new Set<string>();

  constructor(blobs: EntryBlobs, waitMs: number) {
    this.#blobs = blobs;
    this.#waitMs = waitMs;
  }

  nameOf(entry: Entry): string {
    return uniqueName(entry);
  }

  /** The entries that count, from the last one that says everything. */
  async read(): Promise<Entry[]> {
    const found = await this.#listAfterClaims();
    const other = found.find(({ epoch }) => epoch === Number.POSITIVE_INFINITY);
    if (other !== undefined) throw new Error(`${other.name} is of another kind of journal`);
    const entries = found.filter(({ number }) => number > 0);
    this.#known = new Set(entries.map(({ name }) => name));
    this.#epoch = Math.max(0, ...found.map(({ epoch }) => epoch));
    this.#lastTried = Math.max(0, ...entries.map(({ number }) => number));
    const ours = ofHighestEpoch(entries);
    this.#last = ours.at(-1);
    return this.#last === undefined ? [] : this.#chain(this.#last, ours);
  }

  /** Puts the mark of a claim. @returns its epoch @throws {FencedError} another server was first */
  async claim(owner: Owner): Promise<number> {
    const epoch = this.#epoch + 1;
    this.#epoch = epoch;
    const mark = { version: VERSION, number: 0, epoch, owner, nonce: newNonce() };
    this.#mark = uniqueName(mark);
    try {
      await this.#blobs.put(this.#mark, mark, true);
      await this.#winEpoch();
      return epoch;
    } catch (error) {
      await this.#blobs.delete(this.#mark).catch(() => {});
      throw error;
    }
  }

  /** Where the next attempt to put an entry belongs. */
  next(): { readonly number: number; readonly after?: string; readonly abandoned: string[] } {
    this.#lastTried++;
    const after = this.#last && { after: this.#last.name };
    return { number: this.#lastTried, ...after, abandoned: [...this.#attempts] };
  }

  /** Puts an entry. @returns it: it counts then @throws {FencedError} */
  async append(entry: Entry): Promise<Entry> {
    const name = uniqueName(entry);
    this.#attempts.add(name);
    await this.#blobs.put(name, entry, true);
    const found = await this.#list(name);
    const rival = found.find((other) => this.#isRival(other));
    if (rival !== undefined) await this.#giveUp(rival);
    // A twin has taken our mark back: who had the store may not have seen it.
    const isFirst = this.#last?.epoch !== entry.epoch;
    if (isFirst && !found.some((other) => other.name === this.#mark)) {
      throw new Error(`${this.#mark} is gone: the store must be claimed again`);
    }
    this.#last = { name, epoch: entry.epoch, number: entry.number };
    this.#attempts.clear();
    return entry;
  }

  /** Removes what does not count any more since entry `base` does, which says everything. */
  async forget(base: number): Promise<void> {
    for (const { name, epoch, number } of await this.#list()) {
      const isBefore = epoch === this.#epoch && number > 0 && number < base;
      const isOld = epoch < this.#epoch || isBefore;
      if (isOld) await this.#blobs.delete(name);
    }
  }

  /** Lists, once no claim is under way any more, or for long enough. */
  async #listAfterClaims(): Promise<UniqueName[]> {
    for (let waits = 0; ; waits++) {
      const found = await this.#list();
      const entries = found.filter(({ number }) => number > 0);
      const epoch = Math.max(0, ...entries.map((entry) => entry.epoch));
      const isUnderWay = found.some((other) => other.epoch > epoch);
      if (!isUnderWay || waits === WAITS_MAX) return found;
      await delay(this.#waitMs);
    }
  }

  /** Follows entries back from the last one. */
  async #chain(last: UniqueName, ours: readonly UniqueName[]): Promise<Entry[]> {
    const accounted = new Set<string>();
    const chain: Entry[] = [];
    for (let at: UniqueName | undefined = last; at !== undefined; ) {
      const entry: Entry = await this.#blobs.read(at);
      chain.unshift(entry);
      for (const name of [at.name, ...(entry.abandoned ?? [])]) accounted.add(name);
      at = entry.base === entry.number ? undefined : parseUniqueName(entry.after ?? '');
    }
    const { base } = chain[0] as Entry;
    const stray = ours.find(({ name, number }) => number >= base && !accounted.has(name));
    if (stray === undefined) return chain;
    throw new StartupError(
      `two servers have gone on from one entry of the journal: ${stray.name} and ${last.name}`,
      'find out what either has confirmed, and remove the other one from the blob store',
    );
  }

  /** The claim with the first mark waits for the others of its epoch to give up. */
  async #winEpoch(): Promise<void> {
    for (let waits = 0; ; waits++) {
      const found = await this.#list(this.#mark);
      const isNew = ({ name, epoch, number }: UniqueName) =>
        epoch > this.#epoch || (number > 0 && !this.#known.has(name));
      const newer = found.find(isNew);
      if (newer !== undefined) throw new FencedError(await this.#blobs.ownerOf(newer));
      const [rival] = found.filter(
        ({ name, epoch }) => epoch === this.#epoch && name !== this.#mark,
      );
      if (rival === undefined) return;
      if (rival.name < this.#mark || waits === WAITS_MAX) {
        throw new FencedError(await this.#blobs.ownerOf(rival));
      }
      await delay(this.#waitMs);
    }
  }

  /** Other marks of our epoch are of claims that give up: they find ours. */
  #isRival({ name, epoch, number }: UniqueName): boolean {
    if (epoch !== this.#epoch) return epoch > this.#epoch;
    return number > (this.#last?.number ?? 0) && !this.#attempts.has(name);
  }

  /**
   * Takes back what does not count. An attempt that was under way when the machine was copied may
   * count by now: the twin has gone on from it, or a claim has.
   */
  async #giveUp(rival: UniqueName): Promise<never> {
    const entry = await this.#blobs.find(rival);
    const after = parseUniqueName(entry?.after ?? '');
    const isBeside = (after?.number ?? 0) <= (this.#last?.number ?? 0);
    const isFollower = after !== undefined && this.#attempts.has(after.name);
    const isTwins = entry !== undefined && rival.epoch === this.#epoch;
    const isOfOtherKind = rival.epoch === Number.POSITIVE_INFINITY;
    if (isOfOtherKind || (isTwins && (isBeside || isFollower))) {
      for (const name of this.#attempts) {
        if (name !== after?.name) await this.#blobs.delete(name).catch(() => {});
      }
    }
    throw new FencedError(entry?.owner ?? UNKNOWN_OWNER);
  }

  /** @param own what must be there, or a higher epoch: it was put before */
  async #list(own?: string): Promise<UniqueName[]> {
    const names = await this.#blobs.names();
    const found = names.map((name) => parseUniqueName(name) ?? ofOtherKind(name));
    const isThere = ({ name, epoch }: UniqueName) => name === own || epoch > this.#epoch;
    if (own === undefined || found.some(isThere)) return found;
    throw new Error(`${own} was stored and is not listed: the blob store is not consistent`);
  }
}

/** Put with a condition, which somebody else was able to use: no claim goes over that. */
function ofOtherKind(name: string): UniqueName {
  return { name, epoch: Number.POSITIVE_INFINITY, number: numberOf(name) };
}

function ofHighestEpoch(entries: readonly UniqueName[]): UniqueName[] {
  const highest = Math.max(...entries.map(({ epoch }) => epoch));
  const ours = entries.filter(({ epoch }) => epoch === highest);
  return ours.sort((one, other) => one.number - other.number);
}
