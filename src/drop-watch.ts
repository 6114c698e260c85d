/**
 * Tells the operator about frames that were dropped. Initiators resend them, so nothing is lost
 * but time, and nothing else would show where the time goes.
 */
import type { Logger } from 'pino';

const INTERVAL_MS = 10_000;

/** Counts of drops since the start, by reason. */
export type DropCounts = Readonly<Record<string, number>>;

export class DropWatch {
  readonly #timer: NodeJS.Timeout;

  /** @param count looks at the counters */
  constructor(count: () => DropCounts, log: Logger) {
    let last = count();
    this.#timer = setInterval(() => {
      const now = count();
      const grown = Object.keys(now).filter((reason) => (now[reason] ?? 0) > (last[reason] ?? 0));
      last = now;
      if (grown.length === 0) return;
      const totals = Object.fromEntries(grown.map((reason) => [reason, now[reason]]));
      log.warn(totals, 'frames were dropped; initiators resend them');
    }, INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
