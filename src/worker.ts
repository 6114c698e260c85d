/** The program of a worker thread: runs a data path until it is told to close. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { StateStore } from './aoe/state-store.ts';
import { StartupError } from './core/startup-error.ts';
import { DataPath } from './data-path.ts';
import { createLogger } from './log.ts';
import type { WorkerData, WorkerMessage, WorkerOrder } from './worker-thread.ts';

const { server, targets, share } = workerData as WorkerData;
const port = parentPort as MessagePort;
const say = (message: WorkerMessage) => port.postMessage(message);

const path = new DataPath({
  server,
  targets,
  share,
  state: StateStore.attach(server.stateDir),
  log: createLogger(server.logLevel).child({ worker: share.index }),
  onFailed: fail,
});

port.on('message', (order: WorkerOrder) => {
  if (order === 'close')
    void path
      .close()
      .catch(fail)
      .finally(() => port.close());
  else path[order]().then(done, fail);
});

path.start().then(done, fail);

function done(): void {
  say({ type: 'done' });
}

function fail(error: Error): void {
  const remedy = error instanceof StartupError ? error.remedy : 'see the log';
  say({ type: 'failed', message: error.message, remedy });
}
