import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { collect } from '../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import { scrub } from '../../../src/backends/cas/scrub.ts';
import type { StoreOptions } from '../../../src/backends/cas/store-options.ts';
import { rootOf } from './oracle.ts';
import { CrashWalk, SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 300;
const SIZE = BLOCKS * BLOCK_SIZE;

describe('the root of a volume', () => {
  it('is what its content alone gives, whatever was written on the way', async () => {
    const store = await openTiny(new SimFs());
    const client = clientOf(await store.openVolume('disk', SIZE));
    const content = Buffer.alloc(SIZE);
    const random = seededRandom(3);
    for (let step = 0; step < 80; step++) {
      const sector = Math.floor(random() * (SIZE / 512 - 8));
      const data = blockOf(step).subarray(0, 512 * (1 + (step % 8)));
      await client.write(sector * 512, data);
      data.copy(content, sector * 512);
      if (step % 9 === 0) await client.flush();
    }
    await client.trim(0, 130 * BLOCK_SIZE);
    content.fill(0, 0, 130 * BLOCK_SIZE);
    await client.write(BLOCK_SIZE, blockOf(5));
    blockOf(5).copy(content, BLOCK_SIZE);
    expect((await client.read(0, SIZE)).equals(content)).toBe(true);
    const { root } = await store.changes.snapshot('disk', 'now');
    expect(root[0]).toBe(rootOf(content).toString('hex'));

    const other = clientOf(await store.openVolume('copy', SIZE));
    await other.write(0, content);
    expect((await store.changes.snapshot('copy', 'same')).root[0]).toBe(root[0]);
    await store.close();
  });

  it('is zero for a volume of zeroes', async () => {
    const store = await openTiny(new SimFs());
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blocksOf(1, 3));
    await client.write(0, Buffer.alloc(3 * BLOCK_SIZE));
    expect((await store.changes.snapshot('disk', 'empty')).root[0]).toBe('0'.repeat(64));
    await store.close();
  });
});

describe('the history of a volume', () => {
  it('keeps snapshots, clones and rollbacks apart, over a restart too', async () => {
    const files = new SimFs();
    let store = await openTiny(files);
    const device = await store.openVolume('disk', SIZE);
    const client = clientOf(device);
    await client.write(0, blocksOf(1, 20));
    await store.changes.snapshot('disk', 'one');
    await client.write(0, blocksOf(101, 20));
    await store.changes.clone('one', 'clone');
    const clone = clientOf(await store.openVolume('clone', SIZE));
    await clone.write(0, blockOf(500));
    await expect(store.changes.rollback('disk', 'one')).rejects.toThrow('in use');
    await store.close();

    store = await openTiny(files);
    const read = async (name: string) =>
      clientOf(await store.openVolume(name, SIZE)).read(0, 20 * BLOCK_SIZE);
    expect((await read('disk')).equals(blocksOf(101, 20))).toBe(true);
    const cloned = await read('clone');
    expect(cloned.subarray(0, BLOCK_SIZE).equals(blockOf(500))).toBe(true);
    expect(cloned.subarray(BLOCK_SIZE).equals(blocksOf(2, 19))).toBe(true);
    const snapshot = await store.openSnapshot('one');
    expect(snapshot.capabilities.readOnly).toBe(true);
    expect((await clientOf(snapshot).read(0, 20 * BLOCK_SIZE)).equals(blocksOf(1, 20))).toBe(true);
    await store.changes.rollback('disk', 'one', true);
    expect((await read('disk')).equals(blocksOf(1, 20))).toBe(true);
    await store.close();
  });

  it('gives a volume that has grown the content of an older, smaller snapshot', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const large = 4096 * 100_000;
    const small = clientOf(await store.openVolume('disk', SIZE));
    await small.write(0, blocksOf(1, 20));
    await store.changes.snapshot('disk', 'small');
    const grown = clientOf(await store.openVolume('disk', large));
    await grown.write(0, blocksOf(101, 20));
    await grown.write(large - 4096, blockOf(7));
    await store.changes.rollback('disk', 'small', true);
    const expectRolledBack = async (client: typeof grown) => {
      expect((await client.read(0, 20 * BLOCK_SIZE)).equals(blocksOf(1, 20))).toBe(true);
      expect((await client.read(large - 4096, 4096)).equals(Buffer.alloc(4096))).toBe(true);
    };
    await expectRolledBack(grown);
    await store.close();
    const again = await openTiny(files);
    await expectRolledBack(clientOf(await again.openVolume('disk', large)));
    await collect(again);
    await again.close();
  });

  it('grows a volume and refuses to shrink it', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    await clientOf(await store.openVolume('disk', 4096 * 100)).write(0, blockOf(1));
    const grown = clientOf(await store.openVolume('disk', 4096 * 100_000));
    await grown.write(4096 * 99_999, blockOf(2));
    await store.checkpoint();
    expect((await grown.read(0, 4096)).equals(blockOf(1))).toBe(true);
    await expect(store.openVolume('disk', 4096)).rejects.toThrow('more than');
    await store.close();
    const again = await openTiny(files);
    const client = clientOf(await again.openVolume('disk', 4096 * 100_000));
    expect((await client.read(4096 * 99_999, 4096)).equals(blockOf(2))).toBe(true);
    expect((await client.read(0, 4096)).equals(blockOf(1))).toBe(true);
    await again.close();
  });

  it('shares blocks between volumes', async () => {
    const store = await openTiny(new SimFs());
    await clientOf(await store.openVolume('a', SIZE)).write(0, blocksOf(2, 30, 2));
    await store.checkpoint();
    const before = store.stats().usedBytes;
    await clientOf(await store.openVolume('b', SIZE)).write(64 << 10, blocksOf(2, 30, 2));
    await store.checkpoint();
    expect(store.stats().usedBytes - before).toBeLessThan(30 * BLOCK_SIZE * 0.6);
    await store.close();
  });

  it('gives back what deleted snapshots and volumes held, and nothing else', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let round = 0; round < 8; round++) {
      await client.write(0, blocksOf(2 + 200 * round, 40, 2));
      await client.write(100 * BLOCK_SIZE, blocksOf(3 + 200 * round, 10, 2));
      await store.changes.snapshot('disk', `s${round}`);
    }
    const kept = blocksOf(2 + 200 * 3, 40, 2);
    for (let round = 0; round < 8; round++)
      if (round !== 3) await store.changes.deleteSnapshot(`s${round}`);
    const before = store.stats().segmentCount;
    let writing = true;
    const writer = (async () => {
      // Duplicates of what is about to be collected.
      for (let round = 0; writing; round = (round + 1) % 8) {
        await client.write(200 * BLOCK_SIZE, blocksOf(2 + 200 * round, 20, 2));
        await client.flush();
        await new Promise(setImmediate);
      }
    })();
    const report = await collect(store, { liveMax: 0.9 });
    writing = false;
    await writer;
    expect(report.freedSegments).toBeGreaterThan(before / 3);
    const last = await client.read(200 * BLOCK_SIZE, BLOCK_SIZE);
    expect(
      Array.from({ length: 8 }, (_, r) => blockOf(2 + 200 * r)).some((b) => b.equals(last)),
    ).toBe(true);
    const snapshot = clientOf(await store.openSnapshot('s3'));
    expect((await snapshot.read(0, 40 * BLOCK_SIZE)).equals(kept)).toBe(true);
    expect((await client.read(0, 40 * BLOCK_SIZE)).equals(blocksOf(2 + 200 * 7, 40, 2))).toBe(true);
    expect((await scrub(store)).damage).toEqual([]);
    await store.close();
    const again = await openTiny(files);
    const reread = clientOf(await again.openSnapshot('s3'));
    expect((await reread.read(0, 40 * BLOCK_SIZE)).equals(kept)).toBe(true);
    await again.close();
  });
});

describe('a snapshot', () => {
  /** What a power cut leaves now. */
  function cut(files: SimFs): SimFs {
    const walk = new CrashWalk(files.base, seededRandom(1));
    for (const entry of files.trace) walk.step(entry);
    return new SimFs(walk.crash('none'));
  }

  it('is there after a crash once it is confirmed, though no checkpoint was possible since', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blocksOf(1, 150));
    await store.checkpoint();
    files.fault = (op, path) => (op === 'write' && path.endsWith('superblock') ? 'EIO' : undefined);
    const content = Buffer.alloc(SIZE);
    blocksOf(1, 150).copy(content);
    const taken = new Map<string, Buffer>();
    const snapshot = async (name: string) => {
      const { root } = await store.changes.snapshot('disk', name);
      expect(root[0]).toBe(rootOf(content).toString('hex'));
      taken.set(name, Buffer.from(content));
    };
    for (const name of ['unchanged', 'one', 'two', 'three']) {
      if (name !== 'unchanged') {
        await client.write(0, blockOf(name.length + 1000));
        blockOf(name.length + 1000).copy(content);
        await client.trim(128 * BLOCK_SIZE, 3 * BLOCK_SIZE);
        content.fill(0, 128 * BLOCK_SIZE, 131 * BLOCK_SIZE);
        await client.write(200 * BLOCK_SIZE, blockOf(name.length));
        blockOf(name.length).copy(content, 200 * BLOCK_SIZE);
      }
      await snapshot(name);
    }
    await snapshot('same');
    await expect(store.changes.snapshot('disk', 'same')).rejects.toThrow(
      'there is a snapshot same already',
    );
    await client.write(0, blockOf(7000));
    await client.flush();
    await expect(store.checkpoint()).rejects.toThrow('EIO');
    await abandon(store);

    for (const state of [cut(files), cut(cut(files))]) {
      const again = await openTiny(state);
      expect(again.problems).toEqual([]);
      for (const [name, expected] of taken) {
        const read = await clientOf(await again.openSnapshot(name)).read(0, SIZE);
        expect(read.equals(expected)).toBe(true);
        const { root } = again.snapshots.find((entry) => entry.name === name) ?? {};
        expect(root?.[0]).toBe(rootOf(expected).toString('hex'));
      }
      const disk = clientOf(await again.openVolume('disk', SIZE));
      expect((await disk.read(0, BLOCK_SIZE)).equals(blockOf(7000))).toBe(true);
      await collect(again);
      expect((await scrub(again)).damage).toEqual([]);
      await again.close();
    }
  });

  it('does not wait for the checkpoint that is under way', async () => {
    const files = new SimFs();
    const open = files.open.bind(files);
    let gate = Promise.resolve();
    files.open = async (path, create) => {
      const file = await open(path, create);
      if (!path.endsWith('superblock')) return file;
      return { ...file, write: (...args) => gate.then(() => file.write(...args)) };
    };
    const store = await openTiny(files);
    const client = clientOf(await store.openVolume('disk', SIZE));
    await client.write(0, blocksOf(1, 150));
    const events: string[] = [];
    let release = () => {};
    gate = new Promise((resolve) => {
      release = resolve;
    });
    const checkpoint = store.checkpoint().then(() => events.push('checkpoint'));
    await client.write(0, blockOf(1000));
    await store.changes.snapshot('disk', 'now');
    events.push('snapshot');
    release();
    await checkpoint;
    expect(events).toEqual(['snapshot', 'checkpoint']);
    const snapshot = clientOf(await store.openSnapshot('now'));
    expect((await snapshot.read(0, BLOCK_SIZE)).equals(blockOf(1000))).toBe(true);
    await store.close();
  });

  it('finds few changed nodes to hash, however little their blocks take of the log', async () => {
    const store = await openTiny(new SimFs(), { checkpointNodes: 8, checkpointBytes: 2 ** 30 });
    const large = 4096 * 128 * 64;
    const client = clientOf(await store.openVolume('disk', large));
    const { generation } = store;
    // The same block in 64 leaves.
    for (let leaf = 0; leaf < 64; leaf++) {
      await client.write(leaf * 128 * BLOCK_SIZE, blockOf(1));
      await client.flush();
      await nextTurn();
    }
    expect(store.generation).toBeGreaterThan(generation + 3);
    await store.close();
  });

  it('can be opened, cloned, gone back to and deleted at once', async () => {
    const store = await openTiny(new SimFs());
    const client = clientOf(await store.openVolume('disk', SIZE));
    const read = async (device: Parameters<typeof clientOf>[0]) =>
      (await clientOf(device).read(0, 150 * BLOCK_SIZE)).equals(blocksOf(1, 150));
    for (const next of ['open', 'clone', 'rollback', 'delete'] as const) {
      await client.write(0, blocksOf(1, 150));
      await store.changes.snapshot('disk', next);
      await client.write(0, blocksOf(1001, 150));
      if (next === 'open') expect(await read(await store.openSnapshot(next))).toBe(true);
      if (next === 'clone') {
        await store.changes.clone(next, 'copy');
        expect(await read(await store.openVolume('copy', SIZE))).toBe(true);
      }
      if (next === 'rollback') {
        await store.changes.rollback('disk', next, true);
        expect((await client.read(0, 150 * BLOCK_SIZE)).equals(blocksOf(1, 150))).toBe(true);
      }
      if (next === 'delete') {
        await store.changes.deleteSnapshot(next);
        await expect(store.openSnapshot(next)).rejects.toThrow('no volume, snapshot or root');
      }
    }
    await store.close();
  });
});

describe('work beside others', () => {
  /** A store with much garbage, and a snapshot `s3` with 40 blocks from seed 602 on. */
  async function openWithGarbage(options: Partial<StoreOptions> = {}) {
    const store = await openTiny(new SimFs(), options);
    const client = clientOf(await store.openVolume('disk', SIZE));
    for (let round = 0; round < 8; round++) {
      await client.write(0, blocksOf(2 + 200 * round, 40, 2));
      await store.changes.snapshot('disk', `s${round}`);
    }
    for (let round = 0; round < 8; round++)
      if (round !== 3) await store.changes.deleteSnapshot(`s${round}`);
    return store;
  }

  it('finds no damage where a collection has freed what is being scrubbed', async () => {
    // There is no room for new files: those of freed segments get other content.
    const store = await openWithGarbage({ spareCount: 48, capacityBytes: 48 * (64 << 10) });
    const client = clientOf(await store.openVolume('disk', SIZE));
    const scrubbing = scrub(store, { pace: new Pace({ bytesPerSecondMax: 1 << 20 }) });
    expect((await collect(store, { liveMax: 0.9 })).freedSegments).toBeGreaterThan(5);
    for (let round = 20; round < 26; round++) await client.write(0, blocksOf(200 * round, 40, 2));
    await client.flush();
    const { damage, doneBytes } = await scrubbing;
    expect(damage).toEqual([]);
    expect(doneBytes).toBeGreaterThan(0);
    await store.close();
  });

  it('loses nothing when a collection is cancelled, and the next one does the rest', async () => {
    const store = await openWithGarbage();
    const controller = new AbortController();
    const pace = new Pace({ signal: controller.signal });
    const cancelled = collect(store, {
      ...{ liveMax: 0.9, pace },
      onProgress: (phase) => phase === 'moving' && controller.abort(new Error('enough')),
    });
    await expect(cancelled).rejects.toThrow('enough');
    const snapshot = clientOf(await store.openSnapshot('s3'));
    const kept = blocksOf(2 + 200 * 3, 40, 2);
    expect((await snapshot.read(0, 40 * BLOCK_SIZE)).equals(kept)).toBe(true);
    expect((await collect(store, { liveMax: 0.9 })).freedSegments).toBeGreaterThan(2);
    expect((await snapshot.read(0, 40 * BLOCK_SIZE)).equals(kept)).toBe(true);
    expect((await scrub(store)).damage).toEqual([]);
    await store.close();
  });

  it('does not delete a snapshot that is open', async () => {
    const store = await openWithGarbage();
    const device = await store.openSnapshot('s3');
    await expect(store.changes.deleteSnapshot('s3')).rejects.toThrow('snapshot s3 is in use');
    await device.close();
    await store.changes.deleteSnapshot('s3');
    expect(store.snapshots).toEqual([]);
    await store.close();
  });

  it('keeps to its pace, unless there is a reason for haste', async () => {
    const spend = async (isUrgent: boolean, bytesPerSecondMax: number) => {
      const pace = new Pace({ bytesPerSecondMax, isUrgent: () => isUrgent });
      const startMs = performance.now();
      for (let i = 0; i < 20; i++) await pace.spend(20);
      return performance.now() - startMs;
    };
    // What it may catch up on counts, too.
    expect(await spend(false, 1000)).toBeGreaterThan(250);
    // Seconds less than it would take otherwise.
    expect(await spend(true, 20)).toBeLessThan(10_000);
    // Nor is it made up for.
    let isUrgent = true;
    const pace = new Pace({ bytesPerSecondMax: 20, isUrgent: () => isUrgent });
    await pace.spend(1000);
    isUrgent = false;
    const startMs = performance.now();
    await pace.spend(1);
    expect(performance.now() - startMs).toBeLessThan(10_000);
  });
});
