import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { GUEST_TOOLS, LinuxGuest } from '../linux/guest.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED } from './setup.ts';

vi.setConfig({ testTimeout: 120_000 * EFFORT, hookTimeout: 120_000 });

const KILLS = 8 * EFFORT;
const GUEST_KILLS = 3 * EFFORT;
/** One that finds no server goes on until there is one. */
const LOAD = ['-t', 5, '-m', 1, '-T', 50, '-q', 60];
const TAP = 'tap0';
const COMPLAINTS = /I\/O error|EXT4-fs (error|warning)|BUG:|WARNING:|\bOops\b/;

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'file', file: { path: 'disk.img', size: 8 * MIB } },
  { shelf: 1, slot: 1, backend: 'file', file: { path: 'direct.img', size: 8 * MIB, direct: true } },
  {
    shelf: 1,
    slot: 2,
    backend: 'cas',
    cas: { size: 8 * MIB, blob_store: { type: 'file', path: 'store' } },
  },
];

let setup: Setup | undefined;
let guest: LinuxGuest | undefined;

/** Kills the server `count` times, each time at another moment, and starts it again. */
async function killAndRestart(count: number, pauseMsMax: number): Promise<void> {
  for (let kill = 0; kill < count; kill++) {
    await sleep(Math.random() * pauseMsMax);
    await setup?.server.kill();
    await setup?.start(TARGETS);
  }
}

/** Writes in the guest, past its cache, reads it back and compares. */
function loadInGuest(place: string): Promise<string> {
  const load = `fio --name=load ${place} --rw=randwrite --bsrange=512-64k --direct=1 \
    --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1`;
  return (guest as LinuxGuest).run(load, 60_000 * EFFORT);
}

describeWith([...TOOLS, ...GUEST_TOOLS], 'a server that is killed and started again', () => {
  afterEach(async () => {
    await disposeAll(guest, setup);
    [guest, setup] = [undefined, undefined];
  });

  it('loses no acknowledged write, however often', async () => {
    setup = await Setup.create({ count: 2 });
    await setup.start(TARGETS);
    const loads = [];
    const kills = killAndRestart(KILLS, 1000);
    let isOver = false;
    const end = kills.finally(() => {
      isOver = true;
    });
    for (const target of ['1.0', '1.1', '1.2']) {
      const journal = ['-j', setup.join(target)];
      loads.push(
        (async (load: Setup) => {
          while (!isOver) {
            const report = await load.verify(target, ...journal, ...LOAD);
            expect(report).toMatchObject(UNHARMED);
          }
          expect(await load.verify(target, ...journal, '-c')).toMatchObject(UNHARMED);
        })(setup),
      );
    }
    await Promise.all([end, ...loads]);
  });

  it('is not noticed by a Linux initiator that verifies what it wrote, nor by what it has mounted', async () => {
    setup = await Setup.create({ count: 0 });
    await setup.serverNetwork.addTap(TAP, 9000);
    setup.serverInterfaces.push(TAP);
    await setup.start(TARGETS);
    guest = await LinuxGuest.boot({
      ...{ namespace: setup.serverNetwork, tap: TAP, mtu: 9000 },
      consolePath: setup.join('console'),
    });
    await guest.run(`
      aoe-discover
      for n in {1..100}; do [ -b /dev/etherd/e1.1 ] && break; sleep 0.1; done
      mkfs.ext4 -q /dev/etherd/e1.1
      mkdir -p /mnt/ext4
      mount -t ext4 /dev/etherd/e1.1 /mnt/ext4`);
    let isOver = false;
    const loads = [
      '--filename=/dev/etherd/e1.0 --size=8M --io_size=24M --rate=1500k',
      '--directory=/mnt/ext4 --size=4M --io_size=12M --rate=750k',
    ].map((place) =>
      loadInGuest(place).finally(() => {
        isOver = true;
      }),
    );
    await killAndRestart(GUEST_KILLS, 1500);
    expect(isOver).toBe(false);
    await Promise.all(loads);
    await guest.run('umount /mnt/ext4; e2fsck -fn /dev/etherd/e1.1');
    expect(guest.consoleText()).not.toMatch(COMPLAINTS);
  });
});
