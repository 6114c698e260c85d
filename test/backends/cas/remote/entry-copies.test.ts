import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { EntryCopies } from '../../../../src/backends/cas/remote/entry-copies.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import { type Entry, encodeEntry } from '../../../../src/backends/cas/remote/journal-entry.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf } from '../tiny-store.ts';
import { copyOf, openRemote, openVolume, readSeeds, recoverSeeds } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

const SEEDS = Array.from({ length: 8 }, (_, i) => 2 * i + 2);
/** What is read has to be fetched: the parts that the journal names must be known. */
const REMOTE = { durability: 'remote', cacheBytes: 0 } as const;

async function openWritten(files: SimFs, blobs: TraceBlobs) {
  const store = await openRemote(files, blobs, REMOTE);
  const client = await openVolume(store);
  for (const [lba, seed] of SEEDS.entries()) {
    await client.write(lba * BLOCK_SIZE, blockOf(seed));
    await client.flush();
    if (lba % 2 === 1) await store.checkpoint();
  }
  return store;
}

async function entriesOf(blobs: TraceBlobs): Promise<ReadonlyMap<string, Entry>> {
  return (await Journal.read(blobs)).entries;
}

const copiesIn = (files: SimFs) => new EntryCopies(files, '/store');

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('a store that is kept in blobs %s', (_, knowsConditions) => {
  async function makeWritten() {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    const files = new SimFs();
    await abandon(await openWritten(files, blobs));
    return { blobs, files };
  }

  it('opens with a flipped bit in any entry of its journal, and stores what it said', async () => {
    const count = (await entriesOf((await makeWritten()).blobs)).size;
    expect(count).toBeGreaterThan(3);
    const random = seededRandom(1);
    for (let i = 0; i < count; i++) {
      const { blobs, files } = await makeWritten();
      const name = [...(await entriesOf(blobs)).keys()][i] as string;
      const bytes = blobs.blobs.get(name) as Uint8Array;
      const at = Math.floor(random() * bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      const store = await openRemote(files, blobs, REMOTE);
      expect((await readSeeds(store)).slice(0, SEEDS.length)).toEqual(SEEDS);
      await abandon(store);
      expect((await recoverSeeds(blobs)).slice(0, SEEDS.length)).toEqual(SEEDS);
    }
  });

  it('says so', async () => {
    const { blobs, files } = await makeWritten();
    const name = [...(await entriesOf(blobs)).keys()].at(-1) as string;
    (blobs.blobs.get(name) as Uint8Array).fill(0, -100);
    const told: string[] = [];
    const onTrouble = ({ message }: Error) => told.push(message);
    await (await openRemote(files, blobs, { onTrouble })).close();
    expect(told).toEqual([`${name} is damaged: the copy on this disk counts`]);
  });

  it('is not opened from an older copy of its directory by that', async () => {
    const { blobs, files } = await makeWritten();
    const old = copyOf(files);
    await abandon(await openRemote(files, blobs, REMOTE));
    const name = [...(await entriesOf(blobs)).keys()].at(-1) as string;
    (blobs.blobs.get(name) as Uint8Array).fill(0, -100);
    await expect(openRemote(old, blobs)).rejects.toThrow(`${name} in the blob store is damaged`);
  });

  it('goes on where the disk has no room for copies', async () => {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    const files = new SimFs();
    files.fault = (op, path) =>
      op === 'write' && path.includes('/journal/') ? 'ENOSPC' : undefined;
    const store = await openWritten(files, blobs);
    files.fault = () => undefined;
    expect((await readSeeds(store)).slice(0, SEEDS.length)).toEqual(SEEDS);
    await store.close();
    // The last one wrote all that count.
    for (const [name, entry] of await entriesOf(blobs)) {
      const bytes = encodeEntry(entry);
      expect(await copiesIn(files).find(name, bytes)).toEqual(entry);
    }
  });

  it('keeps copies of the entries that count only', async () => {
    const { blobs, files } = await makeWritten();
    await (await openRemote(files, blobs)).close();
    const names = (await files.list('/store/journal')).sort();
    expect(names).toEqual([...(await entriesOf(blobs)).keys()].sort());
  });
});

describe('a copy of an entry', () => {
  async function makeCopy() {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    await (await openRemote(files, blobs)).close();
    const [name, entry] = [...(await entriesOf(blobs))].at(-1) as [string, Entry];
    return { files, name, entry, bytes: encodeEntry(entry) };
  }

  it('does not count in another journal with the same names', async () => {
    const [one, other] = [await makeCopy(), await makeCopy()];
    expect(other.name).toBe(one.name);
    expect(await copiesIn(one.files).find(one.name, one.bytes)).toEqual(one.entry);
    expect(await copiesIn(one.files).find(one.name, other.bytes)).toBeUndefined();
  });

  it('counts when the owner or the nonce is damaged in the blob, and not when both are', async () => {
    const { files, name, entry, bytes } = await makeCopy();
    const text = Buffer.from(bytes).toString();
    const damaged = (...words: string[]) =>
      Buffer.from(words.reduce((rest, word) => rest.replace(word, '?'), text));
    const copies = copiesIn(files);
    expect(await copies.find(name, damaged(entry.nonce))).toEqual(entry);
    expect(await copies.find(name, damaged(entry.owner.id))).toEqual(entry);
    expect(await copies.find(name, damaged(entry.owner.id, entry.nonce))).toBeUndefined();
  });

  it('does not count when it is cut off', async () => {
    const { files, name, bytes } = await makeCopy();
    const content = files.contentOf(`/store/journal/${name}`);
    content.fill(0, content.length - 20);
    expect(await copiesIn(files).find(name, bytes)).toBeUndefined();
  });
});
