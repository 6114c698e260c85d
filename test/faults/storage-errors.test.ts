import { rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { askControl, askStatus } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import {
  expectAtOnce,
  MIB,
  SECTOR_SIZE,
  Setup,
  TOOLS,
  UNHARMED,
  type VerifyReport,
} from './setup.ts';
import { createFile, ExportedFile, Ext4, LoopDevice, Mount, STORAGE_TOOLS } from './storage.ts';

const EIO = 5;
const ENOSPC = 28;
const SIZE = 4 * MIB;
/** Sectors of a disk that is made to fail there: a page of each. */
const BAD_WRITE = 2048;
const BAD_READ = 4096;
const FULL = 6144;
const PAGE_SECTORS = 8;

const READ_FAILED = { lastStatus: 0x41, lastError: 0x40 };
const WRITE_FAILED = { lastStatus: 0x61, lastError: 0x04 };
const LOADS_MAX = 10;

const HEALTHY = { shelf: 2, slot: 0, backend: 'file', file: { path: 'healthy.img', size: SIZE } };

let setup: Setup;

/** Exports a disk that fails as `errors` say. */
async function exportFailing(errors: readonly object[]): Promise<ExportedFile> {
  await createFile(setup.join('below'), SIZE);
  const image = { driver: 'file', filename: setup.join('below') };
  const node = { driver: 'blkdebug', 'node-name': 'top', image, 'inject-error': errors };
  return setup.own(await ExportedFile.create(setup.join('failing'), [node]));
}

function failAt(iotype: string, sector: number, errno: number): object[] {
  const sectors = Array.from({ length: PAGE_SECTORS }, (_, index) => sector + index);
  return sectors.map((bad) => ({ event: 'none', iotype, errno, sector: bad }));
}

/** Loads the target under test and, beside it, a healthy one, which must not notice. */
async function load(...options: (string | number)[]): Promise<VerifyReport> {
  const [report, healthy] = await Promise.all([
    setup.verify('1.0', '-j', setup.join('journal'), '-t', 1, '-e', ...options),
    setup.verify('2.0', '-j', setup.join('healthy'), '-t', 1, '-q', 4),
  ]);
  expect(healthy).toMatchObject(UNHARMED);
  expect(report).toMatchObject({ wrong: 0, refused: 0, malformed: 0, unanswered: 0 });
  return report;
}

function loadPage(sector: number, writePercent: number): Promise<VerifyReport> {
  return load('-o', sector, '-s', PAGE_SECTORS, '-w', writePercent, '-q', 1);
}

function logOf(what: RegExp): string[] {
  return setup.server.log.map((line) => line.msg).filter((message) => what.test(message));
}

function fileTarget(path: string, more: object = {}): object[] {
  return [{ shelf: 1, slot: 0, backend: 'file', file: { path, ...more } }, HEALTHY];
}

/** Names of targets, and whether they have failed. */
async function failures(): Promise<[name: string, failed: boolean][]> {
  const { targets } = await askStatus(setup.join('state/control.sock'));
  return targets.map(({ name, failed }) => [name, failed]);
}

/** With two workers the healthy target is served by the other thread. */
async function start(targets: object[], workers = 1): Promise<void> {
  await setup.start(targets as Parameters<Setup['start']>[0], { settings: { workers } });
}

function readd(): Promise<unknown> {
  return askControl(setup.join('state/control.sock'), 'POST', '/v1/targets/e1.0/readd');
}

async function restart(disk: string): Promise<void> {
  await setup.server.stop();
  await start(fileTarget(disk));
}

/** How a target that has failed is opened anew. */
const ANEW = [
  { open: restart, what: 'a restart', workers: 1 },
  { open: readd, what: 'readd', workers: 1 },
  { open: readd, what: 'readd', workers: 2 },
];

describeWith([...TOOLS, ...STORAGE_TOOLS], 'storage that fails', () => {
  beforeEach(async () => {
    setup = await Setup.create();
  });
  afterEach(() => disposeAll(setup));

  for (const workers of [1, 2]) {
    it(`answers a bad sector with an ATA error at once, and serves all others, with workers = ${workers}`, async () => {
      const disk = await exportFailing([
        ...failAt('write', BAD_WRITE, EIO),
        ...failAt('read', BAD_READ, EIO),
        ...failAt('write', FULL, ENOSPC),
      ]);
      await start(fileTarget(disk.path), workers);

      const write = await loadPage(BAD_WRITE, 100);
      expect(write).toMatchObject({ writes: 0, ...WRITE_FAILED });
      expect(write.failed).toBeGreaterThan(10);
      expectAtOnce(write);

      const read = await loadPage(BAD_READ, 0);
      expect(read).toMatchObject({ reads: 0, ...READ_FAILED });
      expectAtOnce(read);

      const full = await loadPage(FULL, 100);
      expect(full).toMatchObject({ writes: 0, ...WRITE_FAILED });
      expectAtOnce(full);

      expect(await load('-s', BAD_WRITE)).toMatchObject(UNHARMED);
      expect(await load('-o', BAD_WRITE, '-s', PAGE_SECTORS, '-w', 0)).toMatchObject(UNHARMED);
    });
  }

  for (const { open, what, workers } of ANEW) {
    const until = `until ${what}, with workers = ${workers}`;
    it(`fails the target after one failed flush ${until}, though it could be repeated`, async () => {
      const disk = await exportFailing([
        { event: 'none', iotype: 'flush', errno: EIO, once: true },
      ]);
      await start(fileTarget(disk.path), workers);

      const first = await load('-w', 100);
      expect(first).toMatchObject({ writes: 0, ...WRITE_FAILED });
      expectAtOnce(first);
      expect(logOf(/flush failed/)).toHaveLength(1);
      const reads = await load('-w', 0);
      expect(reads).toMatchObject({ failed: 0 });
      expect(reads.reads).toBeGreaterThan(10);
      expect(await load('-w', 100)).toMatchObject({ writes: 0, ...WRITE_FAILED });
      expect(await failures()).toContainEqual(['e1.0', true]);

      await open(disk.path);
      expect(await load()).toMatchObject(UNHARMED);
      expect(await failures()).toContainEqual(['e1.0', false]);
    });
  }

  it('fails a device whose cache cannot be written back', async () => {
    const disk = await exportFailing(failAt('write', BAD_WRITE, EIO));
    const { path } = setup.own(await LoopDevice.attach(disk.path));
    await start([{ shelf: 1, slot: 0, backend: 'device', device: { path } }, HEALTHY]);

    expect(await load('-s', BAD_WRITE)).toMatchObject(UNHARMED);
    // The page cache takes the write; only the flush finds out.
    const write = await loadPage(BAD_WRITE, 100);
    expect(write).toMatchObject({ writes: 0, ...WRITE_FAILED });
    expectAtOnce(write);
    expect(logOf(/flush failed/)).toHaveLength(1);
    expect(await load('-s', BAD_WRITE, '-w', 100)).toMatchObject({ writes: 0, ...WRITE_FAILED });
  });

  it('keeps what was acknowledged when a sparse image finds no more room', async () => {
    await createFile(setup.join('disk'), 12 * MIB);
    setup.own(await Ext4.create(setup.join('disk'), setup.join('mnt')));
    const ballast = setup.join('mnt/ballast');
    await writeFile(ballast, new Uint8Array(6 * MIB));
    await start(fileTarget('mnt/sparse.img', { size: 16 * MIB }));

    let full = await load('-w', 90);
    expect(full.writes).toBeGreaterThan(10);
    // On a busy machine it takes longer to fill.
    for (let loads = 0; full.failed === 0 && loads < LOADS_MAX; loads++) {
      full = await load('-w', 90);
    }
    expect(full).toMatchObject(WRITE_FAILED);
    expectAtOnce(full);
    expect(await load('-c')).toMatchObject(UNHARMED);

    await rm(ballast);
    const after = await load('-w', 90, '-s', (2 * MIB) / SECTOR_SIZE);
    expect(after).toMatchObject(UNHARMED);
    expect(await load('-c')).toMatchObject(UNHARMED);
  });

  it('fails a target whose image was cut short', async () => {
    await start(fileTarget('disk.img', { size: SIZE }));
    expect(await load()).toMatchObject(UNHARMED);
    await truncate(setup.join('disk.img'), SIZE / 2);

    const lastPage = SIZE / SECTOR_SIZE - PAGE_SECTORS;
    expect(await loadPage(lastPage, 0)).toMatchObject({ reads: 0, ...READ_FAILED });
    const write = await loadPage(0, 100);
    expect(write).toMatchObject({ writes: 0, ...WRITE_FAILED });
    expect(logOf(/flush failed/)).toHaveLength(1);
  });

  it('fails a target whose image was removed: nothing written to it would be found again', async () => {
    await start(fileTarget('disk.img', { size: SIZE }));
    expect(await load()).toMatchObject(UNHARMED);
    await unlink(setup.join('disk.img'));

    expect(await load('-w', 100)).toMatchObject({ writes: 0, ...WRITE_FAILED });
    expect(logOf(/flush failed/)).toHaveLength(1);
    expect(await failures()).toEqual([
      ['e1.0', true],
      ['e2.0', false],
    ]);
    // It can still be saved by reading.
    expect(await load('-c')).toMatchObject(UNHARMED);
  });

  it('says at once that storage is gone that cannot even be measured, and serves all others', async () => {
    await createFile(setup.join('below'), SIZE);
    const disk = setup.own(await ExportedFile.of(setup.join('below'), setup.join('dying')));
    await start(fileTarget(disk.path));
    expect(await load()).toMatchObject(UNHARMED);
    await disk.die();

    // What the kernel knows of the file's size is old after the first.
    for (let loads = 0; loads < 2; loads++) {
      const write = await load('-w', 100);
      expect(write).toMatchObject({ writes: 0, ...WRITE_FAILED });
      expectAtOnce(write);
    }
  });

  it('refuses a config string that a full state directory cannot keep, and goes on', async () => {
    setup.own(await Mount.tmpfs(65_536, setup.join('state')));
    await start(fileTarget('disk.img', { size: SIZE }));
    expect(await load('-k')).toMatchObject({ refused: 0 });
    const ballast = setup.join('state/ballast');
    await writeFile(ballast, new Uint8Array(65_536)).catch(() => {});

    const full = await setup.verify('1.0', '-k', '-t', 1);
    expect(full).toMatchObject({ writes: 0, refused: 1, lastError: 3 });
    expect(logOf(/ENOSPC|could not be saved/)).toHaveLength(1);
    expect(await load()).toMatchObject(UNHARMED);

    await rm(ballast);
    const after = await load('-k');
    expect(after.refused).toBe(0);
    expect(after.writes).toBeGreaterThan(0);
  });
});
