/**
 * The storage of one data path's targets: opened, made durable, and closed. Any of this may hang:
 * who waits for a flush, or for closing, gives up after a while, and it goes on nevertheless.
 *
 * Invariants:
 * - From when it is opened until its storage is closed, a target has a flush index for itself.
 * - Storage is closed once, however many ask for that, and never with a request in flight.
 * - A flush is in `#flushes` until it ends, also when its target is gone: it needs files and I/O.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { AoeTarget } from './aoe/aoe-target.ts';
import { keepImageName, storePathOf } from './backends/index.ts';
import type { TargetConfig } from './config/config.ts';
import { Limits } from './core/limits.ts';
import { StartupError } from './core/startup-error.ts';
import { hangs, requireAnswers, within } from './hanging-storage.ts';
import { type OpenedTarget, openTarget, type TargetServices } from './open-target.ts';
import { allEnded, endsWithin, waitWhile } from './wait-while.ts';

const FLUSH_MS_MAX = 10_000;
/** A store has more to do than to flush. */
const CLOSE_MS_MAX = 60_000;
/** How often it is looked whether storage that hung does so no more. */
const LATE_MS = 1000;

export interface TargetStorageOptions {
  readonly services: Pick<TargetServices, 'io' | 'state' | 'server' | 'makeRoom'>;
  readonly log: Logger;
  /** Tells all initiators about a target. */
  announce(target: AoeTarget): void;
}

export interface StoredTarget extends OpenedTarget {
  readonly flushIndex: number;
  /** Settles when it is closed; undefined until that begins. */
  closing: Promise<void> | undefined;
}

export class TargetStorage {
  readonly #options: TargetStorageOptions;
  readonly #log: Logger;
  /** Request indexes for targets' own flushes that no target has; after those of requests. */
  readonly #flushIndexes = Array.from(
    { length: Limits.targetCount },
    (_, index) => Limits.requestCount + index,
  );
  /** Targets' own flushes that go on, also of targets that were removed meanwhile. */
  readonly #flushes = new Map<Promise<void>, StoredTarget>();
  /** Addresses of targets that were retired while their storage hung, until it is closed. */
  readonly #unclosed = new Set<number>();
  /** Stores in which room is being made for writes that wait, by path; one for each that asks. */
  readonly #scarce: string[] = [];
  #isStopped = false;

  constructor(options: TargetStorageOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  /** Does a target's own flush go on? */
  get isFlushing(): boolean {
    return this.#flushes.size > 0;
  }

  /** Addresses of retired targets that are not closed yet: their storage may still be at work. */
  get unclosed(): number[] {
    return [...this.#unclosed];
  }

  /**
   * Opens a target.
   *
   * @param replaced the target whose place it takes, which may still be open
   * @throws {StartupError} it cannot be opened
   */
  async open(config: TargetConfig, replaced: StoredTarget | undefined): Promise<StoredTarget> {
    const flushIndex = this.#flushIndexes.pop();
    if (flushIndex === undefined) {
      throw new StartupError(`there is no room for ${config.name}`, 'remove other targets first');
    }
    try {
      await requireAnswers([config]);
      this.#requireRunning();
      const opened = await openTarget(config, {
        ...this.#options.services,
        makeRoom: (path) => this.#makeRoom(path),
        flushIndex,
        seenBytes: replaced?.target.device.sizeBytes,
        // Who switched it off counts on that, and does not know that the target was replaced.
        cacheSwitchedOff: replaced?.isCacheSwitchedOff() ?? false,
        log: this.#log.child({ target: config.name }),
        announce: (grown) => this.#options.announce(grown),
      });
      if (this.#isStopped) await within(CLOSE_MS_MAX, opened.target.close(), config.name);
      // All others are being closed: nobody would close this one.
      this.#requireRunning();
      // Initiators that have it mounted do not know that it was replaced.
      opened.target.lastAccessUs = replaced?.target.lastAccessUs ?? 0;
      return { ...opened, flushIndex, closing: undefined };
    } catch (error) {
      this.#flushIndexes.push(flushIndex);
      throw error;
    }
  }

  /** Makes image and size durable that initiators will see: first what a power cut could undo. */
  async remember(opened: StoredTarget): Promise<void> {
    await this.#keepImage(opened);
    if (opened.isGrown) {
      await this.#flush(opened);
      await opened.target.remember();
    }
    this.#requireRunning();
  }

  /**
   * Ends the requests in flight of a target that gets no more, and makes its writes durable.
   *
   * @throws {StartupError} its storage hangs, or makes room, or fails
   */
  async endRequests(opened: StoredTarget): Promise<void> {
    const { target } = opened;
    if (!(await waitWhile(() => target.inFlight > 0))) throw this.#unended(opened);
    await this.#flush(opened);
  }

  /** @throws {StartupError} its storage hangs; it is closed if that ends */
  async close(opened: StoredTarget): Promise<void> {
    await within(CLOSE_MS_MAX, this.#closed(opened), opened.target.name);
  }

  /** Closes a target that gets no more requests; one whose storage hangs, when that ends. */
  async retire(opened: StoredTarget): Promise<void> {
    const { target } = opened;
    try {
      if (!(await waitWhile(() => target.inFlight > 0))) throw this.#unended(opened);
      await this.close(opened);
    } catch (error) {
      // It is gone for initiators all the same; there is no way back.
      this.#log.error(error, `${target.name} was removed, but could not be closed`);
      this.#unclosed.add(target.address);
      void this.#closeLate(opened);
    }
  }

  /** Opens no more targets. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Closes all but those with a request or a flush in flight: their files must stay open for it.
   *
   * @throws what the first said that failed, or hangs
   */
  async closeAll(targets: Iterable<StoredTarget>): Promise<void> {
    const opened = [...targets].filter(({ closing }) => closing === undefined);
    const flushing = new Set(this.#flushes.values());
    const close = async (one: StoredTarget) => {
      const { target } = one;
      if (target.inFlight > 0 || flushing.has(one)) throw this.#unended(one);
      await within(CLOSE_MS_MAX, target.close(), target.name);
    };
    await allEnded(opened.map(close));
  }

  async #makeRoom(path: string): Promise<boolean> {
    this.#scarce.push(path);
    try {
      return await this.#options.services.makeRoom(path);
    } finally {
      this.#scarce.splice(this.#scarce.indexOf(path), 1);
    }
  }

  /** Why requests of a target do not end. */
  #unended({ config }: StoredTarget): StartupError {
    const path = storePathOf(config.backend);
    if (path === undefined || !this.#scarce.includes(path)) return hangs(config.name);
    return new StartupError(
      `writes to ${config.name} wait for room in its store, which is being collected`,
      'wait for that, or give its file system more room',
    );
  }

  #requireRunning(): void {
    if (this.#isStopped) throw new StartupError('the server is stopping', 'start it again');
  }

  /**
   * Makes an image durable that somebody may have put there just now. When that takes long it is
   * served meanwhile: what is written to it waits for its content anyway, as every write does.
   */
  async #keepImage(opened: StoredTarget): Promise<void> {
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
  async #keep(opened: StoredTarget, image: { readonly path: string }): Promise<void> {
    try {
      await this.#flushed(opened);
    } catch (error) {
      // One that has failed says so, and can still be read as it was.
      if (opened.isGrown || !opened.status(true).failed) throw error;
    }
    await keepImageName(image);
  }

  #flush(opened: StoredTarget): Promise<void> {
    return within(FLUSH_MS_MAX, this.#flushed(opened), opened.target.name);
  }

  #flushed(opened: StoredTarget): Promise<void> {
    const flushed = opened.flush();
    this.#flushes.set(flushed, opened);
    return flushed.finally(() => this.#flushes.delete(flushed));
  }

  async #closeLate(opened: StoredTarget): Promise<void> {
    const { target } = opened;
    while (target.inFlight > 0) await sleep(LATE_MS, undefined, { ref: false });
    await this.#closed(opened);
    this.#unclosed.delete(target.address);
    this.#log.warn(`the storage of ${target.name}, which was removed, is closed at last`);
  }

  /** Closes a target, unless that has begun. */
  #closed(opened: StoredTarget): Promise<void> {
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
