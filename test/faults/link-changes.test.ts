import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { describeWith, disposeAll, waitUntil } from '../support/tools.ts';
import { MIB, Setup, TOOLS, UNHARMED, type VerifyReport } from './setup.ts';

vi.setConfig({ testTimeout: 60_000 });

const TARGETS = [{ shelf: 1, slot: 0, backend: 'memory', memory: { size: 4 * MIB } }];

let setup: Setup;

function linkOpenings(): number {
  return setup.server.log.filter(({ msg }) => msg === 'interface is open').length;
}

/** Does something to the interface, and waits until the server has taken it up again. */
async function change(...commands: string[][]): Promise<void> {
  const before = linkOpenings();
  for (const command of commands) await setup.serverNetwork.run('ip', ['link', ...command]);
  await waitUntil('the link is open again', () => linkOpenings() > before);
}

function load(...options: (string | number)[]): Promise<VerifyReport> {
  return setup.verify('1.0', '-j', setup.join('journal'), '-t', 1, '-T', 50, ...options);
}

/** Time for a load to be well under way. */
const START_MS = 800;

describeWith(TOOLS, 'a link that changes under load', () => {
  beforeEach(async () => {
    setup = await Setup.create({ mtu: 9000 });
    await setup.start(TARGETS);
  });
  afterEach(() => disposeAll(setup));

  it('may go down and up again', async () => {
    const during = load('-t', 3);
    await sleep(START_MS);
    for (let round = 0; round < 5; round++) {
      await change(['set', 's0', 'down'], ['set', 's0', 'up']);
    }
    const report = await during;
    expect(report).toMatchObject(UNHARMED);
    expect(report.resends).toBeGreaterThan(0);
  });

  it('may be removed and made again', async () => {
    expect(await load()).toMatchObject(UNHARMED);
    await setup.serverNetwork.run('ip', ['link', 'del', 's0']);
    const before = linkOpenings();
    await setup.addLink(0, 9000);
    await waitUntil('the link is open again', () => linkOpenings() > before);
    expect(await load()).toMatchObject(UNHARMED);
  });

  it('may get another address', async () => {
    expect(await load()).toMatchObject(UNHARMED);
    await change(['set', 's0', 'address', '02:00:00:00:12:34']);
    expect(await load()).toMatchObject(UNHARMED);
  });

  it('may get another MTU: what no longer fits is answered with an ATA error', async () => {
    const during = load('-t', 3, '-e', '-n', 16, '-w', 0);
    await sleep(START_MS);
    await change(['set', 's0', 'mtu', '1500']);
    const report = await during;
    // ABORT: Linux would resend for three minutes if it were an AoE error, or nothing.
    expect(report).toMatchObject({
      ...{ wrong: 0, refused: 0, malformed: 0, unanswered: 0 },
      ...{ lastStatus: 0x41, lastError: 0x04 },
    });
    expect(report.reads).toBeGreaterThan(0);
    expect(report.failed).toBeGreaterThan(0);
    expect(await load()).toMatchObject({ ...UNHARMED, sectorsPerFrame: 2 });

    await change(['set', 's0', 'mtu', '9000']);
    expect(await load()).toMatchObject({ ...UNHARMED, sectorsPerFrame: 16 });
  });
});
