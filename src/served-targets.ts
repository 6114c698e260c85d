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
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { AoeTarget } from './aoe/aoe-target.ts';
import { addressOf, type Share, takes } from './aoe/share.ts';
import type { ListChange } from './aoe/target-state.ts';
import type { TargetTable } from './aoe/target-table.ts';
import { keepImageName, storePathOf, whenStoreClosed } from './backends/index.ts';
import type { TargetConfig } from './config/config.ts';
import { inLanes } from './core/lanes.ts';
import { Limits } from './core/limits.ts';
import { StartupError } from './core/startup-error.ts';
import { hangs, requireAnswers, within } from './hanging-storage.ts';
import { type OpenedTarget, openTarget, type TargetServices, tryTarget } from './open-target.ts';
import type { TargetStatus } from './status.ts';
import { endsWithin, waitWhile } from './wait-while.ts';

const FLUSH_MS_MAX = 10_000;
/** So that a start does not wait for one disk after the other. */
const KEPT_AT_ONCE = 16;
/** A store has more to do than to flush. */
const CLOSE_MS_MAX = 60_000;
/** How often it is looked whether storage that hung does so no more. */
const LATE_MS = 1000;

export interface ServedTargetsOptions {
  /** Those that get requests. */
  readonly table: TargetTable;
  readonly share: Share;
  readonly services: Pick<TargetServices, 'io' | 'state' | 'server' | 'makeRoom'>;
  readonly log: Logger;
  /** Tells all initiators about a target. */
  announce(target: AoeTarget): void;
}

interface ServedTarget extends OpenedTarget {
  readonly flushIndex: number;
  /** Settles when it is closed; undefined until that begins. */
  closing: Promise<void> | undefined;
}

export class ServedTargets {
  readonly #options: ServedTargetsOptions;
  readonly #table: TargetTable;
  readonly #log: Logger;
  readonly #prepared: ServedTarget[] = [];
  /** By address. */
  readonly #opened = new Map<number, ServedTarget>();
  /** Request indexes for targets' own flushes that no target has; after those of requests. */
  readonly #flushIndexes = Array.from(
    { length: Limits.targetCount },
    (_, index) => Limits.requestCount + index,
  );
  /** Addresses of targets that were removed while their storage hung, until it is closed. */
  readonly #unclosed = new Set<number>();
  #isClosed = false;
  /** Targets' own flushes that go on, also of targets that were removed meanwhile. */
  readonly #flushes = new Map<Promise<void>, ServedTarget>();

  constructor(options: ServedTargetsOptions) {
    this.#options = options;
    this.#table = options.table;
    this.#log = options.log;
  }

  /** Does a target's own flush go on? */
  get isFlushing(): boolean {
    return this.#flushes.size > 0;
  }

  /**
   * Looks whether targets can be replaced by `configs`, and those that are served opened again as
   * they are, as far as that can be seen while they are served.
   *
   * @throws {StartupError} one cannot
   */
  async try(configs: readonly TargetConfig[]): Promise<void> {
    for (const next of configs) {
      for (const { target, config } of this.#at([addressOf(next)])) {
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
    await inLanes(KEPT_AT_ONCE, this.#prepared.values(), (opened) => this.#remember(opened));
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
    const closed = await Promise.allSettled(prepared.map((opened) => this.#close(opened)));
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
    const ended = await Promise.allSettled(served.map((opened) => this.#endRequests(opened)));
    for (const result of ended) {
      if (result.status === 'fulfilled') continue;
      for (const { target } of served) this.#table.add(target);
      throw result.reason;
    }
    return served.map(({ target }) => target.address);
  }

  /**
   * Closes the storage of drained targets.
   *
   * @throws {StartupError} it hangs
   */
  async close(addresses: readonly number[]): Promise<void> {
    await Promise.all(this.#at(addresses).map((opened) => this.#close(opened)));
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
    await Promise.all(drained.map((opened) => this.#close(opened)));
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
    await Promise.all(removed.map((opened) => this.#retire(opened)));
  }

  /** Addresses of removed targets that are not closed yet: their storage may still be at work. */
  async unclosed(): Promise<number[]> {
    return [...this.#unclosed];
  }

  /** Replaces lists of the target with this address, durably. @returns false when it is gone */
  async setLists(address: number, lists: ListChange): Promise<boolean> {
    const target = this.#opened.get(address)?.target;
    await target?.setLists(lists);
    return target !== undefined;
  }

  status(): TargetStatus[] {
    return Array.from(this.#opened.values(), (opened) => {
      return opened.status(this.#table.find(opened.target.address) === undefined);
    });
  }

  /**
   * Closes all but those with a request or a flush in flight: their files must stay open for it.
   *
   * @throws what the first said that failed, or hangs
   */
  async closeAll(): Promise<void> {
    this.#isClosed = true;
    await this.discard();
    const opened = [...this.#opened.values()].filter(({ closing }) => closing === undefined);
    const flushing = new Set(this.#flushes.values());
    const closed = await Promise.allSettled(
      opened.map(async (one) => {
        const { target } = one;
        if (target.inFlight > 0 || flushing.has(one)) throw hangs(target.name);
        await within(CLOSE_MS_MAX, target.close(), target.name);
      }),
    );
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }

  #at(addresses: readonly number[]): ServedTarget[] {
    return addresses.flatMap((address) => this.#opened.get(address) ?? []);
  }

  #serve({ target }: ServedTarget): void {
    this.#table.add(target);
    this.#options.announce(target);
  }

  /** Ends the requests in flight of a target that gets no more, and makes its writes durable. */
  async #endRequests(opened: ServedTarget): Promise<void> {
    const { target } = opened;
    if (!(await waitWhile(() => target.inFlight > 0))) throw hangs(target.name);
    await this.#flush(opened);
  }

  /** Makes image and size durable that initiators will see: first what a power cut could undo. */
  async #remember(opened: ServedTarget): Promise<void> {
    await this.#keepImage(opened);
    if (!opened.isGrown) return;
    await this.#flush(opened);
    await opened.target.remember();
  }

  /**
   * Makes an image durable that somebody may have put there just now. When that takes long it is
   * served meanwhile: what is written to it waits for its content anyway, as every write does.
   */
  async #keepImage(opened: ServedTarget): Promise<void> {
    const { config, target } = opened;
    if (config.backend.type !== 'file' || config.readOnly) return;
    const kept = this.#keep(opened, config.backend);
    if (await endsWithin(FLUSH_MS_MAX, kept)) return;
    const log = this.#log.child({ target: target.name });
    log.warn('the image is still being written to its disk: writes wait for that');
    kept.catch((error: Error) =>
      log.error(`after a power cut it may be missing: ${error.message}`),
    );
  }

  /** First the content, and then the name that leads to it. */
  async #keep(opened: ServedTarget, image: { readonly path: string }): Promise<void> {
    try {
      await this.#flushed(opened);
    } catch (error) {
      // One that has failed says so, and can still be read as it was.
      if (opened.isGrown || !opened.status(true).failed) throw error;
    }
    await keepImageName(image);
  }

  #flush(opened: ServedTarget): Promise<void> {
    return within(FLUSH_MS_MAX, this.#flushed(opened), opened.target.name);
  }

  #flushed(opened: ServedTarget): Promise<void> {
    const flushed = opened.flush();
    this.#flushes.set(flushed, opened);
    return flushed.finally(() => this.#flushes.delete(flushed));
  }

  async #open(config: TargetConfig): Promise<ServedTarget> {
    const flushIndex = this.#flushIndexes.pop();
    if (flushIndex === undefined) {
      throw new StartupError(`there is no room for ${config.name}`, 'remove other targets first');
    }
    const replaced = this.#opened.get(addressOf(config));
    try {
      await requireAnswers([config]);
      if (this.#isClosed) throw new StartupError('the server is stopping', 'start it again');
      const opened = await openTarget(config, {
        ...this.#options.services,
        flushIndex,
        seenBytes: replaced?.target.device.sizeBytes,
        // Who switched it off counts on that, and does not know that the target was replaced.
        cacheSwitchedOff: replaced?.isCacheSwitchedOff() ?? false,
        log: this.#log.child({ target: config.name }),
        announce: (grown) => this.#options.announce(grown),
      });
      // Initiators that have it mounted do not know that it was replaced.
      opened.target.lastAccessUs = replaced?.target.lastAccessUs ?? 0;
      return { ...opened, flushIndex, closing: undefined };
    } catch (error) {
      this.#flushIndexes.push(flushIndex);
      throw error;
    }
  }

  async #reopen({ config, target }: ServedTarget): Promise<ServedTarget> {
    const opened = await this.#open(config);
    try {
      await this.#remember(opened);
    } catch (error) {
      await this.#close(opened);
      throw error;
    }
    this.#opened.set(target.address, opened);
    return opened;
  }

  /** Closes a target that gets no more requests. One whose storage hangs is closed when that ends. */
  async #retire(opened: ServedTarget): Promise<void> {
    const { target } = opened;
    try {
      if (!(await waitWhile(() => target.inFlight > 0))) throw hangs(target.name);
      await this.#close(opened);
    } catch (error) {
      // It is gone for initiators all the same; there is no way back.
      this.#log.error(error, `${target.name} was removed, but could not be closed`);
      this.#unclosed.add(target.address);
      void this.#closeLate(opened);
    }
  }

  async #closeLate(opened: ServedTarget): Promise<void> {
    const { target } = opened;
    while (target.inFlight > 0) await sleep(LATE_MS, undefined, { ref: false });
    await this.#closed(opened);
    this.#unclosed.delete(target.address);
    this.#log.warn(`the storage of ${target.name}, which was removed, is closed at last`);
  }

  /** @throws {StartupError} its storage hangs; it is closed if that ends */
  async #close(opened: ServedTarget): Promise<void> {
    await within(CLOSE_MS_MAX, this.#closed(opened), opened.target.name);
  }

  /** Closes a target, unless that has begun. */
  #closed(opened: ServedTarget): Promise<void> {
    const { target, flushIndex } = opened;
    opened.closing ??= target
      .close()
      .catch((error: Error) => {
        this.#log.error(error, `the storage of ${target.name} failed while it was closed`);
      })
      .then(() => {
        this.#flushIndexes.push(flushIndex);
      });
    return opened.closing;
  }
}

function storesOf({ backend }: TargetConfig): string[] {
  const path = storePathOf(backend);
  return path === undefined ? [] : [path];
}
