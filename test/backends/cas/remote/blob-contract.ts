/** What every blob store promises, as tests. */
import { describe, expect, it } from 'vitest';
import type { BlobInfo, BlobStore } from '../../../../src/backends/cas/blob-store.ts';
import { BlobExistsError, BlobMissingError } from '../../../../src/backends/cas/blob-store.ts';

/** @param open gives a store that holds nothing */
export function testBlobStore(open: () => Promise<BlobStore>): void {
  describe('as a blob store', () => {
    it('gives back what was put, whole or in part', async () => {
      const blobs = await open();
      const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => i % 251);
      await blobs.put('a', bytes);
      expect(Buffer.from(await blobs.getRange('a', 0, bytes.length)).equals(bytes)).toBe(true);
      expect([...(await blobs.getRange('a', 1000, 3))]).toEqual([...bytes.subarray(1000, 1003)]);
      expect(await listOf(blobs, '')).toEqual([{ name: 'a', sizeBytes: bytes.length }]);
    });

    it('gives less beyond the end of a blob', async () => {
      const blobs = await open();
      await blobs.put('short', Uint8Array.of(1, 2, 3));
      expect([...(await blobs.getRange('short', 2, 10))]).toEqual([3]);
      expect([...(await blobs.getRange('short', 3, 10))]).toEqual([]);
    });

    it('never changes a blob', async () => {
      const blobs = await open();
      await blobs.put('once', Uint8Array.of(1));
      await expect(blobs.put('once', Uint8Array.of(2))).rejects.toThrow(BlobExistsError);
      expect([...(await blobs.getRange('once', 0, 1))]).toEqual([1]);
    });

    it('tells that a blob is missing', async () => {
      const blobs = await open();
      await expect(blobs.getRange('none', 0, 1)).rejects.toThrow(BlobMissingError);
    });

    it('lists names with a prefix in order', async () => {
      const blobs = await open();
      for (const name of ['b-2', 'a-1', 'b-10', 'c']) await blobs.put(name, Uint8Array.of(1));
      const names = (await listOf(blobs, 'b-')).map(({ name }) => name);
      expect(names).toEqual(['b-10', 'b-2']);
    });

    it('removes a blob, and does not mind one that is not there', async () => {
      const blobs = await open();
      await blobs.put('gone', Uint8Array.of(1));
      await blobs.delete('gone');
      await blobs.delete('gone');
      expect(await listOf(blobs, '')).toEqual([]);
    });
  });
}

async function listOf(blobs: BlobStore, prefix: string): Promise<BlobInfo[]> {
  const found: BlobInfo[] = [];
  for await (const info of blobs.list(prefix)) found.push(info);
  return found;
}

/** Of many that put the same name at once exactly one succeeds: two servers rely on it. */
export function testRace(open: () => Promise<BlobStore>): void {
  it('lets one of many that create a blob at once succeed', async () => {
    const blobs = await open();
    for (let round = 0; round < 5; round++) {
      const attempts = Array.from({ length: 8 }, (_, i) =>
        blobs.put(`race-${round}`, new Uint8Array(4096).fill(i)).then(
          () => i,
          (error: Error) => {
            if (error instanceof BlobExistsError) return undefined;
            throw error;
          },
        ),
      );
      const winners = (await Promise.all(attempts)).filter((i) => i !== undefined);
      expect(winners).toHaveLength(1);
      expect((await blobs.getRange(`race-${round}`, 0, 1))[0]).toBe(winners[0]);
    }
  });
}
