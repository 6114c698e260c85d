/**
 * Coverage-guided fuzzing: inputs that run code which none ran before, or come out as none did,
 * are kept, and new inputs are made from those.
 */
import { Random } from '../protocol/random-frames.ts';
import type { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';

/** A look at the coverage costs as much as this many inputs. */
const INPUTS_PER_LOOK = 32;

/** What is fuzzed. */
export interface Target {
  /** What the first inputs are made from. */
  readonly seeds: readonly Buffer[];
  readonly words: readonly Buffer[];
  /**
   * Tries one input; each meets the same circumstances.
   *
   * @returns what came of it, in words of few kinds
   * @throws what is tested did what it must not
   */
  fuzz(input: Buffer): Promise<readonly string[]>;
}

export interface Finding {
  readonly input: Buffer;
  readonly error: unknown;
}

export class FuzzLoop {
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #random: Random;
  /** Each showed something new when it was added. */
  readonly corpus: Buffer[] = [];
  /** Those of them that ran new code. */
  readonly discoveries: Buffer[] = [];
  readonly #outcomes = new Set<string>();
  executions = 0;
  /** Where to look when nothing moves any more. */
  current: Buffer = Buffer.alloc(0);

  constructor(target: Target, coverage: Coverage, seed: number) {
    this.#target = target;
    this.#coverage = coverage;
    this.#random = new Random(seed);
  }

  /** Different outcomes so far. */
  get outcomes(): number {
    return this.#outcomes.size;
  }

  /** Tries `inputs` first, then new ones until `deadline` (of performance.now). */
  async run(inputs: readonly Buffer[], deadline: number): Promise<Finding | undefined> {
    try {
      for (const input of inputs) await this.#tryAlone(input);
      while (performance.now() < deadline) await this.#tryTogether();
    } catch (error) {
      return { input: this.current, error };
    }
    return undefined;
  }

  /** Tries some inputs, and each of them again if they ran anything new. */
  async #tryTogether(): Promise<void> {
    const { words } = this.#target;
    const sources = { random: this.#random, corpus: this.corpus, words };
    const inputs: Buffer[] = [];
    for (let count = 0; count < INPUTS_PER_LOOK; count++) {
      const input = mutate(this.#choose(), sources);
      if (await this.#try(input)) this.corpus.push(input);
      else inputs.push(input);
    }
    if (!this.#coverage.hasNew()) return;
    for (const input of inputs) await this.#tryAlone(input);
  }

  /** New code leads to more of it; it is seldom reached, so that its inputs would be few. */
  #choose(): Buffer {
    const ranNew = this.discoveries.length > 0 && this.#random.oneIn(2);
    return this.#random.pick(ranNew ? this.discoveries : this.corpus);
  }

  async #tryAlone(input: Buffer): Promise<void> {
    const isNew = await this.#try(input);
    const ranNew = this.#coverage.look();
    if (ranNew) this.discoveries.push(input);
    if (ranNew || isNew) this.corpus.push(input);
  }

  /** @returns is the outcome new? */
  async #try(input: Buffer): Promise<boolean> {
    this.current = input;
    this.executions++;
    const before = this.#outcomes.size;
    for (const outcome of await this.#target.fuzz(input)) this.#outcomes.add(outcome);
    return this.#outcomes.size > before;
  }
}
