/** The program of a worker thread: runs a data path until it is told to close. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { StateStore } from './aoe/state-store.ts';
import { StartupError } from './core/startup-error.ts';
import { DataPath } from './data-path.ts';
import { createLogger } from './log.ts';
import {
  type Failure,
  START_CALL,
  type WorkerCall,
  type WorkerData,
  type WorkerMessage,
  type WorkerOrder,
} from './worker-thread.ts';

type Callee = Readonly<Record<string, (...args: readonly unknown[]) => Promise<unknown>>>;

const { server, targets, share } = workerData as WorkerData;
const port = parentPort as MessagePort;
const say = (message: WorkerMessage) => port.postMessage(message);

const path = new DataPath({
  server,
  targets,
  share,
  state: StateStore.attach(server.stateDir),
  log: createLogger(server.logLevel).child({ worker: share.index }),
  // Stores are served by the only thread, or not at all.
  makeRoom: async () => false,
  onFailed: fail,
});

port.on('message', (order: WorkerOrder) => {
  if (order === 'close')
    void path
      .close()
      .catch(fail)
      // Storage that hangs would keep the thread; this ends it, and not the process.
      .finally(() => process.exit());
  else void answer(order.call, execute(order));
});

void answer(START_CALL, path.start());

function execute({ of, name, args }: WorkerCall): Promise<unknown> | undefined {
  // The other thread's compiler has checked name and arguments.
  const callee = (of === 'path' ? path : path.targets) as unknown as Callee;
  return callee[name]?.(...args);
}

async function answer(call: number, work: Promise<unknown> | undefined): Promise<void> {
  try {
    say({ type: 'done', call, result: await work });
  } catch (error) {
    say({ type: 'refused', call, ...describe(error as Error) });
  }
}

function fail(error: Error): void {
  say({ type: 'failed', ...describe(error) });
}

function describe(error: Error): Failure {
  const remedy = error instanceof StartupError ? error.remedy : 'see the log';
  return { message: error.message, remedy };
}
