/** Disks and engines that answer late, and what is waited for meanwhile. */
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { type CasEngine, native } from '../../../src/native.ts';
import { type DiskState, SimFs } from './sim-fs.ts';

/** Of the engine, what another thread does. */
const SLOW_CALLS = ['ingest', 'read', 'locate', 'move'];
/** What the engine says when it would have to wait: then another thread is asked. */
const WOULD_WAIT: Partial<Record<keyof CasEngine, number>> = {
  ingestNow: 0,
  readNow: 1,
  locateNow: -1,
};

/** Looks in a row that find no progress at a store that is stuck; delays are shorter than one. */
const LOOKS_MAX = 50;
const LOOK_MS = 100;

/** What is asked for and has not ended yet, by name. */
export class Outstanding {
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

/** Who delays what is asked for, and is told when it ends. */
export interface Delays {
  readonly outstanding: Outstanding;
  readonly random: () => number;
  pause(): Promise<void>;
}

/** `target` with delays before and after each of its methods, or those that are named. */
export function delayed<T extends object>(target: T, delays: Delays, names?: readonly string[]): T {
  return new Proxy(target, {
    get(object, key) {
      const name = String(key);
      const value: unknown = Reflect.get(object, key);
      if (typeof value !== 'function') return value;
      if (names?.includes(name) === false) return value.bind(object);
      const call = async (args: readonly unknown[]) => {
        await delays.pause();
        const result: unknown = await value.apply(object, args);
        await delays.pause();
        return result;
      };
      return (...args: unknown[]) => delays.outstanding.watch(name, call(args));
    },
  });
}

/** A disk whose files are delayed. */
export class SlowFs extends SimFs {
  readonly #delays: Delays;

  constructor(delays: Delays, base?: DiskState) {
    super(base);
    this.#delays = delays;
  }

  override async open(path: string, create: boolean): Promise<StoreFile> {
    return delayed(await super.open(path, create), this.#delays);
  }
}

/** Does something with engines that are delayed, and often do not answer at once. */
export async function whileSlow<T>(delays: Delays, work: () => Promise<T>): Promise<T> {
  const { CasEngine: Engine } = native;
  native.CasEngine = new Proxy(Engine, {
    construct(target, [indexBytesMax]) {
      const engine = new target(indexBytesMax as number);
      makeReluctant(engine, delays.random);
      return delayed(engine, delays, SLOW_CALLS);
    },
  });
  try {
    return await work();
  } finally {
    native.CasEngine = Engine;
  }
}

function makeReluctant(engine: CasEngine, random: () => number): void {
  for (const [name, answer] of Object.entries(WOULD_WAIT)) {
    const call = Reflect.get(engine, name) as (...args: unknown[]) => number;
    // For one object only: what the addon's classes have cannot be replaced.
    Object.defineProperty(engine, name, {
      value: (...args: unknown[]) => (random() < 0.5 ? answer : call.apply(engine, args)),
      configurable: true,
    });
  }
}

/** Ends with `work`, or fails when nothing has ended for a while. */
export async function unlessStuck<T>(outstanding: Outstanding, work: Promise<T>): Promise<T> {
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
