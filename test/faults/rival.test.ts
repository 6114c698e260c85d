import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { RivalWatch } from '../../src/aoe/rival-watch.ts';
import { FrameClient } from '../protocol/frame-client.ts';
import { TARGET_MAC } from '../protocol/frames.ts';
import { memoryTarget } from '../protocol/served.ts';
import { NetworkNamespace } from '../support/netns.ts';
import { describeWith, disposeAll, waitUntil } from '../support/tools.ts';
import { MIB, Setup, TOOLS } from './setup.ts';
import { createFile } from './storage.ts';

vi.setConfig({ testTimeout: 100_000 });

const LOOK_MS = 50;
/** The server's own watch looks once a minute. */
const SERVER_LOOK_MS = 75_000;
const TARGETS = [memoryTarget(1, 0), memoryTarget(1, 1)];
const NAMES = new Map([
  [0x100, 'e1.0'],
  [0x101, 'e1.1'],
]);
const DESTROYS = /another server answers.*DESTROY/;

let setup: Setup;
let network: NetworkNamespace | undefined;
let client: FrameClient | undefined;

/** Serves e1.`slot` by another program. */
async function startVblade(place: NetworkNamespace, nic: string, slot: number): Promise<void> {
  const image = setup.join('rival.img');
  await createFile(image, MIB);
  place.spawn('vblade', ['1', `${slot}`, nic, image], { stdio: 'ignore' });
}

describeWith([...TOOLS, 'vblade'], 'another server with an address of ours', () => {
  afterEach(async () => {
    await disposeAll(setup, client, network);
    [client, network] = [undefined, undefined];
  });

  it('keeps ours from starting when it is there first', async () => {
    setup = await Setup.create();
    await startVblade(setup.initiatorNetwork, 'c0', 1);
    await waitUntil('vblade answers', async () => {
      const discovery = ['discover', '--json', 's0'];
      const program = [process.execPath, ['dist/cli/main.js', ...discovery]] as const;
      return (await setup.serverNetwork.run(...program)).includes('e1.1');
    });
    await expect(setup.start(TARGETS)).rejects.toThrow(/e1\.1 is already served on s0, by /);
    await setup.start([memoryTarget(1, 0)]);
  });

  it('is reported when it comes later, at each look', async () => {
    setup = await Setup.create({ count: 0 });
    network = await NetworkNamespace.create();
    const fence = { shelf: 9, slot: 9 };
    client = await FrameClient.connect({ namespace: network, interfaceName: 'aoe0', fence });
    const lines: Record<string, unknown>[] = [];
    const log = pino({ base: null }, { write: (line) => lines.push(JSON.parse(line)) });
    const watch = new RivalWatch([client.interfaceName], log, LOOK_MS);
    watch.targets = NAMES;
    try {
      await startVblade(network, 'aoe0', 2);
      await sleep(1000);
      // That one is none of ours.
      expect(lines).toEqual([]);
      await startVblade(network, 'aoe0', 1);
      await waitUntil('two reports', () => lines.length >= 2);
    } finally {
      watch.close();
    }
    for (const line of lines) {
      const where = { target: 'e1.1', interface: client.interfaceName, mac: TARGET_MAC };
      expect(line).toMatchObject({ level: 50, ...where, msg: expect.stringMatching(DESTROYS) });
    }
  });

  it('is reported by a server that goes on serving', async () => {
    setup = await Setup.create({ count: 2 });
    await setup.start(TARGETS, { settings: { workers: 2 } });
    await startVblade(setup.initiatorNetwork, 'c0', 1);
    const reports = () => setup.server.log.filter(({ msg }) => DESTROYS.test(msg));
    await waitUntil('a report', () => reports().length > 0, SERVER_LOOK_MS);
    expect(reports()).toMatchObject([{ target: 'e1.1', interface: 's0' }]);
    expect(await setup.verify('1.0', '-t', 1)).toMatchObject({ wrong: 0, unanswered: 0 });
  });
});
