/** Which code this process has run, block by block, as V8 counts it. */
import { type Profiler, Session } from 'node:inspector';

/**
 * Invariant: each piece of code counts as new once. Code that was compiled before this object
 * was made is counted by function only, not by block.
 */
export class Coverage {
  readonly #session = new Session();
  readonly #covers: RegExp;
  /** For each function, by its place: which characters of its source have been run. */
  readonly #seen = new Map<string, Uint8Array>();

  /** @param covers addresses of the scripts that matter */
  constructor(covers: RegExp) {
    this.#covers = covers;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Has anything new been run since the last look? It stays new. */
  hasNew(): boolean {
    return this.#newSince(false);
  }

  /** Has anything new been run since the last look? From now on it is known. */
  look(): boolean {
    return this.#newSince(true);
  }

  #newSince(remembers: boolean): boolean {
    let isNew = false;
    // In this thread's own session the answer comes before the call returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error !== null) throw error;
      for (const { url, functions } of result) {
        if (!this.#covers.test(url)) continue;
        for (const { ranges } of functions) isNew = this.#compare(url, ranges, remembers) || isNew;
      }
    });
    return isNew;
  }

  #compare(url: string, ranges: readonly Profiler.CoverageRange[], remembers: boolean): boolean {
    const [whole] = ranges;
    if (whole === undefined || whole.count === 0) return false;
    const { startOffset: start, endOffset: end } = whole;
    const key = `${url}:${start}:${end}`;
    const ran = new Uint8Array(end - start);
    // Blocks come after those that they are in.
    for (const { startOffset, endOffset, count } of ranges) {
      ran.fill(count > 0 ? 1 : 0, startOffset - start, endOffset - start);
    }
    const seen = this.#seen.get(key) ?? new Uint8Array(end - start);
    const isNew = ran.some((value, at) => value > (seen[at] as number));
    if (remembers && isNew) {
      this.#seen.set(
        key,
        seen.map((value, at) => value | (ran[at] as number)),
      );
    }
    return isNew;
  }
}
