import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { LiveTargets } from '../src/live-targets.ts';
import type { TargetCalls } from '../src/worker-thread.ts';

const STOPPING = 'the server is stopping';

describe('targets of a server that stops', () => {
  it('begin no work for which they were drained, and are drained no more', async () => {
    const done: string[] = [];
    const calls: Partial<TargetCalls> = {
      drain: async (addresses) => {
        done.push('drained');
        live.stop();
        return [...addresses];
      },
      resume: async () => {},
    };
    const live = new LiveTargets([{ targets: calls as TargetCalls }], pino({ enabled: false }));
    const work = async () => done.push('worked');
    await expect(live.whileDrained(1, work)).rejects.toThrow(STOPPING);
    await expect(live.whileDrained(1, work)).rejects.toThrow(STOPPING);
    expect(done).toEqual(['drained']);
  });
});
