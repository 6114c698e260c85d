import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { NetworkNamespace } from '../support/netns.ts';
import { AoeServer } from '../support/server.ts';
import { describeWith, disposeAll, TempDirectory, waitUntil } from '../support/tools.ts';
import { GUEST_TOOLS, LinuxGuest } from './guest.ts';

// A script in the guest is out of time sooner, and its error says more.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 });

const SECTOR_SIZE = 512;
const MIB = 1 << 20;
const TAP = 'tap0';

/** The smallest disk that mkfs.xfs accepts. */
const FILE_SYSTEM_SIZE = 300 * MIB;
const RAW_SIZE = 64 * MIB;
const GROWN_SIZE = 96 * MIB;

const EXT4 = 'e1.0';
const XFS = 'e1.1';
const RAW = 'e7.2';
/** The highest address there is. */
const MEMORY = 'e65534.254';

const SIZES = {
  [EXT4]: FILE_SYSTEM_SIZE,
  [XFS]: FILE_SYSTEM_SIZE,
  [RAW]: RAW_SIZE,
  [MEMORY]: RAW_SIZE,
};

const TARGETS = [
  { shelf: 1, slot: 0, backend: 'file', file: { path: 'ext4.img', size: FILE_SYSTEM_SIZE } },
  { shelf: 1, slot: 1, backend: 'file', file: { path: 'xfs.img', size: FILE_SYSTEM_SIZE } },
  { shelf: 7, slot: 2, backend: 'file', file: { path: 'raw.img' } },
  { shelf: 65534, slot: 254, backend: 'memory', memory: { size: RAW_SIZE } },
];

const MOUNT = `
  mkdir -p /mnt/ext4 /mnt/xfs
  mount -t ext4 /dev/etherd/${EXT4} /mnt/ext4
  mount -t xfs /dev/etherd/${XFS} /mnt/xfs`;

const UNMOUNT_AND_CHECK = `
  umount /mnt/ext4 /mnt/xfs
  e2fsck -fn /dev/etherd/${EXT4}
  xfs_repair -n /dev/etherd/${XFS}`;

const CHECKSUMS = 'find /mnt/ext4 /mnt/xfs -type f | sort | xargs sha256sum';

const COMPLAINTS = /I\/O error|EXT4-fs (error|warning)|XFS.*(error|corrupt)|BUG:|WARNING:|\bOops/i;

let directory: TempDirectory;
let namespace: NetworkNamespace;
let server: AoeServer;
let guest: LinuxGuest;
let checksums: string;
let loadCount = 0;

async function start(mtu: number): Promise<void> {
  await namespace.setMtu(TAP, mtu);
  server = await startServer();
  const consolePath = directory.join(`console-${mtu}`);
  guest = await LinuxGuest.boot({ namespace, tap: TAP, mtu, consolePath });
}

function startServer(): Promise<AoeServer> {
  const options = { namespace, interfaces: [TAP], directory: directory.path, targets: TARGETS };
  return AoeServer.start(options);
}

/** Waits until the driver has brought every target up; what aoe-stat then says, by device. */
async function discover(): Promise<Map<string, { payload: number; state: string }>> {
  const devices = Object.keys(SIZES);
  const table = await guest.run(`
    aoe-discover
    for attempt in {1..100}; do
      [ "$(aoe-stat | grep -c ' up ')" = ${devices.length} ] && break
      sleep 0.1
    done
    aoe-stat`);
  const rows = table.trim().split('\n');
  return new Map(
    rows.map((row) => {
      const [device = '', , , payload, state = ''] = row.trim().split(/\s+/);
      return [device, { payload: Number(payload), state }];
    }),
  );
}

function sizeOf(device: string): Promise<number> {
  return guest.run(`blockdev --getsize64 /dev/etherd/${device}`).then(Number);
}

/** Writes `sizeMib` in random order around the guest's cache, reads it back and compares. */
function writeAndVerify(place: string, sizeMib: number, extra = ''): Promise<string> {
  // Another seed for each run: what an earlier one left behind does not pass for this one's.
  loadCount += 1;
  return guest.run(
    `fio --name=load ${place} --size=${sizeMib}M --rw=randwrite --bsrange=512-64k \
       --direct=1 --ioengine=libaio --iodepth=16 --randseed=${loadCount} \
       --verify=crc32c --verify_fatal=1 ${extra}`,
  );
}

/** A sector's worth of text for each sector number from 1 to `count`. */
function numberedSectors(count: number): Buffer {
  const sectors = Array.from({ length: count }, (_, index) => `${index + 1}`.padStart(511));
  return Buffer.from(`${sectors.join('\n')}\n`);
}

describeWith(GUEST_TOOLS, 'a Linux initiator', () => {
  beforeAll(async () => {
    directory = await TempDirectory.create();
    await writeFile(directory.join('raw.img'), new Uint8Array(RAW_SIZE));
    namespace = await NetworkNamespace.create();
    await namespace.addTap(TAP);
    await start(9000);
  });

  afterAll(() => disposeAll(guest, server, namespace, directory));

  describe('with jumbo frames', () => {
    it('discovers every target, with its size and 8 KiB to a frame', async () => {
      const discovered = await discover();
      expect([...discovered.keys()].sort()).toEqual(Object.keys(SIZES).sort());
      for (const [device, size] of Object.entries(SIZES)) {
        expect(discovered.get(device)).toEqual({ payload: 8192, state: 'up' });
        expect(await sizeOf(device)).toBe(size);
      }
    });

    it('reads a model and a serial number that tells the targets apart', async () => {
      const serials = new Set<string>();
      for (const device of Object.keys(SIZES)) {
        // hdparm also asks what the driver has no answer to, and ends with ENOTTY (25) for it.
        const identity = await guest.run(`hdparm -i /dev/etherd/${device} || [ $? = 25 ]`);
        expect(identity).toMatch(/Model=\S+/);
        serials.add(/SerialNo=(\S+)/.exec(identity)?.[1] ?? '');
      }
      expect(serials.size).toBe(Object.keys(SIZES).length);
    });

    it('keeps ext4, xfs and a raw disk intact under verified load on all at once', async () => {
      await guest.run(`mkfs.ext4 -q /dev/etherd/${EXT4}; mkfs.xfs -q /dev/etherd/${XFS}\n${MOUNT}`);
      await Promise.all([
        writeAndVerify('--directory=/mnt/ext4', 32),
        writeAndVerify('--directory=/mnt/xfs', 32),
        writeAndVerify(`--filename=/dev/etherd/${MEMORY}`, 32),
      ]);
      checksums = await guest.run(`
        for n in {1..40}; do
          head -c $((n * 12345)) /dev/urandom | tee /mnt/ext4/file$n >/mnt/xfs/file$n
        done
        ${CHECKSUMS}`);
      await guest.run(UNMOUNT_AND_CHECK);
    });

    it('changes exactly the bytes of the image that it writes', async () => {
      const firstSector = 43;
      const pattern = numberedSectors(8 * 2048);
      await guest.run(`
        printf '%511d\\n' {1..${8 * 2048}} >/tmp/pattern
        dd if=/tmp/pattern of=/dev/etherd/${RAW} bs=${firstSector * SECTOR_SIZE} seek=1 oflag=direct
        dd if=/tmp/pattern of=/dev/etherd/${RAW} bs=512 count=1 oflag=direct \
          seek=${RAW_SIZE / SECTOR_SIZE - 1}`);

      const expected = Buffer.alloc(RAW_SIZE);
      pattern.copy(expected, firstSector * SECTOR_SIZE);
      pattern.copy(expected, RAW_SIZE - SECTOR_SIZE, 0, SECTOR_SIZE);
      const image = await readFile(directory.join('raw.img'));
      expect(image.equals(expected)).toBe(true);
    });

    it('sees the new size of an image that grows while it is in use', async () => {
      await guest.run(`sleep 1000 </dev/etherd/${RAW} &`);
      await truncate(directory.join('raw.img'), GROWN_SIZE);
      await guest.run(`
        for attempt in {1..50}; do
          aoe-revalidate ${RAW}
          sleep 0.2
          [ "$(blockdev --getsize64 /dev/etherd/${RAW})" != ${RAW_SIZE} ] && break
        done
        true`);
      expect(await sizeOf(RAW)).toBe(GROWN_SIZE);
      await writeAndVerify(`--filename=/dev/etherd/${RAW} --offset=${RAW_SIZE}`, 32);
    });

    it('goes on by itself when the server restarts under load', async () => {
      const lastWrite = async () => (await stat(directory.join('raw.img'))).mtimeMs;
      const before = await lastWrite();
      let isOver = false;
      const load = writeAndVerify(`--filename=/dev/etherd/${RAW}`, 24, '--rate=8m').finally(() => {
        isOver = true;
      });
      const restart = async () => {
        await waitUntil('writing', async () => (await lastWrite()) > before);
        expect(await server.stop()).toBe(0);
        expect(isOver).toBe(false);
        server = await startServer();
      };
      await Promise.all([load, restart()]);
    });

    it('leaves no complaint of the kernel', () => {
      expect(guest.consoleText()).not.toMatch(COMPLAINTS);
    });
  });

  describe('after a reboot, with standard frames', () => {
    beforeAll(async () => {
      await guest.powerOff();
      expect(await server.stop()).toBe(0);
      await start(1500);
    });

    it('discovers every target with 1 KiB to a frame', async () => {
      const discovered = await discover();
      expect([...discovered.keys()].sort()).toEqual(Object.keys(SIZES).sort());
      for (const found of discovered.values()) {
        expect(found).toEqual({ payload: 1024, state: 'up' });
      }
    });

    it('finds every file as it was', async () => {
      expect(await guest.run(`${MOUNT}\n${CHECKSUMS}`)).toBe(checksums);
    });

    it('keeps the file systems intact under verified load', async () => {
      await Promise.all([
        writeAndVerify('--directory=/mnt/ext4', 16),
        writeAndVerify('--directory=/mnt/xfs', 16),
      ]);
      await guest.run(UNMOUNT_AND_CHECK);
      expect(guest.consoleText()).not.toMatch(COMPLAINTS);
    });
  });
});
