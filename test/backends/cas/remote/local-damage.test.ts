import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, frameOffset, HASH_WORDS } from '../../../../src/backends/cas/format.ts';
import { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import { segmentName } from '../../../../src/backends/cas/segments.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import type { Volume } from '../../../../src/backends/cas/volume.ts';
import { SimFs } from '../sim-fs.ts';
import { abandon, blockOf } from '../tiny-store.ts';
import { openRemote, openVolume, readSeeds, recoverSeeds, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** Of a record with one block that does not compress. */
const RECORD_BYTES = 8192;

/** Damages the block in the last record of the log. */
function damageLast({ log, segments }: CasStore, files: SimFs): void {
  const { segment, offset } = log.durable;
  files.contentOf(segments.pathOf(segment)).fill(1, offset - 7000, offset - 6000);
}

describe('a store that is kept in blobs, damaged on its disk', () => {
  it('stores nothing that is damaged', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 << 30 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    await store.checkpoint();
    await expect
      .poll(async () => (await Journal.read(blobs)).image.segments.size, WAIT)
      .toBeGreaterThan(1);
    const puts = blobs.trace.length;
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    damageLast(store, files);
    await store.checkpoint();
    await expect.poll(() => blobs.trace.length, WAIT).toBeGreaterThan(puts);
    await abandon(store);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([2, 0]);
  });

  it('is not opened for reading only because the blobs do not answer for a moment', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs);
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    await store.checkpoint();
    const [segment, place] = (store.findVolume('v') as Volume).reference.subarray(HASH_WORDS);
    await store.close();
    const start = frameOffset(place as number);
    files.contentOf(`/store/segments/${segmentName(segment as number)}`).fill(1, start, start + 16);
    blobs.beforeRead = async () => {
      if (blobs.reads.at(-1)?.startsWith('segment-')) throw new Error('no route');
    };
    await expect(openRemote(files, blobs)).rejects.toThrow('no route');
    blobs.beforeRead = async () => {};
    const again = await openRemote(files, blobs);
    expect((await readSeeds(again))[0]).toBe(2);
    await again.close();
  });

  it('says so, fails flushes that wait for the blobs, and goes on when it is right again', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const told: Error[] = [];
    const onLocalDamage = (error: Error) => told.push(error);
    const onTrouble = (error: Error) => expect.unreachable(error.message);
    const remote = { durability: 'remote', onLocalDamage, onTrouble } as const;
    const store = await openRemote(files, blobs, remote);
    const client = await openVolume(store);
    const readFails = (op: string) => (op === 'read' ? 'EIO' : undefined);
    files.fault = readFails;
    await client.write(0, blockOf(2));
    await expect(client.flush()).rejects.toThrow();
    await expect(client.flush()).rejects.toThrow();
    // The first attempts to repeat it follow soon.
    await delay(500);
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^segment \d+ cannot be read \(EIO.* at byte \d+ on the local disk/),
    ]);
    expect(store.replica?.state.damage?.message).toBe(told[0]?.message);
    expect(store.replica?.state.unreachable).toBeUndefined();
    files.fault = () => undefined;
    await expect.poll(() => store.replica?.state.damage, WAIT).toBeUndefined();
    await client.flush();
    await abandon(store);
    expect((await recoverSeeds(blobs))[0]).toBe(2);
  });

  it('is not left to another server when it is closed', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { delayMs: 1 << 30 });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    damageLast(store, files);
    await store.close();
    await expect(openRemote(new SimFs(), blobs)).rejects.toThrow('is in use by the server on');
  });

  it('is repaired from the blobs where it is stored together with what follows', async () => {
    const blobs = new TraceBlobs();
    const files = new SimFs();
    const store = await openRemote(files, blobs, { durability: 'remote' });
    const client = await openVolume(store);
    await client.write(0, blockOf(2));
    await client.flush();
    const content = files.contentOf(store.segments.pathOf(store.log.durable.segment));
    const before = content.slice();
    damageLast(store, files);
    await client.write(BLOCK_SIZE, blockOf(4));
    await client.flush();
    expect(content.subarray(0, RECORD_BYTES)).toEqual(before.subarray(0, RECORD_BYTES));
    await abandon(store);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([2, 4]);
  });
});
