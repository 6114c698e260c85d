/** What the sectors of volumes may hold while many requests for them are in flight. */
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { SECTOR_SIZE } from '../../../src/core/block-device.ts';
import { seededRandom } from './sim-fs.ts';

/** Blocks of three leaves. */
export const SIZE = 300 * BLOCK_SIZE;
export const SECTORS = SIZE / SECTOR_SIZE;
export const BLOCK_SECTORS = BLOCK_SIZE / SECTOR_SIZE;
/** Lower ones are of content that many blocks have. */
const NEW_TAGS = 100;

/** What each of some sectors holds: its content is made of its tag. */
export type Tags = readonly number[];

export const NOTHING: Tags = new Array(SECTORS).fill(0);

/** Random choices, and names and tags that were never used. */
export class Chance {
  readonly random: () => number;
  /** Of all volumes: one whose writes are flushed would flush those of others, too. */
  readonly hasWriteCache: boolean;
  nameCount = 0;
  #nextTag = NEW_TAGS;

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.hasWriteCache = seed % 2 === 1;
  }

  pick(count: number): number {
    return Math.floor(this.random() * count);
  }

  name(start: string): string {
    return `${start}${this.nameCount++}`;
  }

  /** Tags to be written: new ones, or such as make blocks that are duplicates. */
  tags(first: number, count: number): Tags {
    const indexes = [...new Array(count).keys()];
    if (this.pick(5) === 0) {
      const kind = 1 + BLOCK_SECTORS * this.pick(3);
      return indexes.map((index) => kind + ((first + index) % BLOCK_SECTORS));
    }
    const base = this.#nextTag;
    this.#nextTag += 2 * count;
    const step = 1 + this.pick(2);
    return indexes.map((index) => base + step * index);
  }
}

/** Of one sector. Moments are counted. */
interface Change {
  readonly tag: number;
  readonly requestedAt: number;
  answeredAt: number;
}

/** What a volume was given. */
export class Model {
  /** For each sector, in order. */
  #changes: Change[][] = [];
  #now = 0;

  constructor(tags: Tags) {
    this.reset(tags);
  }

  /** Takes notice of what is requested to be written. @returns what to call when it is answered */
  change(first: number, tags: Tags): () => void {
    const requestedAt = this.#now++;
    const made = tags.map((tag) => ({ tag, requestedAt, answeredAt: Number.POSITIVE_INFINITY }));
    for (const [index, change] of made.entries()) {
      (this.#changes[first + index] as Change[]).push(change);
    }
    return () => {
      const answeredAt = this.#now++;
      for (const change of made) change.answeredAt = answeredAt;
    };
  }

  /** What is there when all that was requested is answered. */
  newest(first = 0, count = SECTORS): Tags {
    const changes = this.#changes.slice(first, first + count);
    return changes.map((ofSector) => (ofSector.at(-1) as Change).tag);
  }

  /** @returns what tells, later, what each sector may have held at any moment since now */
  watch(): () => readonly Tags[] {
    const firsts = this.#changes.map((ofSector) =>
      ofSector.findLastIndex(({ answeredAt }) => answeredAt < Number.POSITIVE_INFINITY),
    );
    return () =>
      this.#changes.map((ofSector, sector) => ofSector.slice(firsts[sector]).map(({ tag }) => tag));
  }

  /** @throws these were there at no one moment: what came later than others is there without them */
  requireOneMoment(tags: Tags): void {
    let [earliest, latest] = [0, Number.POSITIVE_INFINITY];
    for (const [sector, ofSector] of this.#changes.entries()) {
      const isIt = ({ tag }: Change) => tag === tags[sector];
      const next = ofSector[ofSector.findLastIndex(isIt) + 1];
      earliest = Math.max(earliest, ofSector.find(isIt)?.requestedAt ?? 0);
      latest = Math.min(latest, next?.answeredAt ?? Number.POSITIVE_INFINITY);
    }
    if (earliest > latest) throw new Error(`it has change ${earliest}, and lacks ${latest}`);
  }

  /** Begins anew, with nothing in flight. */
  reset(tags: Tags): void {
    this.#changes = tags.map((tag) => [{ tag, requestedAt: 0, answeredAt: 0 }]);
  }
}

export function contentOf(tags: Tags): Buffer {
  return Buffer.concat(tags.map(sectorOf));
}

/** Odd ones compress; 0 is zeroes. */
function sectorOf(tag: number): Buffer {
  const words = new Uint32Array(SECTOR_SIZE / 4);
  if (tag === 0) return Buffer.from(words.buffer);
  const random = seededRandom(tag);
  const count = tag % 2 === 0 ? words.length : 4;
  for (let i = 0; i < count; i++) words[i] = random() * 2 ** 32;
  words[0] = tag;
  return Buffer.from(words.buffer);
}

/**
 * Recognizes what was read.
 *
 * @param possible for each sector from `first` on
 * @throws one of them holds something else
 */
export function recognize(
  name: string,
  first: number,
  bytes: Buffer,
  possible: readonly Tags[],
): Tags {
  return possible.map((tags, index) => {
    const sector = bytes.subarray(index * SECTOR_SIZE, (index + 1) * SECTOR_SIZE);
    const tag = sector.readUInt32LE(0);
    if (tags.includes(tag) && sector.equals(sectorOf(tag))) return tag;
    throw new Error(`sector ${first + index} of ${name} is like ${tag}, and none of ${tags}`);
  });
}

/** Where nothing else is possible. */
export function only(tags: Tags): readonly Tags[] {
  return tags.map((tag) => [tag]);
}
