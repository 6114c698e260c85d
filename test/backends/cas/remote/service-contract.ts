/** What a store does on a real service, as tests. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  BlobExistsError,
  type BlobInfo,
  BlobMissingError,
  type BlobStore,
} from '../../../../src/backends/cas/blob-store.ts';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { openCasStore } from '../../../../src/backends/cas/open.ts';
import { PersistentBlobs } from '../../../../src/backends/cas/remote/persistent-blobs.ts';
import {
  REMOTE_DEFAULTS,
  type RemoteOptions,
} from '../../../../src/backends/cas/remote/remote-options.ts';
import { scrub } from '../../../../src/backends/cas/scrub.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { FAULTS, startFaultProxy } from '../../../support/fault-proxy.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf } from '../tiny-store.ts';
import { openRemote, openVolume, ownerOf, readSeeds, recoverSeeds } from './remote-store.ts';

const SIZE_BYTES = 1024 * BLOCK_SIZE;

/** @param open gives blobs that are empty */
export function testStoreOn(open: () => Promise<BlobStore>): void {
  const openStore = (path: string, blobs: BlobStore, remote: Partial<RemoteOptions> = {}) =>
    openCasStore(path, {
      segmentBytes: 1 << 20,
      batchBlocks: 32,
      checkpointMs: 0,
      remote: { ...REMOTE_DEFAULTS, blobs, ...remote },
    });

  /** Runs a test with directories on local disks. */
  const withDisks = async (test: (disks: string[]) => Promise<void>): Promise<void> => {
    const parent = await mkdtemp(join(tmpdir(), 'cas-remote-'));
    try {
      await test(['a', 'b', 'c'].map((name) => join(parent, name)));
    } finally {
      await rm(parent, { recursive: true });
    }
  };

  describe('under a store', () => {
    it('gives back every confirmed write after the disk was lost', () =>
      withDisks(async ([first = '', second = '']) => {
        const blobs = await open();
        const store = await openStore(first, blobs, { durability: 'remote' });
        const client = clientOf(await store.openVolume('v', SIZE_BYTES));
        for (let round = 0; round < 4; round++) {
          await client.write(0, blocksOf(round * 1000 + 2, 256, 2));
          await client.flush();
        }
        await collect(store, { liveMax: 0.8 });
        for (let i = 0; i < 10; i++) {
          await client.write((256 + i) * BLOCK_SIZE, blockOf(i + 1));
          await client.flush();
        }
        await abandon(store);

        await expect(openStore(second, blobs)).rejects.toThrow('is in use by the server on');
        const again = await openStore(second, blobs, { takeOver: await ownerOf(blobs) });
        const volume = clientOf(await again.openVolume('v', SIZE_BYTES));
        const content = await volume.read(0, 266 * BLOCK_SIZE);
        expect(content.equals(Buffer.concat([blocksOf(3002, 256, 2), blocksOf(1, 10)]))).toBe(true);
        await again.close();
        // What was collected is gone there, too: four times 1 MiB had been written.
        let storedBytes = 0;
        for await (const { sizeBytes } of blobs.list('segment-')) storedBytes += sizeBytes;
        expect(storedBytes).toBeLessThan(3 << 20);
      }));

    it('finds a flipped bit in what is stored, and stores that anew', () =>
      withDisks(async ([first = '', second = '']) => {
        const blobs = await open();
        const store = await openStore(first, blobs, { durability: 'remote' });
        const client = clientOf(await store.openVolume('v', SIZE_BYTES));
        const content = blocksOf(2, 256, 2);
        await client.write(0, content);
        await client.flush();
        await store.checkpoint();
        await client.flush();
        // The largest: it is not stored again together with what follows.
        const found: BlobInfo[] = [];
        for await (const blob of blobs.list('segment-')) found.push(blob);
        const [largest] = found.sort((one, other) => other.sizeBytes - one.sizeBytes);
        const { name: damaged } = largest as BlobInfo;
        const bytes = await blobs.getRange(damaged, 0, 8 << 20);
        bytes[100_000] = (bytes[100_000] as number) ^ 1;
        await blobs.delete(damaged);
        await blobs.put(damaged, bytes, true);
        expect(await scrub(store, { remote: true })).toMatchObject({
          damage: [],
          affected: [],
          blobs: { damage: [{ name: damaged, isMissing: false, isReplaced: true }] },
        });
        expect(await scrub(store, { remote: true })).toMatchObject({ blobs: { damage: [] } });
        await abandon(store);

        const again = await openStore(second, blobs, { takeOver: await ownerOf(blobs) });
        const volume = clientOf(await again.openVolume('v', SIZE_BYTES));
        expect((await volume.read(0, content.length)).equals(content)).toBe(true);
        await again.close();
      }));

    it('lets one of two servers that start at once have it', () =>
      withDisks(async (disks) => {
        const blobs = await open();
        const starts = await Promise.allSettled(disks.map((disk) => openStore(disk, blobs)));
        const stores = starts.flatMap((start) => (start.status === 'fulfilled' ? start.value : []));
        expect(stores).toHaveLength(1);
        await stores[0]?.close();
      }));

    it('lets one of two copies of a directory go on, and the other one never', () =>
      withDisks(async ([first = '', second = '', third = '']) => {
        const blobs = await open();
        const store = await openStore(first, blobs, { durability: 'remote' });
        const client = clientOf(await store.openVolume('v', SIZE_BYTES));
        await client.write(0, blockOf(1));
        await client.flush();
        for (const copy of [second, third]) await cp(first, copy, { recursive: true });
        const starts = await Promise.allSettled(
          [second, third].map((copy) => openStore(copy, blobs, { durability: 'remote' })),
        );
        const stores = starts.flatMap((start) => (start.status === 'fulfilled' ? start.value : []));
        expect(stores).toHaveLength(1);
        await client.write(0, blockOf(2));
        await expect(client.flush()).rejects.toThrow();
        await store.close();
        const [winner] = stores;
        const other = clientOf(await (winner as CasStore).openVolume('v', SIZE_BYTES));
        await other.write(0, blockOf(3));
        await other.flush();
        await winner?.close();
        await expect(openStore(first, blobs)).rejects.toThrow('is out of date');
      }));

    it('stops a server that was taken over', () =>
      withDisks(async ([first = '', second = '']) => {
        const blobs = await open();
        const store = await openStore(first, blobs, { durability: 'remote' });
        const client = clientOf(await store.openVolume('v', SIZE_BYTES));
        await client.write(0, blockOf(1));
        await client.flush();
        const rival = await openStore(second, blobs, { takeOver: await ownerOf(blobs) });
        await client.write(0, blockOf(2));
        await expect(client.flush()).rejects.toThrow();
        const volume = clientOf(await rival.openVolume('v', SIZE_BYTES));
        expect(await volume.read(0, BLOCK_SIZE)).toEqual(blockOf(1));
        await rival.close();
        await store.close();
      }));
  });
}

/** Gives the same blobs each time, by way of an endpoint; see `unlessSilent` for the time. */
export type OpenAt = (endpoint: string, silenceMs: number) => Promise<BlobStore>;

const SILENCE_MS = 500;

/** @param endpointOf gives the URL of the service */
export function testBadNetwork(endpointOf: () => string, openAt: OpenAt): void {
  const open = (endpoint: string) => openAt(endpoint, SILENCE_MS);

  it('loses nothing over a bad network', async () => {
    await using proxy = await startFaultProxy(endpointOf());
    const direct = await open(endpointOf());
    const blobs = await open(proxy.endpoint);
    const random = seededRandom(1);
    let faults = 0;
    proxy.choose = () => (random() < 0.25 ? FAULTS[faults++ % FAULTS.length] : undefined);
    for (let life = 1; life <= 3; life++) {
      // An empty disk each time: all that is known comes from the service.
      const remote = { takeOver: await ownerOf(direct), durability: 'remote' } as const;
      const store = await openRemote(new SimFs(), blobs, remote);
      const client = await openVolume(store);
      expect((await readSeeds(store))[0]).toBe((life - 1) * 6);
      for (let i = 1; i <= 6; i++) {
        await client.write(0, blockOf((life - 1) * 6 + i));
        await client.flush();
      }
      await abandon(store);
    }
    expect([...proxy.counts.keys()].sort()).toEqual([...FAULTS].sort());
    await proxy.settled();
    expect((await recoverSeeds(direct))[0]).toBe(18);
  });

  it('stores nothing of an upload that is cut off', async () => {
    await using proxy = await startFaultProxy(endpointOf());
    const direct = await open(endpointOf());
    const blobs = await open(proxy.endpoint);
    const bytes = Uint8Array.from({ length: 3 << 20 }, (_, i) => i % 251);
    proxy.choose = () => 'cut request';
    await expect(blobs.put('cut-off', bytes, true)).rejects.toThrow();
    await expect(direct.getRange('cut-off', 0, 1)).rejects.toThrow(BlobMissingError);
    proxy.choose = () => undefined;
    await blobs.put('cut-off', bytes, true);
    expect(Buffer.from(await direct.getRange('cut-off', 0, 4 << 20)).equals(bytes)).toBe(true);
  });

  it.each(['no answer', 'half an answer'] as const)('gives up on %s', async (fault) => {
    await using proxy = await startFaultProxy(endpointOf());
    const blobs = await open(proxy.endpoint);
    const bytes = new Uint8Array(1 << 20);
    await blobs.put('silent', bytes, true);
    proxy.choose = () => fault;
    const namesOf = async () => {
      for await (const { name } of blobs.list('silent')) expect(name).toBe('silent');
    };
    const requests = [() => blobs.getRange('silent', 0, bytes.length), namesOf];
    // The answers to these have no body.
    if (fault === 'no answer') {
      requests.push(
        () => blobs.put('silent-2', bytes, true),
        () => blobs.delete('silent'),
      );
    }
    for (const request of requests) {
      const startMs = performance.now();
      await expect(request()).rejects.toThrow();
      expect(performance.now() - startMs).toBeLessThan(10 * SILENCE_MS);
    }
    // One that tries again succeeds when the service does not stay silent.
    let silences = 1;
    proxy.choose = () => (silences-- > 0 ? fault : undefined);
    const found = await new PersistentBlobs(blobs).getRange('silent', 0, bytes.length);
    expect(found).toHaveLength(bytes.length);
  });

  it('waits for a slow answer as long as something comes', async () => {
    await using proxy = await startFaultProxy(endpointOf());
    const blobs = await open(proxy.endpoint);
    const bytes = new Uint8Array(1 << 20);
    await blobs.put('slow', bytes, true);
    proxy.choose = () => 'slow answer';
    expect(await blobs.getRange('slow', 0, bytes.length)).toHaveLength(bytes.length);
  });
}

/** The same, of a service that knows conditions. */
export function testConflict(endpointOf: () => string, openAt: OpenAt): void {
  it('tries again when another conditional request is under way', async () => {
    await using proxy = await startFaultProxy(endpointOf());
    const blobs = new PersistentBlobs(await openAt(proxy.endpoint, SILENCE_MS));
    let conflicts = 2;
    proxy.choose = (method) => (method === 'PUT' && conflicts-- > 0 ? 'conflict' : undefined);
    await blobs.put('contended', Uint8Array.of(1));
    expect(proxy.counts.get('conflict')).toBe(2);
    await expect(blobs.put('contended', Uint8Array.of(2))).rejects.toThrow(BlobExistsError);
  });
}
