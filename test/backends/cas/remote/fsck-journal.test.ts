import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlobUnreachableError } from '../../../../src/backends/cas/blob-store.ts';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { JOURNAL_PREFIX } from '../../../../src/backends/cas/remote/blob-names.ts';
import {
  decodeEntry,
  type Entry,
  encodeEntry,
} from '../../../../src/backends/cas/remote/journal-entry.ts';
import { seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, copyOpen } from '../tiny-store.ts';
import {
  bytesOf,
  COUNT,
  examineAll,
  flip,
  lostIn,
  messagesOf,
  openOn,
  SIZE,
  StoredStore,
} from './fsck-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const directory = mkdtempSync(join(tmpdir(), 'aoe-fsck-journal-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('an examination of the journal of a blob store, %s', (kind, knowsConditions) => {
  let stored: StoredStore;

  beforeAll(async () => {
    stored = await StoredStore.make(join(directory, kind), knowsConditions);
  });

  it('names a journal entry that is damaged or gone, and loses nothing with it', async () => {
    expect(stored.entries.length).toBeGreaterThan(2);
    for (const name of [stored.entries[0], stored.entries[1], stored.entries.at(-1)] as string[]) {
      const blobs = stored.copyBlobs();
      flip(bytesOf(blobs, name), 0);
      const examination = await examineAll(stored.path, blobs);
      expect(messagesOf(examination)).toEqual([`journal: ${name} is not what its hash is of`]);
      expect(lostIn(examination)).toEqual([]);
      expect(examination.absent).toBe(0);
      expect(examination.notes).toEqual([expect.stringContaining('all parts are examined')]);
    }
    const blobs = stored.copyBlobs();
    blobs.blobs.delete(stored.entries[1] as string);
    const examination = await examineAll(stored.path, blobs);
    expect(messagesOf(examination)).toEqual([expect.stringMatching(/^journal: .*is missing$/)]);
    expect(lostIn(examination)).toEqual([]);
  });

  it.runIf(!knowsConditions)(
    'names an entry of a second server, but none that failed',
    async () => {
      const blobs = stored.copyBlobs();
      const last = stored.entries.at(-1) as string;
      const other = last.replace(/[0-9a-f]+$/, '0'.repeat(32));
      const bytes = bytesOf(blobs, last);
      blobs.blobs.set(other, bytes);
      const examination = await examineAll(stored.path, blobs);
      expect(messagesOf(examination)).toEqual([`journal: ${other} is of a second server`]);
      expect(lostIn(examination)).toEqual([]);

      const entry = { ...decodeEntry(bytes), abandoned: [other] };
      blobs.blobs.set(last, encodeEntry(entry));
      expect(messagesOf(await examineAll(stored.path, blobs))).toEqual([]);
    },
  );

  it.each<[string, (entry: Entry, before: Entry) => object]>([
    ['does not make sense: .*its base comes after it', ({ number }) => ({ base: number + 1 })],
    [
      'does not make sense: .*its parts of a segment do not follow each other',
      () => ({ segments: [{ number: 1, parts: [0, 8192].map((at) => [at, at + 4096, 1, 64]) }] }),
    ],
    ['says that its number is 77', () => ({ number: 77 })],
    ['has another base', (_, before) => ({ base: before.number })],
    ['is of an earlier epoch', ({ epoch }) => ({ epoch: epoch - 1 })],
    [
      'the catalog of generation .* is missing',
      ({ superblock }) => ({ removed: [superblock?.segment] }),
    ],
    [
      'the catalog of generation .* needs segment \\d+ to byte \\d+, not 4096',
      ({ superblock }) => {
        const numbers = stored.parts.map((name) => Number(name.split('-')[1]));
        const number = numbers.find((one) => one !== superblock?.segment);
        return { segments: [{ number, parts: [[0, 4096, 1, 64]] }] };
      },
    ],
  ])('finds an entry that is as it was hashed, and cannot be true: %s', async (problem, change) => {
    const [name, before] = [stored.entries.at(-1), stored.entries.at(-2)] as [string, string];
    const [entry, other] = [name, before].map((one) => decodeEntry(bytesOf(stored.blobs, one)));
    const blobs = stored.copyBlobs();
    const changed = { ...entry, ...change(entry as Entry, other as Entry) };
    blobs.blobs.set(name, encodeEntry(changed));
    const message = expect.stringMatching(new RegExp(`^journal: .*${problem}`, 's'));
    expect(messagesOf(await examineAll(stored.path, blobs))).toContainEqual(message);
  });

  it('says so when entries are of two journals, and takes no part for what its name is not', async () => {
    const blobs = stored.copyBlobs();
    const number = '1'.padStart(16, '0');
    const other = `${JOURNAL_PREFIX}${knowsConditions ? `e${number}-${number}-ab` : number}`;
    blobs.blobs.set(other, bytesOf(blobs, stored.entries[0] as string));
    blobs.blobs.set('segment-00000001-00000001-00009000-00001000', new Uint8Array(1));
    const examination = await examineAll(stored.path, blobs);
    expect(messagesOf(examination)).toEqual([expect.stringMatching(/are of two journals$/)]);
    expect(lostIn(examination)).toEqual([]);
  });

  it('finds a flipped bit in what an entry says', async () => {
    const name = stored.entries.at(-1) as string;
    const text = new TextDecoder().decode(bytesOf(stored.blobs, name));
    // In the key of the hash it takes nothing away: what the entry says is right.
    const key = text.indexOf('"sha256"');
    for (let at = 0; at < text.length; at += Math.ceil(text.length / 90)) {
      if (at >= key && at < key + 8) continue;
      const blobs = stored.copyBlobs();
      flip(bytesOf(blobs, name), at);
      const { findings } = await examineAll(stored.path, blobs);
      expect(findings.length, text.slice(at - 20, at + 20)).toBeGreaterThan(0);
    }
  });

  it('says so when there is no journal, or that of another store', async () => {
    const empty = new TraceBlobs();
    const examination = await examineAll(stored.path, empty);
    expect(messagesOf(examination)[0]).toBe('journal: there is none in the blob store');
    expect(lostIn(examination).length).toBeGreaterThan(COUNT / 2);

    const blobs = new TraceBlobs();
    const other = await openOn(`${stored.path}, another`, blobs);
    await other.openVolume('v', SIZE);
    await other.close();
    expect(messagesOf(await examineAll(stored.path, blobs))[0]).toContain('another store');
  });

  it('tells a directory that is not the newest copy', async () => {
    const { findings, outdated } = await examineAll(stored.former, stored.copyBlobs());
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
    const [newest, older] = [`${stored.path}, newest`, `${stored.path}, older`];
    const store = await openOn(newest, blobs);
    const client = clientOf(await store.openVolume('v', SIZE));
    const write = async (lba: number) => {
      await client.write(lba * BLOCK_SIZE, blockOf(2 + lba));
      await client.flush();
    };
    await write(0);
    await store.whenSnapshotsStored();
    await copyOpen(store, older);
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
    const place = `${stored.path}, with a history`;
    const entryCounts: number[] = [];
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
      await store.changes.snapshot('v', `s${round}`);
      if (round >= 3) await store.changes.deleteSnapshot(`s${round - 3}`);
      if (round % 2 === 1) await collect(store, { liveMax: 0.9 });
      await client.write(0, blocksOf(round * 2, 9));
      await client.flush();
      if (round % 4 === 2) await store.close();
      else await abandon(store);
      const { findings, notes } = await examineAll(place, blobs);
      // Of the crash here, not of the blob store.
      const others = notes.filter((note) => !note.includes('of the superblock'));
      expect({ findings, others }, `round ${round}`).toEqual({ findings: [], others: [] });
      const entries = [...blobs.blobs.keys()].filter((name) => name.startsWith(JOURNAL_PREFIX));
      entryCounts.push(entries.length);
    }
    // An entry that says everything may have been the last one, and then there is no other.
    expect(Math.max(...entryCounts)).toBeGreaterThan(1);
  });

  it('ends when the blob store cannot be asked', async () => {
    const blobs = stored.copyBlobs();
    blobs.beforeRead = () => Promise.reject(new Error('refused'));
    await expect(examineAll(stored.path, blobs)).rejects.toBeInstanceOf(BlobUnreachableError);
  });
});
