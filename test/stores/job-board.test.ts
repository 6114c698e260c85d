import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { StartupError } from '../../src/core/startup-error.ts';
import type { JobKind, JobRequest, JobWatch } from '../../src/stores/contract.ts';
import { JobBoard } from '../../src/stores/job-board.ts';

const UNFINISHED_MAX = 8;
const FINISHED_MAX = 8;

let board: JobBoard;
/** Ends the jobs that run, in the order in which they began. */
let ends: (() => void)[];

beforeEach(() => {
  board = new JobBoard();
  ends = [];
});

/** Starts a job that goes on until it is ended, or cancelled. */
function start(kind: JobKind): number | undefined {
  const work = ({ signal }: JobWatch) =>
    new Promise<null>((resolve, reject) => {
      ends.push(() => resolve(null));
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  return board.start({ kind } as JobRequest, work)?.id;
}

function states(): string[] {
  return board.list().map(({ id, state }) => `${id} ${state}`);
}

describe('jobs', () => {
  it('that care for the store wait for each other, and not for those that only look', async () => {
    for (const kind of ['collect', 'scrub', 'usage', 'diff'] as const) start(kind);
    await turn();
    expect(states()).toEqual(['1 running', '2 waiting', '3 running', '4 waiting']);
    ends[0]?.();
    await turn();
    expect(states()).toEqual(['1 done', '2 running', '3 running', '4 waiting']);
    expect([board.unfinished('collect'), board.unfinished('scrub')]).toEqual([[], [2]]);
  });

  it('that are cancelled while they wait do nothing, and keep others waiting no longer', async () => {
    const work = vi.fn(async () => null);
    start('scrub');
    board.start({ kind: 'collect' }, work);
    start('collect');
    await turn();
    expect(board.cancel(2)).toMatchObject({ id: 2, state: 'cancelled' });
    ends[0]?.();
    expect(await board.ended(2)).toMatchObject({ state: 'cancelled', error: null });
    await turn();
    expect(states()).toEqual(['1 done', '2 cancelled', '3 running']);
    expect(work).not.toHaveBeenCalled();
  });

  it('are bounded while they have not ended, and few that have are kept', async () => {
    for (let id = 1; id <= UNFINISHED_MAX; id++) expect(start('usage')).toBe(id);
    expect(start('scrub')).toBeUndefined();
    board.cancel(1);
    expect(start('scrub')).toBe(UNFINISHED_MAX + 1);
    await board.cancelAll();
    expect(start('usage')).toBe(UNFINISHED_MAX + 2);
    const kept = Array.from({ length: FINISHED_MAX + 1 }, (_, index) => index + 2);
    expect(board.list().map(({ id }) => id)).toEqual(kept);
    expect(await board.ended(1)).toBeUndefined();
  });

  it('have ended when all are cancelled', async () => {
    let end = () => {};
    const ending = new Promise<null>((resolve) => {
      end = () => resolve(null);
    });
    board.start({ kind: 'scrub' }, () => ending);
    await turn();
    let isOver = false;
    const cancelled = board.cancelAll().then(() => {
      isOver = true;
    });
    await turn();
    expect(isOver).toBe(false);
    end();
    await cancelled;
    expect(states()).toEqual(['1 done']);
  });

  it('say why they failed, and what helps', async () => {
    const failing = (error: Error) => board.start({ kind: 'stats' }, () => Promise.reject(error));
    failing(new StartupError('the store is damaged', 'scrub it'));
    failing(new Error('EIO: i/o error, read'));
    expect(await board.ended(1)).toMatchObject({
      ...{ state: 'failed', error: 'the store is damaged', remedy: 'scrub it' },
    });
    expect(await board.ended(2)).toMatchObject({
      ...{ state: 'failed', error: 'EIO: i/o error, read', remedy: 'see the log of the server' },
    });
  });
});
