import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { StartupError } from '../../src/core/startup-error.ts';
import { native } from '../../src/native.ts';
import type { Link } from '../../src/net/link.ts';
import { LinkSupervisor } from '../../src/net/link-supervisor.ts';

const MINUTE_MS = 60_000;
const STATE = { mtu: 1500, mac: 2, up: true, connected: true };

let supervisor: LinkSupervisor<Link> | undefined;
const used: string[] = [];
const complaints: string[] = [];
/** Numbers of interfaces by their names. */
let indexes: Readonly<Record<string, number>>;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  vi.spyOn(native, 'readInterface').mockImplementation((name) => {
    const index = indexes[name];
    return index === undefined ? undefined : { ...STATE, index };
  });
});
afterEach(() => {
  supervisor?.close();
  used.length = 0;
  complaints.length = 0;
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function start(interfaces: string[], open: () => void): void {
  const write = (line: string) => complaints.push(JSON.parse(line).err.message);
  supervisor = new LinkSupervisor({
    interfaces,
    open: (name) => {
      open();
      return { name, stopReceiving() {}, close() {} } as Link;
    },
    use: ({ name }) => used.push(name),
    onConnected() {},
    log: pino({ level: 'error' }, { write }),
  });
  supervisor.start();
}

it('tries again to open a link that could not be opened, and complains once of each reason', () => {
  const outcomes = ['opened', 'no memory', 'no memory', 'no descriptor', 'opened'];
  indexes = { one: 1, two: 2 };
  start(['one', 'two'], () => {
    const outcome = outcomes.shift() as string;
    if (outcome !== 'opened') throw new StartupError(outcome, 'wait');
  });
  expect(used).toEqual(['one']);
  vi.advanceTimersByTime(MINUTE_MS);
  expect(used).toEqual(['one', 'two']);
  expect(supervisor?.links.map(({ name }) => name)).toEqual(used);
  expect(outcomes).toEqual([]);
  expect(complaints).toEqual(['no memory', 'no descriptor']);
});

it('opens one link for an interface that is given by two of its names', () => {
  indexes = { lan: 1, enp3s0: 1 };
  start(['lan', 'enp3s0'], () => {});
  vi.advanceTimersByTime(MINUTE_MS);
  expect(used).toEqual(['lan']);
  expect(complaints).toEqual(['enp3s0 is another name of lan, which is served already']);
  // The name may go to another interface.
  indexes = { lan: 1, enp3s0: 2 };
  vi.advanceTimersByTime(MINUTE_MS);
  expect(used).toEqual(['lan', 'enp3s0']);
});

it('opens no link any more when none is to receive', () => {
  let isOpen = true;
  indexes = { one: 1, two: 2 };
  start(['one', 'two'], () => {
    if (!isOpen) throw new StartupError('no memory', 'wait');
    isOpen = false;
  });
  isOpen = true;
  supervisor?.stopReceiving();
  vi.advanceTimersByTime(MINUTE_MS);
  expect(used).toEqual(['one']);
});
