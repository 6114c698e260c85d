import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { examine } from '../../../../src/backends/cas/fsck/index.ts';
import { PART_PREFIX, partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import type { Part } from '../../../../src/backends/cas/remote/journal-entry.ts';
import { seededRandom } from '../sim-fs.ts';
import {
  bytesOf,
  COUNT,
  damageSome,
  examineAll,
  flip,
  lostIn,
  messagesOf,
  StoredStore,
} from './fsck-store.ts';

const RECORD_MAGIC = 0x52434f41;

const directory = mkdtempSync(join(tmpdir(), 'aoe-fsck-parts-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('an examination of the parts in a blob store, %s', (kind, knowsConditions) => {
  let stored: StoredStore;

  beforeAll(async () => {
    stored = await StoredStore.make(join(directory, kind), knowsConditions);
  });

  it('finds nothing where all is well, reads every blob that counts, and changes nothing', async () => {
    const blobs = stored.copyBlobs();
    const before = await examine(stored.path);
    expect(before.findings).toEqual([]);
    expect(before.absent).toBeGreaterThan(COUNT / 2);
    const { findings, notes, absent, blocks, nodes, blobStore } = await examineAll(
      stored.path,
      blobs,
    );
    expect({ findings, notes, absent }).toEqual({ findings: [], notes: [], absent: 0 });
    expect(blocks + nodes).toBe(before.blocks + before.nodes + before.absent);
    expect(blobs.reads).toEqual(expect.arrayContaining([...stored.parts, ...stored.entries]));
    expect(blobStore).toEqual({
      journalEntries: stored.entries.length,
      parts: stored.parts.length,
      verifiedBytes: stored.parts.reduce((sum, name) => sum + bytesOf(blobs, name).length, 0),
    });
    expect(blobs.trace).toEqual([]);
    expect(blobs.blobs).toEqual(stored.blobs.blobs);
  });

  it('fetches each part once, but for tree nodes that are nowhere else', async () => {
    const blobs = stored.copyBlobs();
    const { nodes: nodesHere } = await examine(stored.path);
    const { nodes } = await examineAll(stored.path, blobs);
    const reads = blobs.reads.filter((name) => name.startsWith(PART_PREFIX));
    // One is for the catalog.
    expect(reads.length).toBeLessThanOrEqual(stored.parts.length + 1 + 2 * (nodes - nodesHere));
  });

  it('tells what a flipped bit in a frame that is only there takes with it', async () => {
    const blobs = stored.copyBlobs();
    const [name, at] = stored.findBlock();
    flip(bytesOf(blobs, name), at + 100);
    const examination = await examineAll(stored.path, blobs);
    expect(messagesOf(examination)).toEqual([
      expect.stringMatching(new RegExp(`^blob: ${name}: .*block [0-9a-f]{64} is damaged$`)),
    ]);
    expect(lostIn(examination)).toEqual(['v 30', 'kept 30']);
    expect((await examine(stored.path)).findings).toEqual([]);
  });

  it('finds damage anywhere in any part', async () => {
    const random = seededRandom(3);
    for (const name of stored.parts) {
      const blobs = stored.copyBlobs();
      const bytes = bytesOf(blobs, name);
      damageSome(bytes, random);
      const messages = messagesOf(await examineAll(stored.path, blobs));
      expect(messages.join()).toContain(name);
    }
  });

  it('loses nothing with the head of a record, which is on the local disk as well', async () => {
    const [name] = stored.findBlock();
    // In the record, and in the copy of its head behind all records.
    const { length } = bytesOf(stored.blobs, name);
    for (const [at, problem] of [
      [40, 'has a wrong checksum'],
      [length - 10, 'heads behind its records'],
    ] as const) {
      const blobs = stored.copyBlobs();
      flip(bytesOf(blobs, name), at);
      const examination = await examineAll(stored.path, blobs);
      expect(messagesOf(examination)).toEqual([expect.stringContaining(problem)]);
      expect(lostIn(examination)).toEqual([]);
    }
  });

  it.each(['missing', 'cut off'])('tells what a part that is %s takes with it', async (state) => {
    const blobs = stored.copyBlobs();
    const [name, at] = stored.findBlock();
    const bytes = bytesOf(blobs, name);
    if (state === 'missing') blobs.blobs.delete(name);
    else blobs.blobs.set(name, bytes.slice(0, at + 100));
    const examination = await examineAll(stored.path, blobs);
    const problem = state === 'missing' ? 'is missing' : `has ${at + 100} of ${bytes.length} bytes`;
    const [message, ...others] = messagesOf(examination);
    expect([message, others]).toEqual([`blob: ${name} ${problem}`, []]);
    expect(lostIn(examination)).toEqual(expect.arrayContaining(['v 30', 'kept 30']));
  });

  it('finds a part that is longer than it should be', async () => {
    const blobs = stored.copyBlobs();
    const [name] = stored.findBlock();
    const bytes = bytesOf(blobs, name);
    blobs.blobs.set(name, Buffer.concat([bytes, Buffer.alloc(1)]));
    const examination = await examineAll(stored.path, blobs);
    expect(messagesOf(examination)).toEqual([`blob: ${name} has more than ${bytes.length} bytes`]);
    expect(lostIn(examination)).toEqual([]);
  });

  it('loses nothing with a part that is on the local disk as well', async () => {
    const { image } = await Journal.read(stored.blobs);
    const { segment = 0 } = image.superblock ?? {};
    const [part] = image.segments.get(segment) ?? [];
    const name = partName(segment, part as Part);
    const blobs = stored.copyBlobs();
    blobs.blobs.delete(name);
    const examination = await examineAll(stored.path, blobs);
    expect(messagesOf(examination)).toContain(`blob: ${name} is missing`);
    expect(lostIn(examination)).toEqual([]);
  });

  it('loses nothing with what is damaged on the local disk and intact there', async () => {
    const copy = `${stored.path}, damaged`;
    cpSync(stored.path, copy, { recursive: true });
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
    const examination = await examineAll(copy, stored.copyBlobs());
    expect(messagesOf(examination).join()).toContain('is damaged');
    expect(lostIn(examination)).toEqual([]);
  });
});
