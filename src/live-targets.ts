/**
 * The targets of a running server, over all its data paths: how they come, change and go while
 * others are served. One change at a time.
 */
import type { Logger } from 'pino';
import { addressOf } from './aoe/codec/header.ts';
import { takes } from './aoe/share.ts';
import type { ListChange } from './aoe/target-state.ts';
import { findMovedStorage, type TargetChange } from './config/compare.ts';
import type { TargetConfig } from './config/config.ts';
import { StartupError } from './core/startup-error.ts';
import { whoAnswer } from './hanging-storage.ts';
import { allEnded } from './wait-while.ts';
import type { TargetCalls } from './worker-thread.ts';

interface Part {
  readonly targets: TargetCalls;
}

/** A change has failed, and not all is as it was before. */
export class UnrestoredError extends StartupError {
  readonly isUnrestored = true;
}

export class LiveTargets {
  readonly #parts: readonly Part[];
  readonly #log: Logger;
  /** Targets that were removed while their storage hung: it may still execute writes. */
  #unclosed: readonly TargetConfig[] = [];
  #isStopped = false;

  constructor(parts: readonly Part[], log: Logger) {
    this.#parts = parts;
    this.#log = log;
  }

  /**
   * Refuses storage that goes from one of the targets `now` to another: new targets are opened
   * before old ones are closed. Also refuses a target whose storage hung when it was removed, and
   * still does.
   *
   * @throws {StartupError}
   */
  async refuseMovedStorage(
    now: readonly TargetConfig[],
    { added, changed }: TargetChange,
  ): Promise<void> {
    await this.#forgetClosed();
    const opened = [...added, ...changed];
    if (opened.length === 0) return;
    this.#refuseUnclosed(opened);
    const names = new Set(changed.map(({ name }) => name));
    // What hangs is not compared: what is new has answered, so it is not the same storage.
    const known = await whoAnswer([...now, ...this.#unclosed]);
    const kept = known.filter(({ name }) => !names.has(name));
    const moved = findMovedStorage(known, added) ?? findMovedStorage(kept, changed);
    if (moved === undefined) return;
    throw new StartupError(
      moved,
      'reload twice: remove the other target first; if its storage hangs, wait until it is closed',
    );
  }

  /**
   * Opens what is added, replaces what has changed, and closes what is removed.
   *
   * @throws {StartupError} nothing has changed; @throws {UnrestoredError} not so
   */
  async change({ added, changed, removed }: TargetChange): Promise<void> {
    const addresses = changed.map(addressOf);
    let served: number[] = [];
    try {
      await this.#atOnce((targets) => targets.try(changed));
      await this.#inTurn((targets) => targets.open(added));
      served = await this.drain(addresses);
      await this.#atOnce((targets) => targets.close(addresses));
      await this.#inTurn((targets) => targets.open(changed));
      await this.#atOnce((targets) => targets.remember());
    } catch (error) {
      await Promise.all(this.#parts.map(({ targets }) => targets.discard()));
      throw await this.#restore(served, changed, error as Error);
    }
    const drained = addresses.filter((address) => !served.includes(address));
    await this.#atOnce((targets) => targets.serve(drained));
    await this.#remove(removed);
  }

  /**
   * Takes no more requests for targets, ends those in flight, makes all writes durable.
   *
   * @returns addresses of those that were served until now
   * @throws {StartupError} storage hangs, or fails: nothing has changed
   */
  async drain(addresses: readonly number[]): Promise<number[]> {
    this.#refuseWhenStopped();
    const results = await Promise.allSettled(
      this.#parts.map(({ targets }) => targets.drain(addresses)),
    );
    const drained = results.flatMap((result) =>
      result.status === 'fulfilled' ? result.value : [],
    );
    for (const result of results) {
      if (result.status === 'fulfilled') continue;
      await this.resume(drained);
      throw result.reason;
    }
    return drained;
  }

  /**
   * Serves and announces drained targets again.
   *
   * @throws {StartupError} storage that was closed cannot be opened; its target stays drained
   */
  async resume(addresses: readonly number[]): Promise<void> {
    await this.#atOnce((targets) => targets.resume(addresses));
  }

  /**
   * Serves a target from storage that is opened anew, and may be another file of the same name.
   *
   * @throws {StartupError} nothing has changed; @throws {UnrestoredError} it stays drained
   */
  async readd(target: TargetConfig): Promise<void> {
    const addresses = [addressOf(target)];
    await this.#atOnce((targets) => targets.try([target]));
    const served = await this.drain(addresses);
    await orStayDrained(
      target,
      this.#atOnce((targets) => targets.close(addresses)),
    );
    try {
      await this.#atOnce((targets) => targets.closeStores(addresses));
    } catch (error) {
      throw await this.#restore(served, [target], error as Error);
    }
    await orStayDrained(target, this.resume(addresses));
  }

  /** Does something while a target is drained. @throws what `work` throws */
  async whileDrained<T>(address: number, work: () => Promise<T>): Promise<T> {
    const drained = await this.drain([address]);
    try {
      this.#refuseWhenStopped();
      return await work();
    } finally {
      await this.resume(drained);
    }
  }

  /** @returns false when there is no such target */
  async setLists(address: number, lists: ListChange): Promise<boolean> {
    const count = this.#parts.length;
    const part = this.#parts.find((_, index) => takes({ index, count }, address));
    return (await part?.targets.setLists(address, lists)) ?? false;
  }

  /** Lets no change go on that has not ended: the targets are about to be closed. */
  stop(): void {
    this.#isStopped = true;
  }

  /** In a store two devices would write to one volume. */
  #refuseUnclosed(targets: readonly TargetConfig[]): void {
    const left = new Set(this.#unclosed.map(addressOf));
    const again = targets.find((target) => left.has(addressOf(target)));
    if (again === undefined) return;
    throw new StartupError(
      `the storage of ${again.name} hung when it was removed, and may still execute writes`,
      'wait until the log says that it is closed, or restart the server',
    );
  }

  async #remove(removed: readonly TargetConfig[]): Promise<void> {
    const addresses = removed.map(addressOf);
    await Promise.all(this.#parts.map(({ targets }) => targets.remove(addresses)));
    this.#unclosed = [...this.#unclosed, ...removed];
    await this.#forgetClosed();
  }

  async #forgetClosed(): Promise<void> {
    if (this.#unclosed.length === 0) return;
    const unclosed = await Promise.all(this.#parts.map(({ targets }) => targets.unclosed()));
    const left = new Set(unclosed.flat());
    this.#unclosed = this.#unclosed.filter((target) => left.has(addressOf(target)));
  }

  /** Serves targets as they were before `error`, as far as that is possible. @returns what to throw */
  async #restore(
    served: readonly number[],
    changed: readonly TargetConfig[],
    error: Error,
  ): Promise<Error> {
    const results = await Promise.allSettled(served.map((address) => this.resume([address])));
    const lost = results.flatMap((result, index) => {
      const name = changed.find((target) => addressOf(target) === served[index])?.name;
      return result.status === 'fulfilled' ? [] : [{ name, reason: result.reason as Error }];
    });
    if (lost.length === 0) return error;
    for (const { name, reason } of lost) this.#log.error(reason, `${name} is not served any more`);
    const names = lost.map(({ name }) => name).join(' ');
    const reasons = lost.map(({ name, reason }) => `${name} as it was: ${reason.message}`);
    return new UnrestoredError(
      `${error.message}; and that was not undone: ${reasons.join('; ')}`,
      `put the storage right, then: aoe-server resume ${names}`,
      { cause: error },
    );
  }

  async #inTurn(work: (targets: TargetCalls) => Promise<void>): Promise<void> {
    for (const { targets } of this.#parts) {
      this.#refuseWhenStopped();
      await work(targets);
    }
  }

  async #atOnce(work: (targets: TargetCalls) => Promise<void>): Promise<void> {
    this.#refuseWhenStopped();
    await allEnded(this.#parts.map(({ targets }) => work(targets)));
  }

  #refuseWhenStopped(): void {
    if (this.#isStopped) throw new StartupError('the server is stopping', 'start it again');
  }
}

/** @throws {UnrestoredError} `work` on the drained target has failed */
async function orStayDrained({ name }: TargetConfig, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (cause) {
    const { message, remedy = 'see the log' } = cause as StartupError;
    throw new UnrestoredError(
      `${name} stays drained: ${message}`,
      `${remedy}; then: aoe-server resume ${name}`,
      { cause },
    );
  }
}
