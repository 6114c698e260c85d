import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, FANOUT } from '../../../src/backends/cas/format.ts';
import { surveyStore } from '../../../src/backends/cas/survey.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const KIB = 1024;

describe('a survey of a store', () => {
  it('finds nothing in an empty one', async () => {
    const store = await openTiny(new SimFs());
    await store.openVolume('disk', BLOCK_SIZE);
    expect(await surveyStore(store)).toMatchObject({
      logicalBytes: 0,
      uniqueBytes: 0,
      compressedBytes: 0,
      liveBytes: 0,
    });
    await abandon(store);
  });

  it('counts blocks as often as they occur, and once', async () => {
    const store = await openTiny(new SimFs());
    const sizeBytes = 2 * FANOUT * BLOCK_SIZE;
    const client = clientOf(await store.openVolume('disk', sizeBytes));
    // Even seeds do not compress; the same ten twice, in different leaves.
    await client.write(0, blocksOf(2, 10, 2));
    await client.write((FANOUT + 3) * BLOCK_SIZE, blocksOf(2, 10, 2));
    await store.changes.snapshot('disk', 'kept');
    await store.changes.clone('kept', 'copy');
    const survey = await surveyStore(store);
    expect(survey).toMatchObject({
      logicalBytes: 3 * 20 * BLOCK_SIZE,
      uniqueBytes: 10 * BLOCK_SIZE,
      compressedBytes: 10 * BLOCK_SIZE,
    });
    const usedBytes = survey.segments.reduce((sum, segment) => sum + segment.usedBytes, 0);
    expect(usedBytes).toBe(store.stats().usedBytes);
    expect(survey.liveBytes + survey.garbageBytes).toBe(usedBytes);
    await abandon(store);
  });

  it('tells compression, and what deletion leaves as garbage', async () => {
    const store = await openTiny(new SimFs());
    const device = await store.openVolume('disk', 64 * BLOCK_SIZE);
    const client = clientOf(device);
    await client.write(0, blocksOf(1, 30, 2));
    await client.flush();
    const before = await surveyStore(store);
    expect(before.uniqueBytes).toBe(30 * BLOCK_SIZE);
    // 600 bytes of noise a block.
    expect(before.compressedBytes).toBeGreaterThan(30 * 600);
    expect(before.compressedBytes).toBeLessThan(30 * KIB);
    await device.close();
    await store.changes.deleteVolume('disk');
    const after = await surveyStore(store);
    expect(after).toMatchObject({ logicalBytes: 0, uniqueBytes: 0, compressedBytes: 0 });
    expect(after.garbageBytes).toBeGreaterThanOrEqual(before.garbageBytes + before.liveBytes);
    await abandon(store);
  });
});
