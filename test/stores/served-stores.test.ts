import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { FileLayer } from '../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../src/backends/cas/format.ts';
import { openStorePaths, shareCasStore } from '../../src/backends/cas/index.ts';
import { REMOTE_DEFAULTS } from '../../src/backends/cas/remote/remote-options.ts';
import { ServedStores } from '../../src/stores/served-stores.ts';
import { WAIT } from '../backends/cas/remote/remote-store.ts';
import { TraceBlobs } from '../backends/cas/remote/trace-blobs.ts';
import { SimFs } from '../backends/cas/sim-fs.ts';
import { blockOf, clientOf, TINY } from '../backends/cas/tiny-store.ts';
import { target } from '../cli/top/statuses.ts';

describe('the status of a store that is kept in blobs', () => {
  it('tells whether the blob store or the local disk is to blame', async () => {
    const files = new SimFs();
    const blobs = new TraceBlobs();
    const remote = { ...REMOTE_DEFAULTS, blobs, delayMs: 1 };
    const { store, release } = await shareCasStore('/served', { ...TINY, files, remote });
    const stores = new ServedStores({
      findTarget: async () => undefined,
      whilePaused: (_target, work) => work(),
      log: pino({ enabled: false }),
    });
    const client = clientOf(await store.openVolume('v', BLOCK_SIZE));
    const status = async () => (await stores.status())[0]?.blobStore;

    blobs.fail = () => 'before';
    await client.write(0, blockOf(2));
    await client.flush();
    await expect
      .poll(status, WAIT)
      .toMatchObject({ unreachable: 'the connection was refused', localDamage: null });
    blobs.fail = () => undefined;
    await expect
      .poll(status, WAIT)
      .toEqual({ lagBytes: 0, lagSeconds: 0, unreachable: null, localDamage: null });

    files.fault = (op) => (op === 'read' ? 'EIO' : undefined);
    await client.write(0, blockOf(4));
    await client.flush();
    const damage = expect.stringMatching(/^segment \d+ cannot be read/);
    await expect.poll(status, WAIT).toMatchObject({ unreachable: null, localDamage: damage });
    files.fault = () => undefined;
    await expect
      .poll(status, WAIT)
      .toEqual({ lagBytes: 0, lagSeconds: 0, unreachable: null, localDamage: null });
    await stores.close();
    await release();
  });
});

describe('the status of a store whose file system hangs', () => {
  it('is told all the same, without the room there, which is asked for once', async () => {
    const files: FileLayer = new SimFs();
    const { release } = await shareCasStore('/served', { ...TINY, files });
    const stores = new ServedStores({
      findTarget: async () => undefined,
      whilePaused: (_target, work) => work(),
      log: pino({ enabled: false }),
    });
    let end = (_bytes: number): void => {};
    // What the store itself asks for, of its directory of segments, is not meant.
    const { freeBytes } = files;
    const asked = vi.fn(() => {
      return new Promise<number>((resolve) => {
        end = resolve;
      });
    });
    files.freeBytes = (path) => (path === '/served' ? asked() : freeBytes.call(files, path));
    const statuses = Promise.all([stores.status(), stores.status()]);
    const told = [expect.objectContaining({ path: '/served', freeBytes: null })];
    expect(await statuses).toEqual([told, told]);
    expect(asked).toHaveBeenCalledOnce();
    end(1);
    files.freeBytes = freeBytes;
    await expect.poll(async () => (await stores.status())[0]?.freeBytes).toBeGreaterThan(1);
    await stores.close();
    await release();
  });
});

describe('a rollback', () => {
  it('is refused when the volume came into use while it waited for its turn', async () => {
    const { store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() });
    await store.openVolume('e1.0', BLOCK_SIZE);
    const idle = target('e1.0');
    const used = { ...idle, lastAccess: new Date().toISOString() };
    const found = [idle, used];
    const stores = new ServedStores({
      findTarget: async () => found.shift(),
      whilePaused: (_target, work) => work(),
      log: pino({ enabled: false }),
    });
    const served = stores.find('/served');
    await served?.snapshot('e1.0', 'monday');
    const { signal } = new AbortController();
    const rollBack = (force: boolean) => served?.rollback('e1.0', 'monday', force, signal);
    await expect(rollBack(false)).rejects.toThrow(/e1.0 in use: .* ago/);
    found.push(idle, used);
    await expect(rollBack(true)).resolves.toMatchObject({ name: 'e1.0' });
    await stores.close();
    await release();
  });

  it('is not done when whoever asked for it has gone while it waited for its turn', async () => {
    const { store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() });
    await store.openVolume('e1.0', BLOCK_SIZE);
    const asking = new AbortController();
    const stores = new ServedStores({
      findTarget: async () => target('e1.0'),
      whilePaused: (_target, work) => {
        asking.abort(new Error('the client is gone'));
        return work();
      },
      log: pino({ enabled: false }),
    });
    const served = stores.find('/served');
    await served?.snapshot('e1.0', 'monday');
    const rolledBack = vi.spyOn(store.changes, 'rollback');
    const rollingBack = served?.rollback('e1.0', 'monday', true, asking.signal);
    await expect(rollingBack).rejects.toThrow('the client is gone');
    expect(rolledBack).not.toHaveBeenCalled();
    await stores.close();
    await release();
  });
});

describe('work on a store whose storage hangs', () => {
  const sleep = timers.setTimeout;

  afterEach(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });

  it('keeps no server from stopping, and the store is closed when it ends', async () => {
    const { store, release } = await shareCasStore('/served', { ...TINY, files: new SimFs() });
    const messages: string[] = [];
    const write = (line: string) => {
      const { store: path, msg } = JSON.parse(line);
      messages.push(`${path}: ${msg}`);
    };
    const stores = new ServedStores({
      findTarget: async () => undefined,
      whilePaused: (_target, work) => work(),
      log: pino({ level: 'warn' }, { write }),
    });
    let end = () => {};
    const checkpoint = vi.spyOn(store, 'checkpoint').mockImplementationOnce(() => {
      return new Promise((resolve) => {
        end = resolve;
      });
    });
    stores.find('/served')?.startJob({ kind: 'scrub' });
    await expect.poll(() => checkpoint.mock.calls.length).toBe(1);
    // The time that it has.
    vi.spyOn(timers, 'setTimeout').mockImplementation((ms, value, options) =>
      sleep(ms === 10_000 ? 10 : ms, value, options),
    );
    syncBuiltinESMExports();
    await stores.close();
    expect(messages).toEqual(['/served: work on a store goes on']);
    await release();
    expect(openStorePaths()).toEqual(['/served']);
    end();
    await stores.whenClosed();
    expect(openStorePaths()).toEqual([]);
    expect(messages).toHaveLength(1);
  });
});
