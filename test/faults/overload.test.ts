import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import type { ServerStatus } from '../../src/status.ts';
import { askStatus } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

vi.setConfig({ testTimeout: 60_000 * EFFORT });

const INITIATORS = 16;
const BUFFER_COUNT = 64;
const SECONDS = 6 * EFFORT;
/** Before the load ends. */
const CONTROL_MS_MAX = 4000;
const GROWTH_BYTES_MAX = 64 * MIB;

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'memory', memory: { size: 16 * MIB } },
  { shelf: 1, slot: 1, backend: 'file', file: { path: 'disk.img', size: 16 * MIB } },
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

  for (const target of ['1.0', '1.1']) {
    it(`all get on, and the server's memory stays bounded (e${target})`, async () => {
      setup = await Setup.create();
      await setup.start(TARGETS);
      const pid = await setup.serverPid();
      const many = ['-i', INITIATORS, '-q', 4 * BUFFER_COUNT, '-T', 300];
      // Everything is used once before memory is looked at.
      await setup.verify(target, ...many, '-t', 2, '-j', setup.join('journal'));
      const before = await memoryBytes(pid);
      let most = before;
      let slowestMs = 0;
      let isOver = false;
      const load = setup
        .verify(target, ...many, '-t', SECONDS, '-j', setup.join('journal'))
        .finally(() => {
          isOver = true;
        });
      while (!isOver) {
        most = Math.max(most, await memoryBytes(pid));
        const askedMs = performance.now();
        await status();
        slowestMs = Math.max(slowestMs, performance.now() - askedMs);
        await sleep(200);
      }
      const report = await load;
      expect(report).toMatchObject({ ...UNHARMED, bufferCount: BUFFER_COUNT });
      // Requests beyond the bound are dropped, and resent.
      expect(report.resends).toBeGreaterThan(100);
      expect(report.leastByInitiator * INITIATORS).toBeGreaterThan(
        (report.reads + report.writes) / 4,
      );
      expect(most - before).toBeLessThan(GROWTH_BYTES_MAX);
      // The operator sees it all, also while it lasts.
      expect(slowestMs).toBeLessThan(CONTROL_MS_MAX);
      const { frames, links, targets } = await status();
      const ringFull = links.reduce((sum, { counters }) => sum + (counters?.dropped ?? 0), 0);
      expect(frames.overload + ringFull).toBeGreaterThan(100);
      const busy = targets.find(({ name }) => name === `e${target}`);
      expect(busy?.clients.length).toBe(INITIATORS);
      expect(busy?.latencyUs.read.count).toBe(busy?.counters.reads);
    });
  }
});
