import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SlotState } from '../../../src/backends/cas/block-cache.ts';
import { BLOCK_SIZE, RECORD_ALIGNMENT } from '../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, openTiny } from './tiny-store.ts';

const NO_SLOTS = new Int32Array(0);

/** Hands a record to the writer of a store's log. */
function write(
  store: CasStore,
  ingestedCount: number,
  mapped: Promise<void>,
  slots = NO_SLOTS,
): Promise<void> {
  const { log } = store.writer;
  const buffer = log.takeBuffer() as Uint8Array;
  return log.write(buffer, RECORD_ALIGNMENT, slots, ingestedCount, () => mapped);
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await nextTurn();
}

describe('the writer of the log', () => {
  it('ends a flush when the maps of all that it covers are done, and no later', async () => {
    const store = await openTiny(new SimFs());
    await store.log.advance();
    const ended: string[] = [];
    const flush = (name: string, ticket: number): void => {
      store.writer.log.flush(ticket, ticket, (status) => {
        if (status === BlockStatus.ok) ended.push(name);
      });
    };
    let map = (): void => {};
    const mapped = new Promise<void>((resolve) => {
      map = resolve;
    });
    await Promise.all([write(store, 1, Promise.resolve()), write(store, 2, Promise.resolve())]);
    flush('what is in the maps', 2);
    const last = write(store, 3, mapped);
    flush('everything', 3);
    await turns();
    expect(ended).toEqual(['what is in the maps']);
    map();
    await last;
    await turns();
    expect(ended).toEqual(['what is in the maps', 'everything']);
    await abandon(store);
  });

  it('fails when maps cannot be changed', async () => {
    const failures: string[] = [];
    const onFailed = ({ message }: Error) => failures.push(message);
    const store = await openTiny(new SimFs(), { onFailed });
    await store.log.advance();
    const ended: BlockStatus[] = [];
    const failed = write(store, 1, Promise.reject(new Error('no such leaf')));
    store.writer.log.flush(1, 1, (status) => ended.push(status));
    await expect(failed).rejects.toThrow('no such leaf');
    await turns();
    expect(ended).toEqual([BlockStatus.ioError]);
    expect(failures).toEqual(['no such leaf']);
    await abandon(store);
  });

  it('keeps a block in memory until the last record that has it is written', async () => {
    const store = await openTiny(new SimFs());
    const volume = await store.changes.provide('disk', BLOCK_SIZE);
    await store.log.advance();
    const { cache } = store;
    const slot = cache.take(volume, 0, SlotState.writing);
    cache.sequence[slot] = store.log.sequence + 1;
    let map = (): void => {};
    const mapped = new Promise<void>((resolve) => {
      map = resolve;
    });
    const slots = Int32Array.of(slot);
    await write(store, 1, Promise.resolve(), slots);
    const last = write(store, 2, mapped, slots);
    await turns();
    expect(cache.state[slot]).toBe(SlotState.writing);
    map();
    await last;
    await turns();
    expect(cache.state[slot]).toBe(SlotState.clean);
    await abandon(store);
  });

  it('lets go of who waits for records that will not be written', async () => {
    const store = await openTiny(new SimFs());
    await store.log.advance();
    void write(store, 1, new Promise(() => {}));
    const waiting = store.writer.log.written();
    store.writer.log.fail(new Error('another server has the store'));
    await waiting;
  });
});
