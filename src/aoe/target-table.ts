/** The targets by address. */
import type { AoeTarget } from './aoe-target.ts';
import { addressMatches } from './codec/header.ts';

export class TargetTable implements Iterable<AoeTarget> {
  readonly #targets = new Map<number, AoeTarget>();

  get count(): number {
    return this.#targets.size;
  }

  /** Adds a target. Its address must be free. */
  add(target: AoeTarget): void {
    if (this.#targets.has(target.address)) throw new Error(`${target.name} is taken`);
    this.#targets.set(target.address, target);
  }

  /** Takes the target with this address out; undefined when there is none. */
  remove(address: number): AoeTarget | undefined {
    const target = this.#targets.get(address);
    this.#targets.delete(address);
    return target;
  }

  /** The target with exactly this address (shelf * 256 + slot). */
  find(address: number): AoeTarget | undefined {
    return this.#targets.get(address);
  }

  /** All targets that answer to `address`, which may contain wildcards. */
  *matching(address: number): Iterable<AoeTarget> {
    for (const target of this.#targets.values()) {
      if (addressMatches(address, target.shelf, target.slot)) yield target;
    }
  }

  [Symbol.iterator](): Iterator<AoeTarget> {
    return this.#targets.values();
  }
}
