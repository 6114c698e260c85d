import { setTimeout as sleep } from 'node:timers/promises';
import type { TomlTable } from 'smol-toml';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { PROGRAM } from '../support/server.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED, type VerifyReport } from './setup.ts';
import { createFile, ExportedFile, Ext4, LoopDevice, Mount, STORAGE_TOOLS } from './storage.ts';

vi.setConfig({ testTimeout: 90_000 * EFFORT });

const SECONDS = 3 * EFFORT;
const SIZE = 64 * MIB;
/** What a store needs to begin with, and more. */
const STORE_DISK_BYTES = 512 * MIB;
const HANG_MS = SECONDS * 900;
/** Beside a factor of two: what other work on the machine makes of a thousandth. */
const NOISE_MS = 10;
/** Longer than a FUSE daemon of QEMU lets the kernel remember a file's size. */
const SIZE_KNOWN_MS = 1500;
/** Other work may begin in the middle; a server that waits for the storage does so each time. */
const ATTEMPTS = 5;

/** None of these waits for a disk, which other work on the machine may slow down. */
const OTHERS: TomlTable[] = [
  { shelf: 2, slot: 0, backend: 'memory', memory: { size: 4 * MIB } },
  {
    ...{ shelf: 2, slot: 1, backend: 'file', write_cache: true },
    file: { path: 'disk.img', size: 4 * MIB },
  },
];

/** Those of the others that wait for no device at all, so that their times tell something. */
const TIMED = [0, 1];

let setup: Setup;

function loadOthers(): Promise<VerifyReport[]> {
  const load = (target: string) =>
    setup.verify(target, '-t', SECONDS, '-q', 2, '-T', 4000, '-j', setup.join(target));
  return Promise.all(['2.0', '2.1', '2.2'].map(load));
}

/** Serves `slow` beside others: one in memory, one in the page cache, one past it. */
async function start(slow: TomlTable): Promise<void> {
  setup.own(await Mount.tmpfs(24 * MIB, setup.join('ram')));
  await createFile(setup.join('ram/disk'), 16 * MIB);
  setup.own(await Ext4.create(setup.join('ram/disk'), setup.join('fast')));
  const file = { path: 'fast/disk.img', size: 8 * MIB, direct: true };
  const direct = { shelf: 2, slot: 2, backend: 'file', file };
  await setup.start([{ shelf: 1, slot: 0, ...slow }, ...OTHERS, direct]);
}

/** Lets one target hang under load: the others must be as fast as they were before. */
async function expectOthersUnharmed(
  hang: () => unknown,
  goOn: () => void | Promise<void>,
): Promise<void> {
  await loadOthers();
  let slower: number[] = [];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    slower = await findSlower(hang, goOn);
    if (slower.length === 0) break;
  }
  expect(slower).toEqual([]);
}

/** @returns those of the timed targets that were slower during the hang than before */
async function findSlower(hang: () => unknown, goOn: () => void | Promise<void>) {
  const before = await loadOthers();
  // As many requests as are let in to one target, and more.
  const load = ['-t', SECONDS + 1, '-q', 300, '-T', 2000, '-j', setup.join('slow')];
  const slow = await setup.startLoad('1.0', ...load);
  await hang();
  // A server that waits for storage could not even be killed.
  let during: VerifyReport[];
  try {
    during = await loadOthers();
  } finally {
    await goOn();
  }
  for (const report of during) {
    expect(report).toMatchObject({ ...UNHARMED, resends: 0 });
    // What waits for the storage waits for nearly all of the hang; disks are slow now and then.
    expect(report.maxMs).toBeLessThan(HANG_MS * 0.9);
  }
  const report = await slow.report;
  expect(report).toMatchObject(UNHARMED);
  // It did hang.
  expect(report.maxMs).toBeGreaterThan(HANG_MS);
  return TIMED.filter((index) => {
    const [usual, hung] = [before[index], during[index]] as [VerifyReport, VerifyReport];
    return hung.p999Ms >= 2 * usual.p999Ms + NOISE_MS;
  });
}

describeWith([...TOOLS, ...STORAGE_TOOLS, 'fsfreeze'], 'a target whose storage hangs', () => {
  beforeEach(async () => {
    setup = await Setup.create();
    await createFile(setup.join('below'), SIZE);
  });
  afterEach(() => disposeAll(setup));

  for (const direct of [false, true]) {
    const how = direct ? 'past' : 'through';
    it(`delays no other target when its image cannot be written, ${how} the cache`, async () => {
      const ext4 = setup.own(await Ext4.create(setup.join('below'), setup.join('mnt')));
      await start({ backend: 'file', file: { path: 'mnt/slow.img', size: SIZE / 2, direct } });
      await expectOthersUnharmed(
        () => ext4.freeze(),
        () => ext4.thaw(),
      );
    });

    it(`delays no other target when its device does not answer, ${how} the cache`, async () => {
      const disk = setup.own(await ExportedFile.of(setup.join('below'), setup.join('slow-disk')));
      const { path } = setup.own(await LoopDevice.attach(disk.path));
      await start({ backend: 'device', device: { path, direct } });
      await expectOthersUnharmed(
        () => disk.hang(),
        () => disk.goOn(),
      );
    });

    it(`delays no other target when who serves its file system hangs, ${how} the cache`, async () => {
      const file = setup.own(await exportFile());
      await start({ backend: 'file', file: { path: 'served.img', direct } });
      await expectOthersUnharmed(
        () => file.hang(),
        () => file.goOn(),
      );
    });
  }

  it('delays no other target when its store cannot be written', async () => {
    await createFile(setup.join('below'), STORE_DISK_BYTES);
    const ext4 = setup.own(await Ext4.create(setup.join('below'), setup.join('mnt')));
    const cas = { size: SIZE / 2, blob_store: { type: 'file', path: 'mnt/store' } };
    await start({ backend: 'cas', cas });
    await expectOthersUnharmed(
      () => ext4.freeze(),
      () => ext4.thaw(),
    );
  });

  it('is identified, and others with it, when who serves its file system hangs', async () => {
    const file = setup.own(await exportFile());
    await start({ backend: 'file', file: { path: 'served.img' } });
    file.hang();
    try {
      // Until then the kernel knows the file's size without asking.
      await sleep(SIZE_KNOWN_MS);
      expect(await discover()).toEqual([SIZE, 4 * MIB, 4 * MIB, 8 * MIB]);
    } finally {
      file.goOn();
    }
  });
});

/** Shows `below` as an image on a file system that a program serves. */
function exportFile(): Promise<ExportedFile> {
  return ExportedFile.of(setup.join('below'), setup.join('served.img'));
}

/** @returns sizes in bytes of all targets, by address */
async function discover(): Promise<(number | null)[]> {
  const command = [PROGRAM, 'discover', '--json', 'c0'];
  const found = await setup.initiatorNetwork.run(process.execPath, command);
  return (JSON.parse(found) as { sizeBytes: number | null }[]).map(({ sizeBytes }) => sizeBytes);
}
