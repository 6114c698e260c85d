import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE, recordSizeMax } from '../../../src/backends/cas/format.ts';
import { LogRoom } from '../../../src/backends/cas/log-room.ts';
import type { Segments } from '../../../src/backends/cas/segments.ts';
import type { RecordStream } from '../../../src/backends/cas/stream.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { SimFs } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 1024;
/** No collection is begun for a write that has waited for so long. */
const HELD_MS_MAX = 90_000;
/** More than these show that there is no bound. */
const COLLECTIONS_MAX = 12;
/** As many as the client has requests. */
const AT_ONCE = 16;

/**
 * Fills a store whose disk is full, and whose collections say that they have made room.
 *
 * @param collectionMs that each takes
 * @param segmentsFreed for which there is room after each
 */
async function openFull(collectionMs: number, segmentsFreed: number) {
  const files = new SimFs();
  let collections = 0;
  let allowed = 0;
  const makeRoom = async (): Promise<boolean> => {
    vi.advanceTimersByTime(collectionMs);
    allowed = segmentsFreed;
    return ++collections < COLLECTIONS_MAX;
  };
  const store = await openTiny(files, { makeRoom, checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  await store.segments.spares.replenish();
  files.fault = (op) => (op === 'allocate' && allowed-- <= 0 ? 'ENOSPC' : undefined);
  return { store, client, count: () => collections };
}

describe('a write that waits for room', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('ends with an error when collections go on and on without making any', async () => {
    const { store, client, count } = await openFull(20_000, 0);
    const startMs = performance.now();
    const fill = async () => {
      for (let lba = 0; lba < BLOCKS; lba++)
        await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
    };
    await expect(fill()).rejects.toMatchObject({ code: 'noSpace' });
    expect(performance.now() - startMs).toBeGreaterThan(HELD_MS_MAX);
    expect(count()).toBe(Math.ceil(HELD_MS_MAX / 20_000));
    await abandon(store);
  });

  it('waits no longer because others that came before it were served', async () => {
    const { store, client, count } = await openFull(60_000, 1);
    // Fills what there is.
    for (let lba = 0; count() === 0; lba++)
      await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
    await client.flush();
    const before = count();
    const results = await Promise.allSettled(
      Array.from({ length: AT_ONCE }, (_, index) =>
        client.write((BLOCKS / 2 + 2 * index) * BLOCK_SIZE, blocksOf(5000 + 4 * index, 2, 2)),
      ),
    );
    const refused = results.filter(({ status }) => status === 'rejected').length;
    expect(count() - before).toBe(Math.ceil(HELD_MS_MAX / 60_000));
    expect(refused).toBeGreaterThan(0);
    expect(refused).toBeLessThan(AT_ONCE);
    await abandon(store);
  });
});

it('a write waits on when others take the room that was made for it', async () => {
  const store = await openTiny(new SimFs(), { checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  const { segments } = store;
  const { spares } = segments;
  const replenish = spares.replenish.bind(spares);
  const taken: Promise<unknown>[] = [];
  vi.spyOn(spares, 'replenish').mockImplementation(async (count = 0) => {
    await replenish(count);
    while (count > 0 && taken.length < 8 && spares.dataCount > 0)
      taken.push(segments.activate('moved'));
  });
  for (let lba = 0; lba < BLOCKS / 4; lba++)
    await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
  await Promise.all(taken);
  expect(taken).toHaveLength(8);
  await abandon(store);
});

it('room is promised as far as no record can leave a segment unused, and spares are kept for it', () => {
  const blockBytes = recordSizeMax(1, BLOCK_SIZE);
  const [slackBytes, usableBytes] = [10 * blockBytes, 20 * blockBytes];
  const spares = { dataCount: 0, count: 3 };
  const log = { roomBytes: slackBytes + blockBytes - 1 };
  const segments = { spares, slackBytes, usableBytes };
  const room = new LogRoom(segments as unknown as Segments, log as RecordStream);
  expect(room.hasRoomForBlock).toBe(false);
  log.roomBytes++;
  expect(room.hasRoomForBlock).toBe(true);
  spares.dataCount = 2;
  let count = 0;
  for (; room.hasRoomForBlock; count++) room.reserveBlock();
  expect(count).toBe(1 + 2 * 20);
  expect(room.promisedSpares).toBe(2);
});

it('room is reserved until the maps say what it was reserved for', async () => {
  const store = await openTiny(new SimFs());
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  await client.write(0, blocksOf(2, 4, 2));
  await client.flush();
  const { tree } = store.findVolume('disk') as Volume;
  let clear = (): void => {};
  const cleared = new Promise<void>((resolve) => {
    clear = resolve;
  });
  vi.spyOn(tree, 'clear').mockReturnValue(cleared);
  const trimmed = client.trim(0, 2 * BLOCK_SIZE);
  await expect.poll(() => tree.clear).toHaveBeenCalled();
  // Whoever finds no room now waits, as it may turn out that there is some.
  expect(store.writer.room.reservedBytes).toBeGreaterThan(0);
  clear();
  await trimmed;
  await client.flush();
  expect(store.writer.room.reservedBytes).toBe(0);
  await store.changes.snapshot('disk', 'now');
  expect(store.writer.room.reservedBytes).toBe(0);
  await abandon(store);
});

/** A disk whose writes end only once it is let go. */
class HaltedFs extends SimFs {
  letGo = (): void => {};
  #going: Promise<void> = Promise.resolve();

  halt(): void {
    this.#going = new Promise((resolve) => {
      this.letGo = resolve;
    });
  }

  override async open(path: string, create: boolean): Promise<StoreFile> {
    const file = await super.open(path, create);
    const { write } = file;
    file.write = async (...args) => {
      await this.#going;
      await write(...args);
    };
    return file;
  }
}

it('no more waits to be logged than a flush can be expected to wait for, however much memory there is', async () => {
  const files = new HaltedFs();
  const [queuedMax, count] = [8, 64];
  const store = await openTiny(files, { cacheBytes: 2 * count * BLOCK_SIZE, queuedMax });
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  await store.segments.spares.replenish(8);
  files.halt();
  let taken = 0;
  const writing = (async () => {
    for (; taken < count; taken++) await client.write(taken * BLOCK_SIZE, blockOf(2 * taken + 2));
  })();
  await expect.poll(() => store.writer.isFull).toBe(true);
  // Time for more to be taken, if it were.
  for (let turn = 0; turn < 100; turn++) await nextTurn();
  expect(taken).toBeGreaterThanOrEqual(queuedMax);
  expect(taken).toBeLessThan(count / 2);
  files.letGo();
  await writing;
  await client.flush();
  const content = await client.read(0, count * BLOCK_SIZE);
  expect(content.equals(blocksOf(2, count, 2))).toBe(true);
  await abandon(store);
});
