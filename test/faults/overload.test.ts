import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { Limits } from '../../src/core/limits.ts';
import type { ServerStatus } from '../../src/status.ts';
import { askStatus } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

vi.setConfig({ testTimeout: 60_000 * EFFORT });

const INITIATORS = 16;
const BUFFER_COUNT = 64;
const SECONDS = 5 * EFFORT;
/** Before the load ends. */
const CONTROL_MS_MAX = 4000;
const GROWTH_BYTES_MAX = 64 * MIB;

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'memory', memory: { size: 16 * MIB } },
  { shelf: 1, slot: 1, backend: 'file', file: { path: 'disk.img', size: 16 * MIB } },
];

/** With two threads each has a busy target. */
const CASES = [
  { workers: 1, busy: ['1.0'] },
  { workers: 1, busy: ['1.1'] },
  { workers: 2, busy: ['1.0', '1.1'] },
];

let setup: Setup;

function status(): Promise<ServerStatus> {
  return askStatus(setup.join('state/control.sock'));
}

async function memoryBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s*(\d+) kB/.exec(status)?.[1]) * 1024;
}

describeWith(TOOLS, 'initiators that ask for far more than the server takes', () => {
  afterEach(() => disposeAll(setup));

  for (const { workers, busy } of CASES) {
    const names = busy.map((target) => `e${target}`);
    const where = `${names.join(' and ')}, workers = ${workers}`;
    it(`all get on, and the server's memory stays bounded (${where})`, async () => {
      setup = await Setup.create();
      await setup.start(TARGETS, { settings: { workers } });
      const pid = await setup.serverPid();
      // Pauses make more of them than it takes, however fast the server is.
      const many = ['-i', INITIATORS, '-q', 4 * BUFFER_COUNT, '-T', 300, '-p', pid];
      const load = (seconds: number) =>
        Promise.all(
          busy.map((target) =>
            setup.verify(target, ...many, '-t', seconds, '-j', setup.join(target)),
          ),
        );
      // Everything is used once before memory is looked at.
      await load(2);
      const before = await memoryBytes(pid);
      let most = before;
      let slowestMs = 0;
      let mostInFlight = 0;
      let isOver = false;
      const loads = load(SECONDS).finally(() => {
        isOver = true;
      });
      while (!isOver) {
        most = Math.max(most, await memoryBytes(pid));
        const askedMs = performance.now();
        const { targets } = await status();
        slowestMs = Math.max(slowestMs, performance.now() - askedMs);
        mostInFlight = Math.max(mostInFlight, ...targets.map(({ inFlight }) => inFlight));
        await sleep(200);
      }
      for (const report of await loads) {
        expect(report).toMatchObject({ ...UNHARMED, bufferCount: BUFFER_COUNT });
        // Requests beyond the bound are dropped, and resent.
        expect(report.resends).toBeGreaterThan(100);
        expect(report.leastByInitiator * INITIATORS).toBeGreaterThan(
          (report.reads + report.writes) / 4,
        );
      }
      expect(most - before).toBeLessThan(GROWTH_BYTES_MAX);
      expect(mostInFlight).toBeLessThanOrEqual(Limits.requestsPerTarget);
      // The operator sees it all, also while it lasts, and of all threads.
      expect(slowestMs).toBeLessThan(CONTROL_MS_MAX);
      const { frames, links, targets, inFlightMax } = await status();
      const ringFull = links.reduce((sum, { counters }) => sum + (counters?.dropped ?? 0), 0);
      expect(frames.overload + ringFull).toBeGreaterThan(100);
      expect(inFlightMax).toBe(workers * Limits.requestCount);
      const done = targets.reduce((sum, { counters }) => sum + counters.reads + counters.writes, 0);
      expect(frames.requests).toBeGreaterThanOrEqual(done);
      for (const { counters, clients, latencyUs } of targets.filter(({ name }) =>
        names.includes(name),
      )) {
        expect(clients.length).toBe(INITIATORS);
        expect(latencyUs.read.count).toBe(counters.reads);
      }
    });
  }
});
