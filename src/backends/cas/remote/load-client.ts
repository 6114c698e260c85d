/** The client libraries of cloud services: large, so they are loaded by those who need them only. */
import { StartupError } from '../../../core/startup-error.ts';

/** @throws {StartupError} the package is not installed */
export async function loadClient<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new StartupError(
      `the package ${name} is needed for this blob store and is not installed`,
      `install it where aoe-server is: npm install --global ${name}` +
        ' (for the Debian package with --prefix /usr), and start anew',
      { cause: error },
    );
  }
}
