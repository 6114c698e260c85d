import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BlobUnreachableError } from '../../../../src/backends/cas/blob-store.ts';
import { PartFetcher } from '../../../../src/backends/cas/remote/part-fetcher.ts';
import { TraceBlobs } from './trace-blobs.ts';

const WAIT_MS = 200;
/** More than ten times what is asked for at once. */
const COUNT = 100;

async function fetcherOf(count: number) {
  const blobs = new TraceBlobs();
  const names = Array.from({ length: count }, (_, i) => `segment-${i}`);
  for (const name of names) await blobs.put(name, new Uint8Array(1));
  const fetcher = new PartFetcher({ blobs, onTrouble: () => {} }, WAIT_MS);
  const taken = new Set<string>();
  const fetchAll = () =>
    names.map((name) => fetcher.fetch(name, 1, async () => void taken.add(name)));
  return { blobs, taken, fetchAll };
}

describe('what fetches parts', () => {
  it('lets nobody wait for longer because many wait, and goes on afterwards', async () => {
    const { blobs, taken, fetchAll } = await fetcherOf(COUNT);
    blobs.beforeRead = () => new Promise(() => {});
    const startMs = performance.now();
    for (const end of await Promise.allSettled(fetchAll())) {
      expect(end).toMatchObject({ reason: expect.any(BlobUnreachableError) });
    }
    // One after the other, eight at a time, it would be twelve times as long.
    expect(performance.now() - startMs).toBeLessThan(5 * WAIT_MS);
    expect(taken.size).toBe(0);
    blobs.beforeRead = async () => {};
    await Promise.all(fetchAll());
    expect(taken.size).toBe(COUNT);
  });

  it('waits for all of a slow service, as long as something comes', async () => {
    const { blobs, taken, fetchAll } = await fetcherOf(COUNT);
    let mostAtOnce = 0;
    let atOnce = 0;
    blobs.beforeRead = async () => {
      mostAtOnce = Math.max(mostAtOnce, ++atOnce);
      await delay(WAIT_MS / 4);
      atOnce--;
    };
    await Promise.all(fetchAll());
    expect(taken.size).toBe(COUNT);
    expect(mostAtOnce).toBe(8);
  });
});
