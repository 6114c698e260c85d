import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import { BLOCK_SIZE, FANOUT } from '../../src/backends/cas/format.ts';
import {
  DamageError,
  IncomingTransfer,
  Pace,
  whileNothingIsFreed,
} from '../../src/backends/cas/index.ts';
import { StoreActions } from '../../src/stores/store-actions.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from '../backends/cas/tiny-store.ts';

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

it('tells no more extents that differ than it may, nor any of a store that is damaged', async () => {
  const store = await openTiny(new SimFs());
  const volume = await store.openVolume('disk', BLOCKS * BLOCK_SIZE);
  await store.changes.snapshot('disk', 'empty');
  for (const lba of [3, 5]) await clientOf(volume).write(lba * BLOCK_SIZE, blockOf(1));
  const job = { kind: 'diff', before: 'empty', after: 'disk' } as const;
  const watch = { signal: new AbortController().signal, onProgress: () => {} };
  const compare = (extentsMax: number) => new StoreActions(store, { extentsMax }).run(job, watch);
  expect(await compare(2)).toHaveLength(2);
  await expect(compare(1)).rejects.toThrow('more than 1 extents');
  vi.spyOn(store, 'readOnly', 'get').mockReturnValue(true);
  await expect(compare(2)).rejects.toThrow('damaged, so what it has of its volumes');
  vi.restoreAllMocks();
  await store.close();
});

it('lists volumes as they are, and deletes a snapshot that was taken just now', async () => {
  const store = await openTiny(new SimFs());
  const actions = new StoreActions(store);
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  const rootOf = async () => (await actions.list()).volumes[0]?.root;
  const before = await rootOf();
  await client.write(0, blockOf(1));
  await client.flush();
  expect(await rootOf()).not.toBe(before);
  await store.changes.snapshot('disk', 'monday');
  expect(await actions.delete('monday')).toEqual({ name: 'monday', kind: 'snapshot' });
  await expect(actions.delete('monday')).rejects.toThrow('no volume or snapshot monday');
  await store.close();
});

it('ends a comparison that is cancelled, though all that differs is one extent', async () => {
  const store = await openTiny(new SimFs());
  const content = Buffer.alloc(8 * FANOUT * BLOCK_SIZE, blockOf(1));
  const volume = await store.openVolume('disk', content.length);
  await store.changes.snapshot('disk', 'empty');
  await clientOf(volume).write(0, content);
  const { reader } = store;
  const controller = new AbortController();
  const { loadRoot } = reader;
  const loading = vi.spyOn(reader, 'loadRoot').mockImplementation((reference) => {
    controller.abort(new Error('nobody wants it'));
    return loadRoot.call(reader, reference);
  });
  const job = { kind: 'diff', before: 'empty', after: 'disk' } as const;
  const watch = { signal: controller.signal, onProgress: () => {} };
  await expect(new StoreActions(store).run(job, watch)).rejects.toThrow('nobody wants it');
  expect(loading.mock.calls.length).toBeLessThan(3);
  await abandon(store);
});

it('does not wait for its turn when it is cancelled, nor lets others have theirs earlier', async () => {
  const store = await openTiny(new SimFs());
  let end = () => {};
  const first = new Promise<void>((resolve) => {
    end = resolve;
  });
  const others = [whileNothingIsFreed(store, new Pace(), () => first)];
  const controller = new AbortController();
  const watch = { signal: controller.signal, onProgress: () => {} };
  const cancelled = new StoreActions(store).run({ kind: 'usage' }, watch);
  const last = vi.fn(async () => {});
  others.push(whileNothingIsFreed(store, new Pace(), last));
  controller.abort(new Error('nobody wants it'));
  await expect(cancelled).rejects.toThrow('nobody wants it');
  await turn();
  expect(last).not.toHaveBeenCalled();
  end();
  await Promise.all(others);
  expect(last).toHaveBeenCalledOnce();
  await abandon(store);
});

it('says what helps when it meets damage', async () => {
  const store = await openTiny(new SimFs());
  await clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE)).write(0, blockOf(1));
  await store.checkpointWritten();
  vi.spyOn(store.reader, 'loadNode').mockRejectedValue(new DamageError('a hash'));
  const { signal } = new AbortController();
  const actions = new StoreActions(store);
  for (const work of [
    actions.run({ kind: 'usage' }, { signal, onProgress: () => {} }),
    actions.hashes(signal),
  ]) {
    await expect(work).rejects.toMatchObject({
      message: 'the store /store is damaged: there is no intact copy of a hash',
      remedy: expect.stringContaining('cas scrub'),
    });
  }
  await abandon(store);
});
