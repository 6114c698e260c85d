import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { IncomingTransfer } from '../../src/backends/cas/index.ts';
import { StoreActions } from '../../src/stores/store-actions.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { blocksOf, clientOf, openTiny } from '../backends/cas/tiny-store.ts';

const BLOCKS = 50;
const BYTES_PER_SECOND = 500_000;
/** Less than it takes at that rate, as a little may be caught up on. */
const MS_MIN = 200;

it('sends and receives no faster because writes wait for room', async () => {
  const store = await openTiny(new SimFs());
  const other = await openTiny(new SimFs());
  const options = { bytesPerSecondMax: BYTES_PER_SECOND, isUrgent: () => true };
  const { signal } = new AbortController();
  const content = blocksOf(1, BLOCKS);
  const device = await store.openVolume('disk', content.length);
  await clientOf(device).write(0, content);
  await device.close();

  const chunks: Uint8Array[] = [];
  const sendMs = performance.now();
  for await (const chunk of new StoreActions(store, options).send('disk', {}, signal)) {
    chunks.push(chunk);
  }
  expect(performance.now() - sendMs).toBeGreaterThan(MS_MIN);

  const transfer = await IncomingTransfer.open(Readable.from(chunks));
  const receiveMs = performance.now();
  await new StoreActions(other, options).receive('monday', transfer, signal);
  expect(performance.now() - receiveMs).toBeGreaterThan(MS_MIN);
  await Promise.all([store.close(), other.close()]);
});

it('finds what differs in what was last written, though nobody flushed it', async () => {
  const store = await openTiny(new SimFs());
  const volume = await store.openVolume('disk', BLOCKS * BLOCK_SIZE);
  await store.changes.snapshot('disk', 'empty');
  await clientOf(volume).write(3 * BLOCK_SIZE, blocksOf(1, 2));
  const job = { kind: 'diff', before: 'empty', after: 'disk' } as const;
  const watch = { signal: new AbortController().signal, onProgress: () => {} };
  expect(await new StoreActions(store).run(job, watch)).toEqual([{ lba: 24, sectors: 16 }]);
  await store.close();
});
