import { describe, expect, it, vi } from 'vitest';
import { referenceOf } from '../../../src/backends/cas/catalog.ts';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, FANOUT } from '../../../src/backends/cas/format.ts';
import { receiveSnapshot } from '../../../src/backends/cas/receive.ts';
import { type SendOptions, sendSnapshot } from '../../../src/backends/cas/send.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { IncomingTransfer } from '../../../src/backends/cas/transfer-stream.ts';
import { storedRoots } from '../../../src/backends/cas/walk.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 2 * FANOUT + 3;
const SIZE = BLOCKS * BLOCK_SIZE;

async function gather(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function send(store: CasStore, name: string, options?: SendOptions): Promise<Buffer> {
  return gather(sendSnapshot(store, name, options));
}

function rootOf(store: CasStore, name: string): string | undefined {
  return storedRoots(store).find((root) => root.name === name)?.root[0];
}

/** Delivers a stream in pieces of odd sizes. */
async function* deliver(stream: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < stream.length; at += 1777) yield stream.subarray(at, at + 1777);
}

async function receive(store: CasStore, name: string, stream: Buffer) {
  const transfer = await IncomingTransfer.open(deliver(stream));
  return receiveSnapshot(store, name, transfer);
}

/** The name and root hash of everything in a store. */
function contentOf(store: CasStore): string[] {
  return storedRoots(store).map(({ name, root: [hash] }) => `${name} ${hash}`);
}

/** A store with the snapshots `a`, `b` and, of a disk that has grown by a level, `c`. */
async function makeSource(): Promise<CasStore> {
  const store = await openTiny(new SimFs());
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(1, 60));
  await client.write(200 * BLOCK_SIZE, blocksOf(1, 9));
  await store.changes.snapshot('disk', 'a');
  await client.write(3 * BLOCK_SIZE, blocksOf(500, 7));
  await client.trim(20 * BLOCK_SIZE, 15 * BLOCK_SIZE);
  await store.changes.snapshot('disk', 'b');
  const grownBlocks = FANOUT * FANOUT + 1;
  const grown = clientOf(await store.openVolume('disk', grownBlocks * BLOCK_SIZE));
  await grown.write((grownBlocks - 1) * BLOCK_SIZE, blockOf(9));
  await store.changes.snapshot('disk', 'c');
  return store;
}

describe('a transfer between stores', () => {
  it('makes the same snapshots, in full and by changes', async () => {
    const source = await makeSource();
    const target = await openTiny(new SimFs());
    expect(await receive(target, 'a', await send(source, 'a'))).toMatchObject({
      header: { base: null },
    });
    const changes = await send(source, 'b', { baseName: 'a' });
    expect(changes.length).toBeLessThan(8 * BLOCK_SIZE);
    await receive(target, 'renamed', changes);
    await receive(target, 'c', await send(source, 'c', { baseName: 'b' }));
    expect(target.snapshots.map(({ name, volume }) => [name, volume])).toEqual([
      ['a', 'disk'],
      ['renamed', 'disk'],
      ['c', 'disk'],
    ]);
    const identities = ({ snapshots }: CasStore) =>
      snapshots.map(({ sizeBytes, root: [hash] }) => [sizeBytes, hash]);
    expect(identities(target)).toEqual(identities(source));
    expect([...target.volumes]).toEqual([]);
    await abandon(source);
    await abandon(target);
  });

  it('refuses changes to what the other store does not have, and names that are taken', async () => {
    const source = await makeSource();
    const target = await openTiny(new SimFs());
    const changes = await send(source, 'b', { baseName: 'a' });
    await expect(receive(target, 'b', changes)).rejects.toThrow('does not have the snapshot');
    await expect(receive(source, 'a', changes)).rejects.toThrow('there is a snapshot a already');
    await expect(send(source, 'a', { baseName: 'c' })).rejects.toThrow('c is larger than a');
    expect(contentOf(target)).toEqual([]);
    await abandon(source);
    await abandon(target);
  });

  it('refuses a name before anything is sent that only a snapshot in the log has', async () => {
    const source = await makeSource();
    const transfer = await IncomingTransfer.open(deliver(await send(source, 'a')));
    const pieces = vi.spyOn(transfer, 'pieces');
    const target = await openTiny(new SimFs());
    const client = clientOf(await target.openVolume('disk', SIZE));
    await client.write(0, blockOf(1));
    await target.changes.snapshot('disk', 'late');
    expect(target.snapshots).toEqual([]);
    await expect(receiveSnapshot(target, 'late', transfer)).rejects.toThrow(
      'there is a snapshot late already',
    );
    expect(pieces).not.toHaveBeenCalled();
    await abandon(source);
    await abandon(target);
  });

  it('says what helps when there is no room, and leaves the store as it was', async () => {
    const source = await makeSource();
    const target = await openTiny(new SimFs(), { capacityBytes: 6 * (64 << 10) });
    await expect(receive(target, 'a', await send(source, 'a'))).rejects.toMatchObject({
      message: 'the store /store has no room for a',
      remedy: expect.stringContaining('aoe-server cas collect /store'),
    });
    expect(contentOf(target)).toEqual([]);
    await abandon(source);
    await abandon(target);
  });

  it('leaves a store as it was when a stream is cut off or changed anywhere', async () => {
    const source = await makeSource();
    const target = await openTiny(new SimFs());
    await receive(target, 'a', await send(source, 'a'));
    const before = contentOf(target);
    const stream = await send(source, 'b', { baseName: 'a' });
    const random = seededRandom(3);
    for (let round = 0; round < 40; round++) {
      const at = Math.floor(random() * stream.length);
      await expect(receive(target, 'b', stream.subarray(0, at))).rejects.toThrow();
      expect(contentOf(target)).toEqual(before);
    }
    // As of two streams, of which one would be lost.
    const longer = Buffer.concat([stream, Buffer.from([0])]);
    await expect(receive(target, 'b', longer)).rejects.toThrow('the stream is damaged');
    expect(contentOf(target)).toEqual(before);
    const headEnd = 16 + stream.readUInt32LE(8);
    for (let round = 0; round < 90; round++) {
      const changed = Buffer.from(stream);
      // Preamble and header in turn with the pieces; what follows the kind of the last is not read.
      const [start, end] = round % 3 === 0 ? [0, headEnd] : [headEnd, stream.length - 12];
      const at = start + Math.floor(random() * (end - start));
      changed[at] = (changed[at] as number) ^ (1 << Math.floor(random() * 8));
      await expect(receive(target, 'b', changed), `byte ${at}`).rejects.toThrow();
      expect(contentOf(target)).toEqual(before);
    }
    // What a receiver that was killed leaves.
    const partial = await target.openVolume('b.receiving', BLOCK_SIZE);
    await clientOf(partial).write(0, blockOf(77));
    await partial.close();
    await receive(target, 'b', stream);
    expect([...target.volumes]).toEqual([]);
    expect(target.snapshots.map(({ name }) => name)).toEqual(['a', 'b']);
    await abandon(source);
    await abandon(target);
  });

  it('has what was last written to a volume, though nobody flushed it', async () => {
    const [store, copy] = await Promise.all([openTiny(new SimFs()), openTiny(new SimFs())]);
    await clientOf(await store.openVolume('disk', SIZE)).write(0, blockOf(7));
    await receive(copy, 'now', await send(store, 'disk'));
    const client = clientOf(await copy.openSnapshot('now'));
    expect((await client.read(0, BLOCK_SIZE)).equals(blockOf(7))).toBe(true);
    await Promise.all([store.close(), copy.close()]);
  });

  it('keeps what it sends, whatever is deleted and collected meanwhile', async () => {
    const source = await makeSource();
    const target = await openTiny(new SimFs());
    const roots = ['a', 'b'].map((name) => rootOf(source, name));
    const streams = [
      sendSnapshot(source, 'a'),
      sendSnapshot(source, 'b', { baseName: 'a' }),
      sendSnapshot(source, 'b', { baseName: 'a' }),
    ];
    const begun = await Promise.all(streams.map((stream) => stream.next()));
    // One that nobody wants any more does not let go of what others need.
    await streams.pop()?.return(undefined);
    for (const name of ['a', 'b', 'c']) await source.changes.deleteSnapshot(name);
    const client = clientOf(await source.openVolume('disk', (FANOUT * FANOUT + 1) * BLOCK_SIZE));
    await client.trim(0, SIZE);
    for (let round = 0; round < 8; round++) {
      await client.write(0, blocksOf(5000 + round * BLOCKS, BLOCKS));
      await client.flush();
    }
    const { freedSegments } = await collect(source);
    expect(freedSegments).toBeGreaterThan(0);
    for (const [index, name] of ['a', 'b'].entries()) {
      const rest = await gather(streams[index] as AsyncIterable<Uint8Array>);
      await receive(target, name, Buffer.concat([begun[index]?.value as Uint8Array, rest]));
    }
    expect(['a', 'b'].map((name) => rootOf(target, name))).toEqual(roots);
    // Nothing is kept for ever.
    await collect(source);
    await expect(source.reader.loadRoot(referenceOf([roots[0] as string, 0, 0]))).rejects.toThrow();
    await abandon(source);
    await abandon(target);
  });

  it('refuses a volume of a damaged store, and sends a snapshot of one', async () => {
    const files = new SimFs();
    const source = await openTiny(files, { checkpointBytes: 1 << 30 });
    const client = clientOf(await source.openVolume('disk', SIZE));
    await client.write(0, blockOf(2));
    await source.changes.snapshot('disk', 'a');
    await source.whenSnapshotsStored();
    for (const seed of [4, 6, 8]) {
      await client.write(0, blockOf(seed));
      await client.flush();
    }
    await abandon(source);
    const content = files.paths().map((path) => Buffer.from(files.contentOf(path).buffer));
    const middle = blockOf(6).subarray(0, 64);
    for (const bytes of content) {
      const at = bytes.indexOf(middle);
      if (at >= 0) bytes.fill(1, at, at + 64);
    }
    const again = await openTiny(files);
    expect(again.readOnly).toBe(true);
    await expect(send(again, 'disk')).rejects.toThrow('may be out of date');
    const target = await openTiny(new SimFs());
    await receive(target, 'a', await send(again, 'a'));
    expect(contentOf(target)).toEqual([contentOf(again).find((line) => line.startsWith('a '))]);
    await abandon(again);
    await abandon(target);
  });
});
