/** What operators can do to a running server, whichever way they ask. */
import type { ListChange } from '../aoe/target-state.ts';
import type { ServerStatus } from '../status.ts';

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
   * Sets the least severe kind of message that is logged, until the next start.
   *
   * @returns false when there is no such level
   */
  setLogLevel(level: string): Promise<boolean>;
}
