import { mkdir, readFile, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { afterEach, expect, it, vi } from 'vitest';
import { askControl } from '../support/control.ts';
import { describeWith, disposeAll, run } from '../support/tools.ts';
import { CrashStates, type LoggedWrite, parseLog, saveState } from './crash-states.ts';
import { EFFORT, MIB, SECTOR_SIZE, Setup, TOOLS, UNHARMED } from './setup.ts';
import { createRecordedDisk, Ext4, LoopDevice, STORAGE_TOOLS } from './storage.ts';

vi.setConfig({ testTimeout: 60_000 * EFFORT });

const DISK_SIZE = 24 * MIB;
const IMAGE_SIZE = 2 * MIB;
const STATES = 60 * EFFORT;
const STAMP = 0x796669726576n;
const ACK_RECORD_BYTES = 12;

let setup: Setup;

/** Writes to the disk for a while, and notes what is acknowledged. */
async function loadDisk(): Promise<void> {
  const options = ['-t', 2, '-m', 201, '-n', 4, '-q', 24, '-w', 90, '-a', setup.join('acks')];
  const report = await setup.verify('1.0', ...options, '-s', IMAGE_SIZE / SECTOR_SIZE);
  expect(report).toMatchObject(UNHARMED);
}

/** The same, and sets config strings meanwhile. */
async function load(): Promise<void> {
  const [config] = await Promise.all([
    setup.verify('1.0', '-k', '-t', 2, '-m', 6, '-o', 1),
    loadDisk(),
  ]);
  expect(config.refused).toBe(0);
}

function operate(operation: string): Promise<unknown> {
  return askControl(setup.join('state/control.sock'), 'POST', `/v1/targets/e1.0/${operation}`);
}

/** Puts an image there that is on the disk, and needs no more room on it. */
function writeImage(name: string): Promise<void> {
  return writeFile(setup.join('mnt', name), Buffer.alloc(IMAGE_SIZE), { flush: true });
}

/** What was acknowledged when a write was recorded: all that the initiator knew of by then. */
class Witness {
  readonly #acks: Buffer;
  ackCount = 0;
  configNumber = 0;

  constructor(acks: Buffer) {
    this.#acks = acks;
  }

  hear({ data }: LoggedWrite): void {
    if (data === undefined) return;
    for (let at = 0; at < data.length; at += SECTOR_SIZE) {
      if (data.readBigUInt64LE(at) !== STAMP) continue;
      this.ackCount = Math.max(this.ackCount, Number(data.readBigUInt64LE(at + 24)));
    }
    // A number is sent when the one before it is confirmed.
    for (const [, text] of data.toString('latin1').matchAll(/"configString": "(\w+=*)"/g)) {
      const number = Number(Buffer.from(text ?? '', 'base64').toString());
      this.configNumber = Math.max(this.configNumber, number - 1);
    }
  }

  /** The acknowledged generation of each sector; 0 for none. */
  generations(): Uint32Array {
    const generations = new Uint32Array(IMAGE_SIZE / SECTOR_SIZE);
    for (let index = 0; index < this.ackCount; index++) {
      const at = index * ACK_RECORD_BYTES;
      const first = this.#acks.readUInt32LE(at);
      const count = this.#acks.readUInt32LE(at + 4);
      generations.fill(this.#acks.readUInt32LE(at + 8), first, first + count);
    }
    return generations;
  }

  /** Finds the sectors of `image` that are older than what was acknowledged, or not whole. */
  lostSectors(image: Buffer): number[] {
    const lost: number[] = [];
    this.generations().forEach((generation, lba) => {
      const at = lba * SECTOR_SIZE;
      const isStamped =
        image.readBigUInt64LE(at) === STAMP && image.readBigUInt64LE(at + 8) === BigInt(lba);
      const found = isStamped ? Number(image.readBigUInt64LE(at + 16)) : 0;
      if (found < generation) lost.push(lba);
    });
    return lost;
  }
}

function isOfLoad({ data }: LoggedWrite): boolean {
  if (data === undefined || data.length < SECTOR_SIZE) return false;
  return data.includes('verify') || data.readBigUInt64LE(0) === STAMP;
}

/** Goes through sampled cuts in order; `check` looks at one state. */
async function forEachCut(
  check: (state: Buffer, witness: Witness) => Promise<void>,
): Promise<{ states: number; witness: Witness }> {
  const writes = parseLog(await readFile(setup.join('log')));
  const witness = new Witness(await readFile(setup.join('acks')));
  const first = writes.findIndex(isOfLoad);
  const cuts = Array.from({ length: STATES }, () =>
    Math.floor(first + Math.random() * (writes.length - first)),
  );
  cuts.push(writes.length);
  cuts.sort((a, b) => a - b);
  const states = new CrashStates(writes, DISK_SIZE);
  let heard = 0;
  for (const cut of cuts) {
    for (; heard < cut; heard++) witness.hear(writes[heard] as LoggedWrite);
    await check(states.at(cut), witness);
  }
  return { states: cuts.length, witness };
}

describeWith([...TOOLS, ...STORAGE_TOOLS], 'a power cut', () => {
  afterEach(() => disposeAll(setup));

  it('loses no acknowledged write to an image, and no confirmed config string', async () => {
    setup = await Setup.create();
    const disk = setup.own(await createRecordedDisk(setup, DISK_SIZE));
    setup.own(await Ext4.create(disk.path, setup.join('mnt')));
    await mkdir(setup.join('mnt/state'));
    await symlink('mnt/state', setup.join('state'));
    const file = { path: 'mnt/disk.img', size: IMAGE_SIZE };
    await setup.start([{ shelf: 1, slot: 0, backend: 'file', file }]);
    await load();
    await setup.server.stop();
    await setup.disposeOwned();
    await unlink(setup.join('state'));

    const { witness } = await forEachCut(async (state, known) => {
      await saveState(setup.join('crashed'), state);
      await using _ext4 = await Ext4.open(setup.join('crashed'), setup.join('mnt'));
      expect(known.lostSectors(await readFile(setup.join('mnt/disk.img')))).toEqual([]);
      if (known.configNumber === 0) return;
      const saved = JSON.parse(await readFile(setup.join('mnt/state/e1.0.json'), 'utf8'));
      const number = Number(Buffer.from(saved.configString, 'base64').toString());
      expect(number).toBeGreaterThanOrEqual(known.configNumber);
    });
    expect(witness.ackCount).toBeGreaterThan(100);
    expect(witness.configNumber).toBeGreaterThan(3);
  });

  it('loses no acknowledged write to an image that has taken the place of another one', async () => {
    setup = await Setup.create();
    const disk = setup.own(await createRecordedDisk(setup, DISK_SIZE));
    setup.own(await Ext4.create(disk.path, setup.join('mnt')));
    await writeImage('disk.img');
    await writeImage('copy.img');
    await run('sync', ['--file-system', setup.join('mnt')]);
    await setup.start([{ shelf: 1, slot: 0, backend: 'file', file: { path: 'mnt/disk.img' } }]);
    await operate('drain');
    await rename(setup.join('mnt/copy.img'), setup.join('mnt/disk.img'));
    await operate('readd');
    await loadDisk();
    await setup.server.stop();
    await setup.disposeOwned();

    const { witness } = await forEachCut(async (state, known) => {
      await saveState(setup.join('crashed'), state);
      await using _ext4 = await Ext4.open(setup.join('crashed'), setup.join('mnt'));
      expect(known.lostSectors(await readFile(setup.join('mnt/disk.img')))).toEqual([]);
    });
    expect(witness.ackCount).toBeGreaterThan(100);
  });

  it('loses no acknowledged write to a device', async () => {
    setup = await Setup.create();
    const disk = setup.own(await createRecordedDisk(setup, DISK_SIZE));
    const device = setup.own(await LoopDevice.attach(disk.path));
    const target = { shelf: 1, slot: 0, backend: 'device', device: { path: device.path } };
    await setup.start([target]);
    await load();
    await setup.server.stop();
    await setup.disposeOwned();

    const { witness } = await forEachCut(async (state, known) => {
      expect(known.lostSectors(state)).toEqual([]);
    });
    expect(witness.ackCount).toBeGreaterThan(100);
  });
});
