import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ServerConfig } from '../src/config/config.ts';
import { StartupError } from '../src/core/startup-error.ts';
import {
  START_CALL,
  type WorkerCall,
  type WorkerMessage,
  type WorkerOrder,
  WorkerThread,
} from '../src/worker-thread.ts';

/** A thread of which the test says what it says. */
class Thread extends EventEmitter {
  readonly orders: WorkerOrder[] = [];

  constructor() {
    super();
    thread = this;
  }

  postMessage(order: WorkerOrder): void {
    this.orders.push(order);
  }

  say(message: WorkerMessage): void {
    this.emit('message', message);
  }
}

vi.mock('node:worker_threads', () => ({
  Worker: function Worker() {
    return new Thread();
  },
}));

const REASON = { message: 'the disk is gone', remedy: 'find it' };

let thread: Thread;
let worker: WorkerThread;
const onFailed = vi.fn<(error: Error) => void>();

/** Starts a thread, which has not said yet whether it can. */
function begin(): WorkerThread {
  const share = { index: 0, count: 2 };
  const begun = new WorkerThread({ server: {} as ServerConfig, targets: [], share, onFailed });
  begun.start().catch(() => {});
  return begun;
}

beforeEach(() => {
  onFailed.mockReset();
  worker = begin();
});

describe('a thread', () => {
  it('has started when it says so, or why it cannot', async () => {
    thread.say({ type: 'done', call: START_CALL, result: undefined });
    await worker.start();
    const other = begin();
    thread.say({ type: 'refused', call: START_CALL, ...REASON });
    await expect(other.start()).rejects.toThrow(StartupError);
    await expect(other.start()).rejects.toMatchObject(REASON);
  });

  it('is asked for what it can do, and answers in any order', async () => {
    const { targets } = worker;
    const asked = [targets.unclosed(), targets.drain([7]), worker.announce()];
    const calls = thread.orders as WorkerCall[];
    expect(calls.map(({ of, name, args }) => [of, name, args])).toEqual([
      ['targets', 'unclosed', []],
      ['targets', 'drain', [[7]]],
      ['path', 'announce', []],
    ]);
    for (const { call, name } of calls.toReversed()) {
      thread.say({ type: 'done', call, result: name });
    }
    expect(await Promise.all(asked)).toEqual(['unclosed', 'drain', 'announce']);
  });

  it('that ends leaves no call without an answer, made before or later', async () => {
    const asked = worker.status();
    thread.emit('exit', 0);
    await expect(asked).rejects.toThrow('the thread has ended');
    await expect(worker.targets.discard()).rejects.toThrow('the thread has ended');
    expect(onFailed).not.toHaveBeenCalled();
  });

  it.each([
    ['says that it cannot go on', () => thread.say({ type: 'failed', ...REASON })],
    ['has thrown', () => thread.emit('error', new Error(REASON.message))],
  ])('that %s leaves none, and the server hears of it', async (_, fail) => {
    const asked = worker.status();
    fail();
    await expect(asked).rejects.toThrow(REASON.message);
    await expect(worker.announce()).rejects.toThrow(REASON.message);
    expect(onFailed.mock.calls).toMatchObject([[{ message: REASON.message }]]);
  });

  it('is closed when it has ended, and not well when it said so', async () => {
    let isClosed = false;
    const closing = worker.close().finally(() => {
      isClosed = true;
    });
    expect(thread.orders).toEqual(['close']);
    const closed = expect(closing).rejects.toMatchObject(REASON);
    thread.say({ type: 'failed', ...REASON });
    await turn();
    expect(isClosed).toBe(false);
    thread.emit('exit', 0);
    await closed;
  });
});
