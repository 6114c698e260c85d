/**
 * What operators can do to a running server: changes of its targets, one after the other, and what
 * there is to tell about it.
 *
 * Invariants:
 * - `#config` is what the targets are like: another one counts once they have followed it.
 * - Rivals are looked out for of the targets that are served: what changes these looks out anew.
 */
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { addressOf } from './aoe/codec/header.ts';
import { RivalWatch, refuseRivals } from './aoe/rival-watch.ts';
import type { ListChange } from './aoe/target-state.ts';
import type { Config, TargetConfig } from './config/config.ts';
import { LOG_LEVELS } from './config/schema.ts';
import { StartupError } from './core/startup-error.ts';
import { LiveTargets } from './live-targets.ts';
import { setLogLevel } from './log.ts';
import { planReload } from './reload-plan.ts';
import {
  mergeStatus,
  type PartStatus,
  type Reloaded,
  type ServerStatus,
  type TargetStatus,
} from './status.ts';
import type { ServedStore } from './stores/served-store.ts';
import { ServedStores } from './stores/served-stores.ts';
import { VERSION } from './version.ts';
import { endsWithin } from './wait-while.ts';
import type { Callable } from './worker-thread.ts';

/** How long a stop waits for a change of targets, such as a store that is being fetched. */
const CHANGE_MS_MAX = 5000;
/** How long it counts that no other server was found. */
const LOOK_MS_MAX = 3000;

export interface LiveOperationsOptions {
  readonly config: Config;
  /** The data paths, which may be started later. */
  readonly parts: readonly Callable[];
  readonly log: Logger;
  /** Reads the configuration anew. */
  loadAgain(): Promise<Config>;
}

export class LiveOperations {
  readonly stores: ServedStores;
  readonly #options: LiveOperationsOptions;
  readonly #parts: readonly Callable[];
  readonly #log: Logger;
  readonly #live: LiveTargets;
  readonly #startedAt = new Date();
  #config: Config;
  /** Whatever changes targets: one after the other. */
  #changing: Promise<unknown> = Promise.resolve();
  #isStopping = false;
  #rivals: RivalWatch | undefined;

  constructor(options: LiveOperationsOptions) {
    const { config, parts, log } = options;
    this.#options = options;
    this.#config = config;
    this.#parts = parts;
    this.#log = log;
    this.#live = new LiveTargets(parts, log);
    this.stores = new ServedStores({
      findTarget: (path, volume) => this.#findTarget(path, volume),
      whilePaused: (target, work) =>
        this.#changeServed(() => this.#live.whileDrained(addressOf(target), work)),
      log,
    });
  }

  /** @throws {StartupError} another server answers for one of `targets` */
  async refuseRivals(targets: readonly TargetConfig[]): Promise<void> {
    await refuseRivals(namesOf(targets), this.#config.server.interfaces);
  }

  /** Serves targets that the data paths were not started with, and looks out for rivals of all. */
  async start(late: readonly TargetConfig[]): Promise<void> {
    await this.#live.change({ added: late, changed: [], removed: [] });
    await this.#watchRivals();
  }

  reload(): Promise<Reloaded> {
    return this.#change(() => this.#reload());
  }

  async status(): Promise<ServerStatus> {
    const merged = await this.#statusOfParts();
    return {
      version: VERSION,
      pid: process.pid,
      configPath: this.#config.path,
      startedAt: this.#startedAt.toISOString(),
      workers: this.#parts.length,
      logLevel: this.#log.level,
      ...merged,
      stores: await this.stores.status(),
    };
  }

  store(path: string): ServedStore | undefined {
    return this.stores.find(path);
  }

  async announce(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.announce()));
  }

  setLists(name: string, lists: ListChange): Promise<boolean> {
    // Not while the target is replaced: the new one would not know.
    return this.#change(async () => {
      const target = this.#configOf(name);
      return target !== undefined && (await this.#live.setLists(addressOf(target), lists));
    });
  }

  drain(name: string): Promise<TargetStatus | undefined> {
    return this.#onTarget(name, (target) => this.#live.drain([addressOf(target)]));
  }

  resume(name: string): Promise<TargetStatus | undefined> {
    return this.#onUnrivaled(name, (target) => this.#live.resume([addressOf(target)]));
  }

  readd(name: string): Promise<TargetStatus | undefined> {
    return this.#onUnrivaled(name, async (target) => {
      if (target.backend.type === 'memory') {
        throw new StartupError(
          `${name} is a disk in memory: opened anew, it would be empty`,
          'remove the target, and add it again, if that is what you want',
        );
      }
      await this.#live.readd(target);
    });
  }

  async setLogLevel(text: string): Promise<boolean> {
    const level = LOG_LEVELS.find((known) => known === text);
    if (level === undefined) return false;
    setLogLevel(this.#log, level);
    await Promise.all(this.#parts.map((part) => part.setLogLevel(level)));
    return true;
  }

  /** Lets no change begin, and waits for the one that goes on, but not for long. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await endsWithin(CHANGE_MS_MAX, this.#changing);
    this.#live.stop();
  }

  /** Ends what goes on beside changes. */
  async close(): Promise<void> {
    await this.stores.close();
    this.#rivals?.close();
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const changed = this.#changing.then(() => {
      if (!this.#isStopping) return work();
      throw new StartupError('the server is stopping', 'start it again');
    });
    this.#changing = changed.catch(() => {});
    return changed;
  }

  /** A change that may leave other targets served than before, also when it fails. */
  #changeServed<T>(work: () => Promise<T>): Promise<T> {
    return this.#change(async () => {
      try {
        return await work();
      } finally {
        await this.#watchRivals();
      }
    });
  }

  async #findTarget(path: string, volume: string): Promise<TargetStatus | undefined> {
    const config = this.#configOf(volume);
    if (config?.backend.type !== 'cas' || config.backend.root !== undefined) return undefined;
    if (resolve(config.backend.blobStore.path) !== path) return undefined;
    return this.#statusOf(volume);
  }

  /** Works on the target called `name`. @returns what became of it; undefined when there is none */
  #onTarget(
    name: string,
    work: (target: TargetConfig) => Promise<unknown>,
  ): Promise<TargetStatus | undefined> {
    return this.#changeServed(async () => {
      const target = this.#configOf(name);
      if (target === undefined) return undefined;
      await work(target);
      return this.#statusOf(name);
    });
  }

  #configOf(name: string): TargetConfig | undefined {
    return this.#config.targets.find((target) => target.name === name);
  }

  async #statusOf(name: string): Promise<TargetStatus | undefined> {
    const { targets } = await this.#statusOfParts();
    return targets.find((target) => target.name === name);
  }

  /** Does not ask stores, as {@link status} does: one that hangs must not delay a change. */
  async #statusOfParts(): Promise<PartStatus> {
    return mergeStatus(await Promise.all(this.#parts.map((part) => part.status())));
  }

  /**
   * Works on a target that no other server serves. To look takes a second: many that are resumed at
   * once do so before it is their turn, lest the last of them stay silent for too long.
   */
  async #onUnrivaled(
    name: string,
    work: (target: TargetConfig) => Promise<unknown>,
  ): Promise<TargetStatus | undefined> {
    const never = Number.NEGATIVE_INFINITY;
    // What is found may be this server, where another request has resumed the target meanwhile.
    const lookedMs = await this.#refuseRivalOf(name).catch(() => never);
    return this.#onTarget(name, async (target) => {
      // While it waited for its turn another server may have come.
      if (performance.now() - lookedMs > LOOK_MS_MAX) await this.#refuseRivalOf(name);
      await work(target);
    });
  }

  /**
   * Looks for another server of a target that is drained.
   *
   * @returns when; never for one that is served
   * @throws {StartupError} there is one
   */
  async #refuseRivalOf(name: string): Promise<number> {
    const status = await this.#statusOf(name);
    if (!status?.drained) return Number.NEGATIVE_INFINITY;
    await refuseRivals(namesOf([status]), this.#config.server.interfaces);
    return performance.now();
  }

  async #reload(): Promise<Reloaded> {
    const now = this.#config;
    const next = await this.#options.loadAgain();
    const change = planReload(now, next);
    const { added, changed, removed } = change;
    await this.#live.refuseMovedStorage(now.targets, change);
    await this.refuseRivals(added);
    try {
      await this.#live.change(change);
    } catch (error) {
      // Some may have stayed drained.
      await this.#watchRivals();
      throw error;
    }
    this.#config = next;
    await this.#follow(now, next).catch((error: Error) =>
      // Whoever hears of an error takes it that nothing has changed.
      this.#log.error(error, 'the targets are as configured now, but not all else'),
    );
    const names = {
      added: added.map(nameOf),
      changed: changed.map(nameOf),
      removed: removed.map(nameOf),
    };
    this.#log.info(names, 'reloaded');
    return names;
  }

  /** What else a new configuration changes, once it is that of the targets. */
  async #follow(now: Config, next: Config): Promise<void> {
    // Otherwise the operator's choice stays.
    if (next.server.logLevel !== now.server.logLevel) await this.setLogLevel(next.server.logLevel);
    await this.#watchRivals();
  }

  /** Others may serve what is drained here. */
  async #watchRivals(): Promise<void> {
    if (this.#isStopping) return;
    const { targets } = await this.#statusOfParts();
    this.#rivals ??= new RivalWatch(this.#config.server.interfaces, this.#log);
    this.#rivals.targets = namesOf(targets.filter(({ drained }) => !drained));
  }
}

function namesOf(targets: readonly (TargetConfig | TargetStatus)[]): ReadonlyMap<number, string> {
  return new Map(targets.map((target) => [addressOf(target), target.name]));
}

function nameOf({ name }: TargetConfig): string {
  return name;
}
