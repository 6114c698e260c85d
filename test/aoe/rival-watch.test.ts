import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { discoverTargets } from '../../src/aoe/initiator/discover.ts';
import { Initiator } from '../../src/aoe/initiator/initiator.ts';
import { RivalWatch, refuseRivals } from '../../src/aoe/rival-watch.ts';

const MINUTE_MS = 60_000;
const NAMES = new Map([[0x100, 'e1.0']]);
const RIVAL = { address: 0x100, mac: 0x02_00_00_00_00_09 };

vi.mock('../../src/aoe/initiator/discover.ts', () => ({ discoverTargets: vi.fn() }));

beforeEach(() => {
  const initiator = { async [Symbol.asyncDispose]() {} } as Initiator;
  vi.spyOn(Initiator, 'open').mockReturnValue(initiator);
  vi.mocked(discoverTargets).mockResolvedValue([RIVAL as never]);
});
afterEach(() => {
  vi.useRealTimers();
  vi.clearAllMocks();
});

let watch: RivalWatch;
/** Targets of which a rival was reported. */
let found: string[];

function startWatch(): void {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  found = [];
  const log = pino({}, { write: (line) => found.push(JSON.parse(line).target) });
  watch = new RivalWatch(['lo'], log, MINUTE_MS);
}

it('finds a rival of targets that come and go all the time', async () => {
  startWatch();
  for (let second = 0; second < 120; second += 20) {
    watch.targets = new Map(NAMES);
    await vi.advanceTimersByTimeAsync(20_000);
  }
  expect(found).toEqual(['e1.0', 'e1.0']);
  watch.targets = new Map();
  await vi.advanceTimersByTimeAsync(MINUTE_MS);
  expect(found).toHaveLength(2);
  watch.close();
});

it('takes no interface of this server for a rival, nor a target that is drained meanwhile', async () => {
  startWatch();
  watch.targets = new Map(NAMES);
  vi.mocked(discoverTargets).mockResolvedValue([{ ...RIVAL, mac: 0 } as never]);
  await vi.advanceTimersByTimeAsync(MINUTE_MS);
  vi.mocked(discoverTargets).mockImplementation(async () => {
    watch.targets = new Map();
    return [RIVAL as never];
  });
  await vi.advanceTimersByTimeAsync(MINUTE_MS);
  expect(found).toEqual([]);
  watch.close();
});

it('takes no second to look for rivals of nothing', async () => {
  await refuseRivals(new Map(), ['lo']);
  expect(discoverTargets).not.toHaveBeenCalled();
  await expect(refuseRivals(NAMES, ['lo'])).rejects.toThrow(/^e1.0 is already served on lo/);
});
