/** Tells systemd how the program is, where it started the program with Type=notify. */
import type { Logger } from 'pino';
import { native, type SystemError } from '../native.ts';

/** Its queue is full when it has other things to do, such as reading its units anew. */
const RETRY_MS = 100;

/**
 * Tells it as soon as it listens: what it does not hear it waits for without end.
 *
 * @param state an assignment that sd_notify(3) knows
 */
export function notifyServiceManager(state: string, log: Logger): void {
  const path = process.env['NOTIFY_SOCKET'];
  if (!path) return;
  try {
    native.notifyServiceManager(path, state);
  } catch (error) {
    if ((error as SystemError).code === 'EAGAIN') {
      setTimeout(notifyServiceManager, RETRY_MS, state, log).unref();
      return;
    }
    log.warn(error, 'systemd cannot be told that the server is well');
  }
}

/** Tells systemd again and again that the server is well, where it asks for that (WatchdogSec). */
export class Watchdog implements Disposable {
  readonly #timer: NodeJS.Timeout | undefined;

  /** @param answer resolves when the server is well */
  constructor(answer: () => Promise<void>, log: Logger) {
    const { WATCHDOG_PID: pid = process.pid, WATCHDOG_USEC: timeoutUs } = process.env;
    if (!timeoutUs || Number(pid) !== process.pid) return;
    const tell = () => notifyServiceManager('WATCHDOG=1', log);
    // Twice in the time that it waits, as sd_watchdog_enabled(3) advises. What fails is said by
    // the server itself, and systemd hears nothing.
    const intervalMs = Number(timeoutUs) / 2000;
    this.#timer = setInterval(() => void answer().then(tell, () => {}), intervalMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
