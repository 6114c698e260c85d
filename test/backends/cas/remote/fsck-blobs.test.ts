import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BlobUnreachableError } from '../../../../src/backends/cas/blob-store.ts';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { hostFiles } from '../../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE, FANOUT } from '../../../../src/backends/cas/format.ts';
import { type Examination, examine } from '../../../../src/backends/cas/fsck/index.ts';
import { openCasStore } from '../../../../src/backends/cas/open.ts';
import { Journal, PART_PREFIX, partName } from '../../../../src/backends/cas/remote/journal.ts';
import { JOURNAL_PREFIX, type Part } from '../../../../src/backends/cas/remote/journal-entry.ts';
import { REMOTE_DEFAULTS } from '../../../../src/backends/cas/remote/remote-options.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, TINY } from '../tiny-store.ts';
import { WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const COUNT = FANOUT + 40;
const SIZE = COUNT * BLOCK_SIZE;
/** Of a block that is stored as it is, once, and only in a blob. */
const SEED = 62;
const RECORD_MAGIC = 0x52434f41;

const directory = mkdtempSync(join(tmpdir(), 'aoe-fsck-blobs-'));
afterAll(() => rmSync(directory, { recursive: true }));

function openOn(path: string, blobs: TraceBlobs, cacheBytes = 0): Promise<CasStore> {
  const remote = { ...REMOTE_DEFAULTS, blobs, cacheBytes };
  return openCasStore(path, { ...TINY, files: hostFiles(), remote });
}

function examineAll(path: string, blobs: TraceBlobs): Promise<Examination> {
  return examine(path, { openBlobs: async () => blobs });
}

function lostIn({ findings }: Examination): string[] {
  return findings.flatMap(({ lost }) => lost.map(({ name, firstLba }) => `${name} ${firstLba}`));
}

function messagesOf({ findings }: Examination): string[] {
  return findings.map(({ place, message }) => `${place}: ${message}`);
}

function flip(bytes: Uint8Array, at: number): void {
  bytes[at] = (bytes[at] as number) ^ 1;
}

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('an examination of the blob store, %s', (kind, knowsConditions) => {
  const path = join(directory, kind);
  const former = `${path}, before the last claim`;
  let made: TraceBlobs;
  /** The parts that the journal names. */
  let parts: string[];
  let entries: string[];

  beforeAll(async () => {
    made = new TraceBlobs();
    made.knowsConditions = knowsConditions;
    let store = await openOn(path, made);
    await store.openVolume('v', SIZE);
    await store.close();
    cpSync(path, former, { recursive: true });
    store = await openOn(path, made);
    const client = clientOf(await store.openVolume('v', SIZE));
    await client.write(0, blocksOf(2, COUNT, 2));
    await store.snapshot('v', 'kept');
    await client.write(40 * BLOCK_SIZE, blocksOf(1002, 60, 2));
    await client.write(44 * BLOCK_SIZE, blocksOf(2002, 50, 2));
    await collect(store, { liveMax: 0.9 });
    for (let i = 0; i < 3; i++) {
      await client.write(0, blockOf(4002 + i));
      await client.flush();
      await store.checkpoint();
    }
    const diskBytes = async () => {
      let bytes = 0;
      for (const { file, usedBytes } of store.segments.table.values()) {
        bytes += await file.dataBytes(0, usedBytes);
      }
      return bytes;
    };
    await vi.waitUntil(async () => (await diskBytes()) < SIZE * 0.7, WAIT);
    await store.close();
    const journal = await Journal.read(made);
    entries = [...journal.entries.keys()];
    parts = [...journal.image.segments].flatMap(([segment, stored]) =>
      stored.map((part: Part) => partName(segment, part)),
    );
  });

  /** What the store has in blobs, to be damaged. */
  const copyOf = (blobs = made): TraceBlobs => {
    const copy = new TraceBlobs();
    for (const [name, bytes] of blobs.blobs) copy.blobs.set(name, bytes.slice());
    return copy;
  };
  const bytesOf = ({ blobs }: TraceBlobs, name: string) => blobs.get(name) as Uint8Array;
  /** The part that holds the block, and where. */
  const findBlock = ({ blobs }: TraceBlobs): [string, number] => {
    const start = blockOf(SEED).subarray(0, 64);
    const name = parts.find((part) => Buffer.from(blobs.get(part) ?? []).includes(start));
    return [name as string, Buffer.from(blobs.get(name as string) ?? []).indexOf(start)];
  };

  it('finds nothing where all is well, reads every blob that counts, and changes nothing', async () => {
    const blobs = copyOf();
    const before = await examine(path);
    expect(before.findings).toEqual([]);
    expect(before.absent).toBeGreaterThan(COUNT / 2);
    const { findings, notes, absent, blocks, nodes, blobStore } = await examineAll(path, blobs);
    expect({ findings, notes, absent }).toEqual({ findings: [], notes: [], absent: 0 });
    expect(blocks + nodes).toBe(before.blocks + before.nodes + before.absent);
    expect(blobs.reads).toEqual(expect.arrayContaining([...parts, ...entries]));
    expect(blobStore).toEqual({
      journalEntries: entries.length,
      parts: parts.length,
      verifiedBytes: parts.reduce((sum, name) => sum + bytesOf(blobs, name).length, 0),
    });
    expect(blobs.trace).toEqual([]);
    expect(blobs.blobs).toEqual(made.blobs);
  });

  it('fetches each part once, but for tree nodes that are nowhere else', async () => {
    const blobs = copyOf();
    const { nodes: nodesHere } = await examine(path);
    const { nodes } = await examineAll(path, blobs);
    const reads = blobs.reads.filter((name) => name.startsWith(PART_PREFIX));
    // One is for the catalog.
    expect(reads.length).toBeLessThanOrEqual(parts.length + 1 + 2 * (nodes - nodesHere));
  });

  it('tells what a flipped bit in a frame that is only there takes with it', async () => {
    const blobs = copyOf();
    const [name, at] = findBlock(blobs);
    flip(bytesOf(blobs, name), at + 100);
    const examination = await examineAll(path, blobs);
    expect(messagesOf(examination)).toEqual([
      expect.stringMatching(new RegExp(`^blob: ${name}: .*block [0-9a-f]{64} is damaged$`)),
    ]);
    expect(lostIn(examination)).toEqual(['v 30', 'kept 30']);
    expect((await examine(path)).findings).toEqual([]);
  });

  it('finds a flipped bit anywhere in any part', async () => {
    const random = seededRandom(3);
    for (const name of parts) {
      const blobs = copyOf();
      const bytes = bytesOf(blobs, name);
      let at = Math.floor(random() * bytes.length);
      while (bytes[at] === 0) at = (at + 1) % bytes.length;
      flip(bytes, at);
      const messages = messagesOf(await examineAll(path, blobs));
      expect(messages.join(), `${name}, byte ${at}`).toContain(name);
    }
  });

  it('loses nothing with the head of a record, which is on the local disk as well', async () => {
    const [name] = findBlock(made);
    // In the record, and in the copy of its head behind all records.
    const { length } = bytesOf(made, name);
    for (const [at, problem] of [
      [40, 'has a wrong checksum'],
      [length - 10, 'heads behind its records'],
    ] as const) {
      const blobs = copyOf();
      flip(bytesOf(blobs, name), at);
      const examination = await examineAll(path, blobs);
      expect(messagesOf(examination)).toEqual([expect.stringContaining(problem)]);
      expect(lostIn(examination)).toEqual([]);
    }
  });

  it.each(['missing', 'cut off'])('tells what a part that is %s takes with it', async (state) => {
    const blobs = copyOf();
    const [name, at] = findBlock(blobs);
    const bytes = bytesOf(blobs, name);
    if (state === 'missing') blobs.blobs.delete(name);
    else blobs.blobs.set(name, bytes.slice(0, at + 100));
    const examination = await examineAll(path, blobs);
    const problem = state === 'missing' ? 'is missing' : `has ${at + 100} of ${bytes.length} bytes`;
    const [message, ...others] = messagesOf(examination);
    expect([message, others]).toEqual([`blob: ${name} ${problem}`, []]);
    expect(lostIn(examination)).toEqual(expect.arrayContaining(['v 30', 'kept 30']));
  });

  it('finds a part that is longer than it should be', async () => {
    const blobs = copyOf();
    const [name] = findBlock(blobs);
    const bytes = bytesOf(blobs, name);
    blobs.blobs.set(name, Buffer.concat([bytes, Buffer.alloc(1)]));
    const examination = await examineAll(path, blobs);
    expect(messagesOf(examination)).toEqual([`blob: ${name} has more than ${bytes.length} bytes`]);
    expect(lostIn(examination)).toEqual([]);
  });

  it('loses nothing with a part that is on the local disk as well', async () => {
    const { image } = await Journal.read(made);
    const { segment = 0 } = image.superblock ?? {};
    const [part] = image.segments.get(segment) ?? [];
    const name = partName(segment, part as Part);
    const blobs = copyOf();
    blobs.blobs.delete(name);
    const examination = await examineAll(path, blobs);
    expect(messagesOf(examination)).toContain(`blob: ${name} is missing`);
    expect(lostIn(examination)).toEqual([]);
  });

  it('loses nothing with what is damaged on the local disk and intact there', async () => {
    const copy = `${path}, damaged`;
    cpSync(path, copy, { recursive: true });
    for (const name of readdirSync(join(copy, 'segments'))) {
      const file = join(copy, 'segments', name);
      const bytes = readFileSync(file);
      // Nodes stay here: the first one of each record.
      for (let at = 0; at < bytes.length && bytes.readUInt32LE(at) === RECORD_MAGIC; ) {
        const isHere = bytes.readUInt32LE(at + 24) === Number.parseInt(name, 10);
        const entryCount = bytes.readUInt32LE(at + 56);
        const isNodes = bytes.readUInt16LE(at + 6) === 2 && entryCount > 0;
        if (isHere && isNodes) flip(bytes, at + 128 + 64 * entryCount + 20);
        at += bytes.readUInt32LE(at + 60);
      }
      writeFileSync(file, bytes);
    }
    expect(lostIn(await examine(copy)).length).toBeGreaterThan(0);
    const examination = await examineAll(copy, copyOf());
    expect(messagesOf(examination).join()).toContain('is damaged');
    expect(lostIn(examination)).toEqual([]);
  });

  it('names a journal entry that is damaged or gone, and loses nothing with it', async () => {
    expect(entries.length).toBeGreaterThan(2);
    for (const name of [entries[0], entries[1], entries.at(-1)] as string[]) {
      const blobs = copyOf();
      flip(bytesOf(blobs, name), 0);
      const examination = await examineAll(path, blobs);
      expect(messagesOf(examination)).toEqual([
        expect.stringMatching(new RegExp(`^journal: ${name} is no JSON`)),
      ]);
      expect(lostIn(examination)).toEqual([]);
      expect(examination.absent).toBe(0);
      expect(examination.notes).toEqual([expect.stringContaining('all parts are examined')]);
    }
    const blobs = copyOf();
    blobs.blobs.delete(entries[1] as string);
    const examination = await examineAll(path, blobs);
    expect(messagesOf(examination)).toEqual([expect.stringMatching(/^journal: .*is missing$/)]);
    expect(lostIn(examination)).toEqual([]);
  });

  it('finds a flipped bit in what an entry says of segments', async () => {
    // The last one that does: no other takes its place.
    const textOf = (name: string) => new TextDecoder().decode(bytesOf(made, name));
    const name = entries.findLast((entry) => !textOf(entry).includes('"segments":[]')) as string;
    const text = textOf(name);
    const [from, to] = [text.indexOf('"segments":'), text.indexOf(',"removed":')];
    for (let at = from; at < to; at += Math.ceil((to - from) / 60)) {
      const blobs = copyOf();
      flip(bytesOf(blobs, name), at);
      const { findings } = await examineAll(path, blobs);
      expect(findings.length, text.slice(at - 20, at + 20)).toBeGreaterThan(0);
    }
  });

  it('says so when there is no journal, or that of another store', async () => {
    const empty = new TraceBlobs();
    const examination = await examineAll(path, empty);
    expect(messagesOf(examination)[0]).toBe('journal: there is none in the blob store');
    expect(lostIn(examination).length).toBeGreaterThan(COUNT / 2);

    const blobs = new TraceBlobs();
    const other = await openOn(`${path}, another`, blobs);
    await other.openVolume('v', SIZE);
    await other.close();
    expect(messagesOf(await examineAll(path, blobs))[0]).toContain('another store');
  });

  it('tells a directory that is not the newest copy', async () => {
    const { findings, outdated } = await examineAll(former, copyOf());
    expect(outdated).toBe(true);
    expect(findings.map(({ message }) => message)).toEqual(
      expect.arrayContaining([
        expect.stringContaining('has claimed the blob store since'),
        expect.stringMatching(/generation \d+ is in the blob store/),
      ]),
    );
  });

  it('knows by the log that the directory has lost what the blob store has', async () => {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    const [newest, older] = [`${path}, newest`, `${path}, older`];
    const store = await openOn(newest, blobs);
    const client = clientOf(await store.openVolume('v', SIZE));
    const write = async (lba: number) => {
      await client.write(lba * BLOCK_SIZE, blockOf(2 + lba));
      await client.flush();
    };
    await write(0);
    await store.whenSnapshotsStored();
    cpSync(newest, older, { recursive: true });
    await write(1);
    await store.close();
    expect(messagesOf(await examineAll(older, blobs))).toEqual(
      expect.arrayContaining([expect.stringMatching(/^log: record 2 is in the blob store/)]),
    );
  });

  it('raises no false alarm whatever a store has been through', async () => {
    const random = seededRandom(8);
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    const place = `${path}, with a history`;
    for (let round = 0; round < 8; round++) {
      const store = await openOn(place, blobs, round % 3 === 0 ? 128 << 10 : 0);
      const client = clientOf(await store.openVolume('v', SIZE));
      for (let step = 0; step < 30; step++) {
        const lba = Math.floor(random() * (COUNT - 8));
        const [count, choice] = [1 + Math.floor(random() * 8), random()];
        if (choice < 0.15) await client.trim(lba * BLOCK_SIZE, count * BLOCK_SIZE);
        else await client.write(lba * BLOCK_SIZE, blocksOf(Math.floor(random() * 400), count));
        if (choice > 0.8) await client.flush();
      }
      await store.snapshot('v', `s${round}`);
      if (round >= 3) await store.deleteSnapshot(`s${round - 3}`);
      if (round % 2 === 1) await collect(store, { liveMax: 0.9 });
      await client.write(0, blocksOf(round * 2, 9));
      await client.flush();
      if (round % 4 === 2) await store.close();
      else await abandon(store);
      const { findings, notes } = await examineAll(place, blobs);
      expect({ findings, notes }, `round ${round}`).toEqual({ findings: [], notes: [] });
      const entryCount = [...blobs.blobs.keys()].filter((name) => name.startsWith(JOURNAL_PREFIX));
      expect(entryCount.length).toBeGreaterThan(1);
    }
  });

  it('ends when the blob store cannot be asked', async () => {
    const blobs = copyOf();
    blobs.beforeRead = () => Promise.reject(new Error('refused'));
    await expect(examineAll(path, blobs)).rejects.toBeInstanceOf(BlobUnreachableError);
  });
});
