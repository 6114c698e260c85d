/**
 * The targets of one data path, from the moment they are opened until they are closed.
 *
 * A target is prepared (open, and unknown to initiators), served (it gets requests), or drained:
 * it gets none, has none in flight, and all its writes are durable. A drained one may be closed.
 *
 * Invariants:
 * - `#opened` has those that are served or drained; the target table has those that are served.
 * - One prepared under the address of a drained and closed one takes its place when it is served.
 *   Until then nothing of it is durable, so that the old one can be opened again as it was.
 */
import type { Logger } from 'pino';
import { addressOf } from './aoe/codec/header.ts';
import { type Share, takes } from './aoe/share.ts';
import type { ListChange } from './aoe/target-state.ts';
import type { TargetTable } from './aoe/target-table.ts';
import { storePathOf, whenStoreClosed } from './backends/index.ts';
import type { TargetConfig } from './config/config.ts';
import { inLanes } from './core/lanes.ts';
import { requireAnswers } from './hanging-storage.ts';
import { tryTarget } from './open-target.ts';
import type { TargetStatus } from './status.ts';
import { type StoredTarget, TargetStorage, type TargetStorageOptions } from './target-storage.ts';
import { allEnded } from './wait-while.ts';

/** So that a start does not wait for one disk after the other. */
const KEPT_AT_ONCE = 16;

export interface ServedTargetsOptions extends TargetStorageOptions {
  /** Those that get requests. */
  readonly table: TargetTable;
  readonly share: Share;
}

export class ServedTargets {
  readonly #options: ServedTargetsOptions;
  readonly #table: TargetTable;
  readonly #log: Logger;
  readonly #storage: TargetStorage;
  readonly #prepared: StoredTarget[] = [];
  /** By address. */
  readonly #opened = new Map<number, StoredTarget>();

  constructor(options: ServedTargetsOptions) {
    this.#options = options;
    this.#table = options.table;
    this.#log = options.log;
    this.#storage = new TargetStorage(options);
  }

  /** Does a target's own flush go on? */
  get isFlushing(): boolean {
    return this.#storage.isFlushing;
  }

  /**
   * Looks whether targets can be replaced by `configs`, and those that are served opened again as
   * they are, as far as that can be seen while they are served.
   *
   * @throws {StartupError} one cannot
   */
  async try(configs: readonly TargetConfig[]): Promise<void> {
    for (const next of configs) {
      const opened = this.#opened.get(addressOf(next));
      if (opened === undefined) continue;
      const { target, config } = opened;
      const { sizeBytes } = target.device;
      await this.#options.services.state.load(next.name);
      await requireAnswers([next]);
      // Storage that has grown never shrinks: whether a size can be saved must be known before.
      if (tryTarget(next, sizeBytes)) await target.remember();
      if (this.#table.find(target.address) === undefined) continue;
      await requireAnswers([config]);
      tryTarget(config, sizeBytes);
    }
  }

  /**
   * Prepares those of `configs` that belong to the share.
   *
   * @throws {StartupError} one cannot be opened; call {@link discard} then
   */
  async open(configs: readonly TargetConfig[]): Promise<void> {
    for (const config of configs) {
      if (takes(this.#options.share, addressOf(config)))
        this.#prepared.push(await this.#open(config));
    }
  }

  /** Makes durable what initiators will see of prepared targets. */
  async remember(): Promise<void> {
    await inLanes(KEPT_AT_ONCE, this.#prepared.values(), (opened) =>
      this.#storage.remember(opened),
    );
  }

  /** Serves and announces prepared targets; those at the addresses `drained` are drained instead. */
  async serve(drained: readonly number[]): Promise<void> {
    for (const opened of this.#prepared.splice(0)) {
      const { address } = opened.target;
      this.#opened.set(address, opened);
      if (!drained.includes(address)) this.#serve(opened);
    }
  }

  /** Closes prepared targets. */
  async discard(): Promise<void> {
    const prepared = this.#prepared.splice(0);
    const closed = await Promise.allSettled(prepared.map((opened) => this.#storage.close(opened)));
    for (const result of closed) {
      if (result.status === 'rejected') this.#log.error(result.reason, 'cannot close a new target');
    }
  }

  /**
   * Drains targets: all of those at `addresses`, or none.
   *
   * @returns addresses of those that were served until now
   * @throws {StartupError} storage hangs, or fails
   */
  async drain(addresses: readonly number[]): Promise<number[]> {
    const served = this.#at(addresses).filter(({ target }) => {
      return this.#table.remove(target.address) !== undefined;
    });
    try {
      await allEnded(served.map((opened) => this.#storage.endRequests(opened)));
    } catch (error) {
      for (const { target } of served) this.#table.add(target);
      throw error;
    }
    return served.map(({ target }) => target.address);
  }

  /**
   * Closes the storage of drained targets.
   *
   * @throws {StartupError} it hangs
   */
  async close(addresses: readonly number[]): Promise<void> {
    await Promise.all(this.#at(addresses).map((opened) => this.#storage.close(opened)));
  }

  /**
   * Closes the stores that closed targets are in, and with them all drained targets.
   *
   * @throws {StartupError} one hangs, or is in use for something else
   */
  async closeStores(addresses: readonly number[]): Promise<void> {
    const paths = new Set(this.#at(addresses).flatMap(({ config }) => storesOf(config)));
    const drained = [...this.#opened.values()].filter(({ target, config }) => {
      const isServed = this.#table.find(target.address) !== undefined;
      return !isServed && storesOf(config).some((path) => paths.has(path));
    });
    await Promise.all(drained.map((opened) => this.#storage.close(opened)));
    for (const path of paths) await whenStoreClosed(path);
  }

  /**
   * Serves and announces drained targets. Storage that was closed is opened as it was configured.
   *
   * @throws {StartupError} it cannot be opened; the target stays drained
   */
  async resume(addresses: readonly number[]): Promise<void> {
    for (const opened of this.#at(addresses)) {
      if (this.#table.find(opened.target.address) !== undefined) continue;
      this.#serve(opened.closing !== undefined ? await this.#reopen(opened) : opened);
    }
  }

  /**
   * Takes no more requests for targets, ends those in flight, and closes them.
   * What hangs goes on beside others; see {@link unclosed}.
   */
  async remove(addresses: readonly number[]): Promise<void> {
    const removed = this.#at(addresses);
    for (const { target } of removed) {
      this.#opened.delete(target.address);
      this.#table.remove(target.address);
    }
    await Promise.all(removed.map((opened) => this.#storage.retire(opened)));
  }

  /** Addresses of removed targets that are not closed yet: their storage may still be at work. */
  async unclosed(): Promise<number[]> {
    return this.#storage.unclosed;
  }

  /** Replaces lists of the target with this address, durably. @returns false when it is gone */
  async setLists(address: number, lists: ListChange): Promise<boolean> {
    const target = this.#opened.get(address)?.target;
    await target?.setLists(lists);
    return target !== undefined;
  }

  /** Those that there are now, one after the other, but for those that are gone by their turn. */
  *status(): Generator<TargetStatus> {
    for (const address of [...this.#opened.keys()]) {
      const opened = this.#opened.get(address);
      if (opened !== undefined) yield opened.status(this.#table.find(address) === undefined);
    }
  }

  /**
   * Closes all but those with a request or a flush in flight: their files must stay open for it.
   *
   * @throws what the first said that failed, or hangs
   */
  async closeAll(): Promise<void> {
    this.#storage.stop();
    await this.discard();
    await this.#storage.closeAll(this.#opened.values());
  }

  #at(addresses: readonly number[]): StoredTarget[] {
    return addresses.flatMap((address) => this.#opened.get(address) ?? []);
  }

  #serve({ target }: StoredTarget): void {
    this.#table.add(target);
    this.#options.announce(target);
  }

  #open(config: TargetConfig): Promise<StoredTarget> {
    return this.#storage.open(config, this.#opened.get(addressOf(config)));
  }

  async #reopen({ config, target }: StoredTarget): Promise<StoredTarget> {
    const opened = await this.#open(config);
    try {
      await this.#storage.remember(opened);
    } catch (error) {
      await this.#storage.close(opened);
      throw error;
    }
    this.#opened.set(target.address, opened);
    return opened;
  }
}

function storesOf({ backend }: TargetConfig): string[] {
  const path = storePathOf(backend);
  return path === undefined ? [] : [path];
}
