import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { memoryTarget, Served } from '../protocol/served.ts';
import { describeWith, disposeAll, waitUntil } from '../support/tools.ts';
import { MIB, Setup, TOOLS, UNHARMED, type VerifyReport } from './setup.ts';

const TARGETS = [{ shelf: 1, slot: 0, backend: 'memory', memory: { size: 4 * MIB } }];

let setup: Setup;

function countOf(message: string): number {
  return setup.server.log.filter(({ msg }) => msg === message).length;
}

function linkOpenings(): number {
  return countOf('interface is open');
}

/** A server that looks only when the interface is up again has seen nothing, and goes on. */
async function takeDown(): Promise<void> {
  const before = countOf('interface is down');
  await setup.serverNetwork.run('ip', ['link', 'set', 's0', 'down']);
  await waitUntil('the link is closed', () => countOf('interface is down') > before);
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

/** A load that is under way. */
function startLoad(...options: (string | number)[]): Promise<{ report: Promise<VerifyReport> }> {
  const all = ['-j', setup.join('journal'), '-t', 3, '-T', 50, ...options];
  return setup.startLoad('1.0', ...all);
}

describeWith(TOOLS, 'a link that changes under load', () => {
  beforeEach(async () => {
    setup = await Setup.create({ mtu: 9000 });
    await setup.start(TARGETS);
  });
  afterEach(() => disposeAll(setup));

  it('may go down and up again', async () => {
    const during = await startLoad();
    for (let round = 0; round < 5; round++) {
      await takeDown();
      await change(['set', 's0', 'up']);
    }
    const report = await during.report;
    expect(report).toMatchObject(UNHARMED);
    expect(report.resends).toBeGreaterThan(0);
  });

  it('may lose its carrier because the other end goes down, and get it back', async () => {
    const during = await startLoad();
    for (let round = 0; round < 5; round++) {
      await setup.initiatorNetwork.run('ip', ['link', 'set', 'c0', 'down']);
      await sleep(100);
      await setup.initiatorNetwork.run('ip', ['link', 'set', 'c0', 'up']);
      await sleep(100);
    }
    const report = await during.report;
    expect(report).toMatchObject(UNHARMED);
    expect(report.resends).toBeGreaterThan(0);
    // It loses nothing any more; a busy machine may be late.
    expect(await load('-T', 4000)).toMatchObject({ ...UNHARMED, resends: 0 });
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
    const during = await startLoad('-e', '-n', 16, '-w', 0);
    await change(['set', 's0', 'mtu', '1500']);
    const report = await during.report;
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

describeWith(TOOLS, 'a link that is back after a change', () => {
  let served: Served;

  beforeEach(async () => {
    served = await Served.start([memoryTarget(1, 0), memoryTarget(2, 7)], 9000);
  });
  afterEach(() => disposeAll(served));

  const changes: Record<string, string[][]> = {
    'went down and up': [['down'], ['up']],
    'got another MTU': [['mtu', '1500']],
    'got another address': [['address', '02:00:00:00:12:34']],
  };
  for (const [what, commands] of Object.entries(changes)) {
    it(`announces all targets when it ${what}`, async () => {
      for (const command of commands) await served.changeLink(...command);
      await expectAnnouncements(served, commands.flat().includes('1500') ? 2 : 16);
    });
  }

  it('announces all targets when it was removed and made again', async () => {
    await served.network.run('ip', ['link', 'del', 'aoe0']);
    await served.client.reconnect();
    await expectAnnouncements(served, 16);
  });
});

/** One for each target, and for the fence: a config response to everybody that nobody asked for. */
async function expectAnnouncements(served: Served, sectorCount: number): Promise<void> {
  const frames = await served.client.receive(3);
  expect(frames.map((frame) => frame.toString('hex', 16, 19)).sort()).toEqual([
    '000100',
    '000207',
    '000909',
  ]);
  const [serverMac] = frames.map((frame) => frame.toString('hex', 6, 12));
  const state = await served.network.run('cat', ['/sys/class/net/aoe0/address']);
  expect(serverMac).toBe(state.trim().replaceAll(':', ''));
  for (const frame of frames) {
    expect(frame.toString('hex', 0, 6)).toBe('ffffffffffff');
    expect(frame.toString('hex', 12, 16)).toBe('88a21800');
    expect(frame.toString('hex', 19, 24)).toBe('0100000000');
    expect(frame[28]).toBe(sectorCount);
  }
}
