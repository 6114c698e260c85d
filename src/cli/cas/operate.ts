/** How commands reach a store: they open it, or ask the server that has it open. */
import { StoreInUseError } from '../../backends/cas/index.ts';
import { StartupError } from '../../core/startup-error.ts';
import type { Job, JobKind, JobOf, JobResults, StoreOperations } from '../../stores/contract.ts';
import { StoreActions } from '../../stores/store-actions.ts';
import type { StoreStreams } from '../../stores/streams.ts';
import { interruptible } from '../interruptible.ts';
import { Progress } from '../progress.ts';
import { RemoteStore } from './remote-store.ts';
import { withStore } from './with-store.ts';

/**
 * Works on a store, whoever has it open.
 *
 * @param open opens it when nobody has
 * @throws {StartupError} there is none, it cannot be read, or another command has it open
 */
export async function operate<T>(
  path: string,
  work: (store: StoreOperations & StoreStreams) => Promise<T>,
  open: typeof withStore = withStore,
): Promise<T> {
  try {
    return await open(path, (store) => work(new StoreActions(store)));
  } catch (error) {
    return await work(serverOf(error));
  }
}

/**
 * Cancels a job that a server does on a store, and waits for its end.
 *
 * @returns the job, which may have ended before
 * @throws {StartupError} no server has the store open; @throws {ControlError} it has no such job
 */
export async function cancelJob(path: string, id: number): Promise<Job> {
  try {
    return await withStore(path, () => {
      throw new StartupError(
        `no server has the store ${path} open, so there is no job to cancel`,
        'interrupt a command that works on the store itself with SIGINT',
      );
    });
  } catch (error) {
    return await serverOf(error).cancel(id);
  }
}

/** The server that has the store open, when that is the error. @throws any other error */
function serverOf(error: unknown): RemoteStore {
  if (!(error instanceof StoreInUseError) || error.holder === undefined) throw error;
  return new RemoteStore(error.holder);
}

/** Runs a job on a store, tells how far it is, and cancels it when the command is interrupted. */
export function runJob<Kind extends JobKind>(
  path: string,
  job: JobOf<Kind>,
): Promise<JobResults[Kind]> {
  let shown: { readonly phase: string; readonly progress: Progress } | undefined;
  const onProgress = (phase: string, doneBytes: number, totalBytes: number) => {
    if (shown?.phase !== phase) {
      shown?.progress.end();
      shown = { phase, progress: new Progress(phase, totalBytes) };
    }
    shown.progress.update(doneBytes);
  };
  return interruptible(async (signal) => {
    try {
      return await operate(path, (store) => store.run(job, { signal, onProgress }));
    } finally {
      shown?.progress.end();
    }
  });
}
