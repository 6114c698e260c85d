import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, FANOUT } from '../../../src/backends/cas/format.ts';
import { encodeHaveList, gatherHashes, readHaveList } from '../../../src/backends/cas/have-list.ts';
import { receiverOptions, receiveSnapshot } from '../../../src/backends/cas/receive.ts';
import { type SendOptions, sendSnapshot } from '../../../src/backends/cas/send.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { IncomingTransfer } from '../../../src/backends/cas/transfer-stream.ts';
import { storedRoots } from '../../../src/backends/cas/walk.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const LEAVES = 3;
const BLOCKS = LEAVES * FANOUT;
const SIZE = BLOCKS * BLOCK_SIZE;
const HEAD = 16;
const HASH = 32;

async function gather(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

async function send(store: CasStore, name: string, options?: SendOptions): Promise<Buffer> {
  return gather(sendSnapshot(store, name, options));
}

async function haveList(store: CasStore): Promise<Buffer> {
  return gather(encodeHaveList(await gatherHashes(store)));
}

async function* deliver(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1777) yield bytes.subarray(at, at + 1777);
}

function read(list: Buffer) {
  return readHaveList(deliver(list));
}

async function receive(store: CasStore, name: string, stream: Buffer) {
  const transfer = await IncomingTransfer.open(deliver(stream));
  return receiveSnapshot(store, name, transfer);
}

/** What the pieces of a stream take. */
function pieceBytes(stream: Buffer): number {
  return stream.length - 16 - stream.readUInt32LE(8);
}

function rootOf(store: CasStore, name: string): string | undefined {
  return storedRoots(store).find((root) => root.name === name)?.root[0];
}

/** A store with a volume of random blocks, and a snapshot `s` of it. */
async function makeStore(files: SimFs, firstSeed: number, changes: Record<number, number> = {}) {
  const store = await openTiny(files);
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(firstSeed, BLOCKS));
  for (const [lba, seed] of Object.entries(changes)) {
    await client.write(Number(lba) * BLOCK_SIZE, blockOf(seed));
  }
  await store.changes.snapshot('disk', 's');
  return { store, client };
}

describe('a stream', () => {
  it('has each block once', async () => {
    const source = await openTiny(new SimFs());
    const client = clientOf(await source.openVolume('disk', SIZE));
    await client.write(0, blocksOf(1, 100));
    // The same again, elsewhere in a leaf and in reverse; and one block very often.
    for (let i = 0; i < 100; i++) await client.write((150 + i) * BLOCK_SIZE, blockOf(100 - i));
    for (let i = 0; i < 60; i++) await client.write((300 + i) * BLOCK_SIZE, blockOf(501));
    await source.changes.snapshot('disk', 's');
    const stream = await send(source, 's');
    const references = (100 + 59) * 8;
    expect(pieceBytes(stream)).toBe(101 * BLOCK_SIZE + references + 5 * HEAD);
    const target = await openTiny(new SimFs());
    await receive(target, 's', stream);
    expect(rootOf(target, 's')).toBe(rootOf(source, 's'));
    await abandon(source);
    await abandon(target);
  });

  it('refers to earlier blocks only', async () => {
    const source = await openTiny(new SimFs());
    const client = clientOf(await source.openVolume('disk', SIZE));
    await client.write(0, blockOf(2));
    await client.write(9 * BLOCK_SIZE, blockOf(2));
    await source.changes.snapshot('disk', 's');
    const stream = await send(source, 's');
    const target = await openTiny(new SimFs());
    for (const lba of [9, 10, 2 ** 50]) {
      const changed = Buffer.from(stream);
      changed.writeBigUInt64LE(BigInt(lba), stream.length - HEAD - 8);
      await expect(receive(target, 's', changed)).rejects.toThrow('the stream is damaged');
    }
    expect(storedRoots(target)).toEqual([]);
    await abandon(source);
    await abandon(target);
  });

  it('of version 1 has no references', async () => {
    const { store: source } = await makeStore(new SimFs(), 1);
    const target = await openTiny(new SimFs());
    const plain = await send(source, 's');
    expect(plain.readUInt32LE(4)).toBe(2);
    plain.writeUInt32LE(1, 4);
    await receive(target, 's', plain);
    expect(rootOf(target, 's')).toBe(rootOf(source, 's'));
    const referring = await send(source, 's', { held: await read(await haveList(target)) });
    referring.writeUInt32LE(1, 4);
    await expect(receive(target, 't', referring)).rejects.toThrow('the stream is damaged');
    plain.writeUInt32LE(3, 4);
    await expect(receive(target, 't', plain)).rejects.toThrow('version 3, which is not known');
    await abandon(source);
    await abandon(target);
  });
});

describe('what a store has', () => {
  it('is not sent to it', async () => {
    const { store: source } = await makeStore(new SimFs(), 1, { 200: 9001 });
    const { store: target } = await makeStore(new SimFs(), 1, { 5: 0 });
    const list = await haveList(target);
    expect(list.length).toBe(HEAD + (BLOCKS - 1 + LEAVES + 1) * HASH + HASH);
    const stream = await send(source, 's', { held: await read(list) });
    // Blocks 0 to 127 one by one, but for the one that is missing; the second leaf around the new
    // one; the third leaf.
    const first = HEAD + 127 * HASH + (HEAD + BLOCK_SIZE);
    const second = HEAD + 127 * HASH + (HEAD + BLOCK_SIZE);
    expect(pieceBytes(stream)).toBe(first + HEAD + second + HEAD + (HEAD + HASH) + HEAD);
    const { foundBytes } = await receive(target, 'copy', stream);
    expect(foundBytes).toBe((BLOCKS - 2) * BLOCK_SIZE);
    expect(rootOf(target, 'copy')).toBe(rootOf(source, 's'));
    expect([...target.volumes].map(({ name }) => name)).toEqual(['disk']);
    await abandon(source);
    await abandon(target);
  });

  it('is left out of changes, too, and may be at the end of a disk or zero', async () => {
    const { store: source, client } = await makeStore(new SimFs(), 1);
    const target = await openTiny(new SimFs());
    await receive(target, 's', await send(source, 's'));
    const grown = SIZE + 7 * BLOCK_SIZE;
    const larger = clientOf(await source.openVolume('disk', grown));
    await larger.write(SIZE, blocksOf(30, 7));
    await client.write(10 * BLOCK_SIZE, blocksOf(700, 20));
    await client.trim(15 * BLOCK_SIZE, 3 * BLOCK_SIZE);
    await source.changes.snapshot('disk', 'next');
    const other = clientOf(await target.openVolume('other', grown));
    await other.write(SIZE, blocksOf(30, 7));
    await other.write(0, blocksOf(1, FANOUT));
    await other.write(10 * BLOCK_SIZE, blocksOf(700, 20));
    await other.trim(15 * BLOCK_SIZE, 3 * BLOCK_SIZE);
    await target.checkpoint();
    const held = await read(await haveList(target));
    const stream = await send(source, 'next', { baseName: 's', held });
    expect(pieceBytes(stream)).toBe(2 * (HEAD + HASH) + HEAD);
    await receive(target, 'next', stream);
    expect(rootOf(target, 'next')).toBe(rootOf(source, 'next'));
    await abandon(source);
    await abandon(target);
  });

  it('is named when it is there no more, and nothing is made', async () => {
    const { store: source } = await makeStore(new SimFs(), 1, { 200: 9001 });
    const { store: target } = await makeStore(new SimFs(), 1);
    const stream = await send(source, 's', { held: await read(await haveList(target)) });
    await target.changes.deleteSnapshot('s');
    const client = clientOf(await target.openVolume('disk', SIZE));
    await client.trim(0, SIZE);
    for (let round = 0; round < 3; round++) {
      await client.write(0, blocksOf(20_000 + 100 * round, 90));
      await client.flush();
      await target.checkpoint();
    }
    await collect(target, { liveMax: 1 });
    const before = storedRoots(target).map(({ name }) => name);
    await expect(receive(target, 'copy', stream)).rejects.toMatchObject({
      message: expect.stringMatching(/^the store \/store does not have [0-9a-f]{64}, which the/),
      remedy: expect.stringContaining('aoe-server cas have'),
    });
    expect(storedRoots(target).map(({ name }) => name)).toEqual(before);
    const held = await read(await haveList(target));
    await receive(target, 'copy', await send(source, 's', { held }));
    expect(rootOf(target, 'copy')).toBe(rootOf(source, 's'));
    await abandon(source);
    await abandon(target);
  });

  it('is not taken from a damaged place', async () => {
    const files = new SimFs();
    const { store: before } = await makeStore(files, 2);
    await before.close();
    const { store: source } = await makeStore(new SimFs(), 2);
    const middle = blockOf(6).subarray(0, 64);
    for (const path of files.paths()) {
      const bytes = Buffer.from(files.contentOf(path).buffer);
      const at = bytes.indexOf(middle);
      if (at >= 0) bytes.fill(1, at, at + 64);
    }
    const target = await openTiny(files);
    const stream = await send(source, 's', { held: await read(await haveList(target)) });
    await expect(receive(target, 'copy', stream)).rejects.toThrow('does not have');
    expect(storedRoots(target).map(({ name }) => name)).toEqual(['disk', 's']);
    await abandon(source);
    await abandon(target);
  });

  it('is found although the index is too small for it', async () => {
    const files = new SimFs();
    const { store: before } = await makeStore(files, 1);
    const { store: source } = await makeStore(new SimFs(), 1, { 1: 9001, 200: 9001, 300: 9003 });
    const stream = await send(source, 's', { held: await read(await haveList(before)) });
    await before.close();
    const small = await openTiny(files, { indexBytesMax: 2000 });
    await expect(receive(small, 'copy', stream)).rejects.toThrow('does not have');
    await small.close();
    const { header } = await IncomingTransfer.open(deliver(stream));
    const target = await openTiny(files, { indexBytesMax: 2000, ...receiverOptions(header) });
    await receive(target, 'copy', stream);
    expect(rootOf(target, 'copy')).toBe(rootOf(source, 's'));
    await abandon(source);
    await abandon(target);
  });

  it('is told whole, or not at all', async () => {
    const { store } = await makeStore(new SimFs(), 1);
    const list = await haveList(store);
    expect((await read(list)).count).toBe(BLOCKS + LEAVES + 1);
    const random = seededRandom(5);
    for (let round = 0; round < 40; round++) {
      const at = Math.floor(random() * list.length);
      await expect(read(list.subarray(0, at)), `${at}`).rejects.toThrow('ends too early');
      const changed = Buffer.from(list);
      changed[at] = (changed[at] as number) ^ (1 << Math.floor(random() * 8));
      await expect(read(changed), `${at}`).rejects.toMatchObject({ code: 'AOE_CAS_TRANSFER' });
    }
    const twice = Buffer.concat([list, list]);
    await expect(read(twice)).rejects.toThrow('the list of what the other store has is damaged');
    await expect(read(await send(store, 's'))).rejects.toThrow('this is no list');
    const later = Buffer.from(list);
    later.writeUInt32LE(2, 4);
    await expect(read(later)).rejects.toThrow('version 2');
    await abandon(store);
  });

  it('may be nothing', async () => {
    const target = await openTiny(new SimFs());
    const { store: source } = await makeStore(new SimFs(), 1);
    const held = await read(await haveList(target));
    expect(held.count).toBe(0);
    await receive(target, 's', await send(source, 's', { held }));
    expect(rootOf(target, 's')).toBe(rootOf(source, 's'));
    await abandon(source);
    await abandon(target);
  });
});
