/** Gives up root once everything that needs it is open. */
import { lchown, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { StartupError } from './core/startup-error.ts';
import { native } from './native.ts';

/** What the state directory holds of ours. */
const STATE_FILE = /^(lock|dashboard-token|e\d+\.\d+\.json)$/;

/** A thread that opens raw sockets, also later. */
export interface CapableThread {
  keepCapabilities(): Promise<void>;
  reduceCapabilities(): Promise<void>;
}

/**
 * Turns the process into `name`. The state directory and `sockets` go with it; open files stay
 * open; each of `threads`, and this one, can still open raw sockets, and nothing else.
 *
 * @throws {StartupError} there is no such user, or this one must not become another
 */
export async function becomeUser(
  name: string,
  stateDir: string,
  sockets: readonly string[],
  threads: readonly CapableThread[],
): Promise<void> {
  const user = native.findUser(name);
  if (user === undefined) {
    throw new StartupError(`there is no user ${name}`, `create it: useradd --system ${name}`);
  }
  const { uid, gid } = user;
  try {
    // Never through a link: whoever was this user before could have put it there.
    const names = (await readdir(stateDir)).filter((file) => STATE_FILE.test(file));
    const paths = [stateDir, ...sockets, ...names.map((file) => join(stateDir, file))];
    await Promise.all(paths.map((path) => lchown(path, uid, gid)));
    native.keepCapabilities();
    for (const thread of threads) await thread.keepCapabilities();
    native.setUser(uid, gid);
    native.reduceCapabilities();
    for (const thread of threads) await thread.reduceCapabilities();
  } catch (cause) {
    throw new StartupError(
      `cannot become user ${name}: ${(cause as Error).message}`,
      'start the server as root; or start it as that user, with CAP_NET_RAW, and remove user',
      { cause },
    );
  }
}
