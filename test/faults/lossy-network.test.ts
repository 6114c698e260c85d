import { afterEach, expect, it, vi } from 'vitest';
import { askStatus } from '../support/control.ts';
import { describeWith } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

vi.setConfig({ testTimeout: 60_000 * EFFORT });

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'memory', memory: { size: 4 * MIB } },
  { shelf: 1, slot: 1, backend: 'file', file: { path: 'disk.img', size: 4 * MIB } },
];
const STORAGE = { '1.0': 'memory', '1.1': 'a file' };
/** With two threads each has a busy target. */
const LATE = [
  { workers: 1, busy: ['1.0'] },
  { workers: 1, busy: ['1.1'] },
  { workers: 2, busy: ['1.0', '1.1'] },
] as const;

/** A twentieth to a fifth of all frames, in both directions, are each of these. */
const MILD = ['-l', 5, '-d', 5, '-y', 5];
const SEVERE = ['-l', 20, '-d', 20, '-y', 20];
const SECONDS = 4 * EFFORT;
/** Enough writes for a hundred losses, too. */
const LONG = ['-t', SECONDS, '-m', 1000];

let setup: Setup;

describeWith(TOOLS, 'a network that drops, duplicates, delays and reorders', () => {
  afterEach(() => setup[Symbol.asyncDispose]());

  for (const links of [1, 2]) {
    for (const mtu of [1500, 9000]) {
      it(`loses nothing over ${links} interface(s) with an MTU of ${mtu}`, async () => {
        setup = await Setup.create({ count: links, mtu });
        await setup.start(TARGETS);
        const reports = await Promise.all([
          setup.verify('1.0', ...LONG, '-T', 20, '-D', 30, ...SEVERE),
          setup.verify('1.1', ...LONG, '-T', 50, '-D', 30, ...MILD),
        ]);
        for (const report of reports) {
          expect(report).toMatchObject(UNHARMED);
          expect(report.resends).toBeGreaterThan(100);
        }
      });
    }
  }

  // Few sectors and many requests: a sector is written again as soon as it is free. While the
  // server is paused, originals and resends fill both receive rings.
  for (const { workers, busy } of LATE) {
    const storage = busy.map((target) => STORAGE[target]).join(' or ');
    it(`never lets a late original overwrite newer data in ${storage}, with workers = ${workers}`, async () => {
      setup = await Setup.create({ count: 2, mtu: 1500 });
      await setup.start(TARGETS, { settings: { workers } });
      const pid = await setup.serverPid();
      const options = ['-t', SECONDS, '-T', 4, '-p', pid, '-s', 256, '-n', 1, '-q', 200, '-w', 70];
      const loads = busy.map((target) => setup.verify(target, ...options));
      for (const report of await Promise.all(loads)) {
        expect(report).toMatchObject(UNHARMED);
        expect(report.late).toBeGreaterThan(100);
      }
    });
  }
});

describeWith(TOOLS, 'a network that loses nothing', () => {
  afterEach(() => setup[Symbol.asyncDispose]());

  it('is not made to resend what two interfaces bring at once', async () => {
    setup = await Setup.create({ count: 2, mtu: 9000 });
    // Large, so that hardly two writes at a time are of one sector, whatever they have in common.
    const memory = { size: 512 * MIB };
    await setup.start([{ shelf: 1, slot: 0, backend: 'memory', memory }]);
    const load = ['-t', SECONDS, '-i', 4, '-q', 64, '-w', 100, '-n', 16, '-T', 8000];
    expect(await setup.verify('1.0', ...load)).toMatchObject({ ...UNHARMED, resends: 0 });
    const { targets } = await askStatus(setup.join('state/control.sock'));
    expect(targets[0]?.counters.stale).toBe(0);
  });
});
