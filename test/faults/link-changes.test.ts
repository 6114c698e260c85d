import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { memoryTarget, Served } from '../protocol/served.ts';
import { describeWith, disposeAll, run, waitUntil } from '../support/tools.ts';
import { Setup, TOOLS, UNHARMED, type VerifyReport } from './setup.ts';

/** One is served by each thread when there are two. */
const NAMES = ['1.0', '1.1'] as const;
const TARGETS = [0, 1].map((slot) => memoryTarget(1, slot));
const NEW_MAC = '02:00:00:00:12:34';

let setup: Setup;
/** Each of them opens the link for itself. */
let threads: number;

async function start(workers: number): Promise<void> {
  threads = workers;
  setup = await Setup.create({ mtu: 9000 });
  await setup.start(TARGETS, { settings: { workers } });
}

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
  await waitUntil('the link is open again', () => linkOpenings() >= before + threads);
}

function load(...options: (string | number)[]): Promise<VerifyReport> {
  return loadOf('1.0', ...options);
}

function loadOf(target: string, ...options: (string | number)[]): Promise<VerifyReport> {
  return setup.verify(target, '-j', setup.join(target), '-t', 1, '-T', 50, ...options);
}

function loadAll(): Promise<VerifyReport[]> {
  return Promise.all(NAMES.map((target) => loadOf(target)));
}

/** A load that is under way. */
function startLoad(...options: (string | number)[]): Promise<{ report: Promise<VerifyReport> }> {
  return startLoadOf('1.0', ...options);
}

function startLoadOf(
  target: string,
  ...options: (string | number)[]
): Promise<{ report: Promise<VerifyReport> }> {
  const all = ['-j', setup.join(target), '-t', 3, '-T', 50, ...options];
  return setup.startLoad(target, ...all);
}

describeWith(TOOLS, 'a link that changes under load', () => {
  beforeEach(() => start(1));
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

  it('tells of the bridge that its interface becomes part of, and comes back when it is none', async () => {
    const parts = () =>
      setup.server.log.flatMap(({ msg, ...rest }) => (/part of a bridge/.test(msg) ? rest : []));
    await setup.serverNetwork.run('ip', ['link', 'add', 'br0', 'type', 'bridge']);
    expect(parts()).toEqual([]);
    await change(['set', 's0', 'master', 'br0']);
    // The line after that of the opening may come by itself.
    await waitUntil('the server tells of the bridge', () => parts().length > 0);
    expect(parts()).toMatchObject([{ level: 'warn', interface: 's0', master: 'br0' }]);
    await change(['set', 's0', 'nomaster']);
    expect(parts()).toHaveLength(1);
    expect(await load()).toMatchObject(UNHARMED);
  });

  it('may get another address', async () => {
    expect(await load()).toMatchObject(UNHARMED);
    await change(['set', 's0', 'address', NEW_MAC]);
    expect(await load()).toMatchObject(UNHARMED);
  });
});

describeWith(TOOLS, 'a link that gets another MTU under load', () => {
  afterEach(() => disposeAll(setup));

  for (const workers of [1, 2]) {
    it(`answers what no longer fits with an ATA error, with workers = ${workers}`, async () => {
      await start(workers);
      const options = ['-e', '-n', 16, '-w', 0];
      const during = await Promise.all(NAMES.map((target) => startLoadOf(target, ...options)));
      await change(['set', 's0', 'mtu', '1500']);
      for (const report of await Promise.all(during.map(({ report }) => report))) {
        // ABORT: Linux would resend for three minutes if it were an AoE error, or nothing.
        expect(report).toMatchObject({
          ...{ wrong: 0, refused: 0, malformed: 0, unanswered: 0 },
          ...{ lastStatus: 0x41, lastError: 0x04 },
        });
        expect(report.reads).toBeGreaterThan(0);
        expect(report.failed).toBeGreaterThan(0);
      }
      for (const report of await loadAll()) {
        expect(report).toMatchObject({ ...UNHARMED, sectorsPerFrame: 2 });
      }

      await change(['set', 's0', 'mtu', '9000']);
      for (const report of await loadAll()) {
        expect(report).toMatchObject({ ...UNHARMED, sectorsPerFrame: 16 });
      }
    });
  }
});

describeWith(TOOLS, 'a link that is called by another name of its interface', () => {
  afterEach(() => disposeAll(setup));

  it('follows its changes', async () => {
    setup = await Setup.create({ mtu: 9000 });
    threads = 1;
    const name = ['property', 'add', 'dev', 's0', 'altname', 'lan0'];
    await setup.serverNetwork.run('ip', ['link', ...name]);
    setup.serverInterfaces[0] = 'lan0';
    await setup.start(TARGETS);
    await change(['set', 's0', 'mtu', '1500']);
    expect(await load()).toMatchObject({ ...UNHARMED, sectorsPerFrame: 2 });
  });
});

describeWith(TOOLS, 'a link that is back after a change', () => {
  let served: Served;

  async function serve(workers: number): Promise<void> {
    served = await Served.start([memoryTarget(1, 0), memoryTarget(2, 7)], 9000, { workers });
  }
  afterEach(() => disposeAll(served));

  const changes = [
    { what: 'went down and up', commands: [['down'], ['up']], threadCounts: [1] },
    { what: 'got another MTU', commands: [['mtu', '1500']], threadCounts: [1, 2] },
    { what: 'got another address', commands: [['address', NEW_MAC]], threadCounts: [1] },
  ];
  for (const { what, commands, threadCounts } of changes) {
    for (const workers of threadCounts) {
      it(`announces all targets when it ${what}, with workers = ${workers}`, async () => {
        await serve(workers);
        for (const command of commands) await served.changeLink(...command);
        await expectAnnouncements(served, commands.flat().includes('1500') ? 2 : 16);
      });
    }
  }

  it('announces all targets when its other end is back', async () => {
    await serve(1);
    const otherEnd = ['link', 'set', served.client.interfaceName];
    await run('ip', [...otherEnd, 'down']);
    const tells = 'interface is not connected';
    await waitUntil('the server has seen it', () =>
      served.server.log.some(({ msg }) => msg === tells),
    );
    await run('ip', [...otherEnd, 'up']);
    await expectAnnouncements(served, 16);
  });

  for (const workers of [1, 2]) {
    const how = `with workers = ${workers}`;
    it(`announces all targets when it was removed and made again, ${how}`, async () => {
      await serve(workers);
      await served.network.run('ip', ['link', 'del', 'aoe0']);
      await served.client.reconnect();
      await expectAnnouncements(served, 16);
    });
  }
});

/**
 * One for each target, and for the fence: a config response to everybody that nobody asked for. What
 * is told before the kernel says that there is a carrier may come through, and is told again.
 */
async function expectAnnouncements(served: Served, sectorCount: number): Promise<void> {
  const frames: Buffer[] = [];
  const addresses = () => new Set(frames.map((frame) => frame.toString('hex', 16, 19)));
  while (addresses().size < 3) frames.push(...(await served.client.receive(1)));
  expect([...addresses()].sort()).toEqual(['000100', '000207', '000909']);
  const [serverMac] = frames.map((frame) => frame.toString('hex', 6, 12));
  const state = await served.network.run('cat', ['/sys/class/net/aoe0/address']);
  expect(serverMac).toBe(state.trim().replaceAll(':', ''));
  for (const frame of frames) {
    expect(frame.toString('hex', 0, 6)).toBe('ffffffffffff');
    expect(frame.toString('hex', 12, 16)).toBe('88a21800');
    expect(frame.toString('hex', 19, 24)).toBe('0100000000');
    expect(frame[28]).toBe(sectorCount);
    // The command to read, which 9front insists on.
    expect(frame[29]).toBe(0x10);
  }
}
