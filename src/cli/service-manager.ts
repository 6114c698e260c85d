/**
 * Tells systemd how the program is, where it started the program with Type=notify. That takes a
 * datagram on a unix socket, which Node has not: systemd's own tool sends it, and a unit with
 * NotifyAccess=all lets it.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from 'pino';

/** @param state an assignment that sd_notify(3) knows */
export async function notifyServiceManager(state: string, log: Logger): Promise<void> {
  if (!process.env['NOTIFY_SOCKET']) return;
  try {
    await promisify(execFile)('systemd-notify', [state]);
  } catch (error) {
    log.warn(error, 'systemd-notify failed: systemd does not know that the server is well');
  }
}
