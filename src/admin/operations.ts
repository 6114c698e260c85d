/** What operators can do to a running server, whichever way they ask. */
import type { ListChange } from '../aoe/target-state.ts';
import type { Reloaded, ServerStatus, TargetStatus } from '../status.ts';
import type { ServedStore } from '../stores/served-store.ts';

export interface Operations {
  status(): Promise<ServerStatus>;
  /** Tells all initiators about all targets. */
  announce(): Promise<void>;
  /**
   * Replaces lists of a target, whoever holds it; durable when it resolves.
   *
   * @returns false when there is no target of this name
   */
  setLists(name: string, lists: ListChange): Promise<boolean>;
  /**
   * Reads the configuration anew; adds, changes and removes targets. Nothing changes when it fails,
   * unless the error has `isUnrestored`.
   *
   * @throws the reason, with a remedy
   */
  reload(): Promise<Reloaded>;
  /**
   * Takes no more requests for a target, ends those in flight, and makes all its writes durable.
   *
   * @returns undefined when there is no target of this name; @throws {StartupError}
   */
  drain(name: string): Promise<TargetStatus | undefined>;
  /** Serves and announces a drained target again. Like {@link drain}. */
  resume(name: string): Promise<TargetStatus | undefined>;
  /** Drains a target, opens its storage anew, and serves it. Like {@link drain}. */
  readd(name: string): Promise<TargetStatus | undefined>;
  /** @returns undefined when this server has no store at `path` open */
  store(path: string): ServedStore | undefined;
  /**
   * Sets the least severe kind of message that is logged, until the next start.
   *
   * @returns false when there is no such level
   */
  setLogLevel(level: string): Promise<boolean>;
}
