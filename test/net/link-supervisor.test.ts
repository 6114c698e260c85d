import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { StartupError } from '../../src/core/startup-error.ts';
import type { Link } from '../../src/net/link.ts';
import { LinkSupervisor } from '../../src/net/link-supervisor.ts';

const MINUTE_MS = 60_000;

let supervisor: LinkSupervisor<Link> | undefined;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  supervisor?.close();
  vi.useRealTimers();
});

it('tries again to open a link that could not be opened, and complains once of each reason', () => {
  const outcomes = ['opened', 'no memory', 'no memory', 'no descriptor', 'opened'];
  const used: Link[] = [];
  const complaints: string[] = [];
  const write = (line: string) => complaints.push(JSON.parse(line).err.message);
  supervisor = new LinkSupervisor({
    // Which of them is the one that cannot be opened is the same to them.
    interfaces: ['lo', 'lo'],
    open: () => {
      const outcome = outcomes.shift() as string;
      if (outcome !== 'opened') throw new StartupError(outcome, 'wait');
      return { stopReceiving() {}, close() {} } as Link;
    },
    use: (link) => used.push(link),
    onConnected() {},
    log: pino({ level: 'error' }, { write }),
  });
  supervisor.start();
  expect(used).toHaveLength(1);
  vi.advanceTimersByTime(MINUTE_MS);
  expect(used).toHaveLength(2);
  expect(supervisor.links).toEqual(used);
  expect(outcomes).toEqual([]);
  expect(complaints).toEqual(['no memory', 'no descriptor']);
});
