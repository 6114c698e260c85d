import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { segmentName } from '../../../src/backends/cas/segments.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BATCH = 4;
const SIZE = 8 * BATCH * BLOCK_SIZE;
const OPTIONS = { segmentBytes: 1 << 20, batchBlocks: BATCH, checkpointBytes: 1 << 30 };

async function open(files: SimFs) {
  const store = await openTiny(files, OPTIONS);
  expect(store.problems).toEqual([]);
  return { store, client: clientOf(await store.openVolume('disk', SIZE)) };
}

describe('what a power cut has left behind the end of a log', () => {
  it('does not come back when the log has grown up to there and ended with a checkpoint', async () => {
    const files = new SimFs();
    const first = await open(files);
    await first.client.write(0, blocksOf(2, BATCH, 2));
    await first.client.flush();
    const { segment, offset } = first.store.log.position;
    await first.client.write(0, blocksOf(1002, 2 * BATCH, 2));
    await first.client.flush();
    await abandon(first.store);
    // As if that flush had not ended: of its two records the disk has the second one only.
    const path = `/store/segments/${segmentName(segment)}`;
    files.contentOf(path).fill(0, offset, offset + BLOCK_SIZE);

    const next = await open(files);
    expect(next.store.log.position).toMatchObject({ segment, offset });
    const data = blocksOf(2002, BATCH, 2);
    await next.client.write(BATCH * BLOCK_SIZE, data);
    await next.store.close();

    const last = await open(files);
    const found = await last.client.read(BATCH * BLOCK_SIZE, data.length);
    expect(found.equals(data)).toBe(true);
    await last.store.close();
  });
});
