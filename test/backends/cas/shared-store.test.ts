import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  REMOTE_DEFAULTS,
  type RemoteOptions,
} from '../../../src/backends/cas/remote/remote-options.ts';
import {
  openStorePaths,
  shareCasStore,
  whenStoreClosed,
  whenUnusedStoresClosed,
  withOpenStore,
} from '../../../src/backends/cas/shared-store.ts';
import { FileIo } from '../../../src/backends/file-io.ts';
import { openBackend } from '../../../src/backends/index.ts';
import { TempDirectory } from '../../support/tools.ts';
import { TraceBlobs } from './remote/trace-blobs.ts';
import { SimFs } from './sim-fs.ts';
import { TINY } from './tiny-store.ts';

const PATH = '/shared';

describe('a store that is shared', () => {
  afterEach(() => expect(openStorePaths()).toEqual([]));

  const disk = () => {
    const files = new SimFs();
    const blobs = new TraceBlobs();
    return (keys: Partial<RemoteOptions> = {}) =>
      shareCasStore(PATH, { ...TINY, files, remote: { ...REMOTE_DEFAULTS, blobs, ...keys } });
  };
  const visitFor = (ms: number) => withOpenStore(PATH, () => sleep(ms));

  it('is one for all that want it kept alike', async () => {
    const open = disk();
    const [first, second] = await Promise.all([open(), open()]);
    expect(second.store).toBe(first.store);
    await first.release();
    expect(openStorePaths()).toEqual([PATH]);
    await second.release();
  });

  it('is opened by who comes after one that could not', async () => {
    const files = new SimFs();
    files.fault = (op) => (op === 'create' ? 'EIO' : undefined);
    await expect(shareCasStore(PATH, { ...TINY, files })).rejects.toThrow('EIO');
    files.fault = () => undefined;
    const { release } = await shareCasStore(PATH, { ...TINY, files });
    await release();
  });

  it('is not gone on with when it shall be kept otherwise', async () => {
    const open = disk();
    const first = await open();
    const place = { endpoint: undefined, region: undefined, bucket: 'b', prefix: '' };
    const changes: Partial<RemoteOptions>[] = [
      { durability: 'remote' },
      { cacheBytes: 1 << 30 },
      { lagBytesMax: 1 << 30 },
      { location: { type: 's3', ...place } },
    ];
    for (const keys of changes) {
      await expect(open(keys)).rejects.toMatchObject({
        message: `other targets have the store ${PATH} open`,
        remedy: 'drain all targets of the store first',
      });
    }
    await first.release();
  });

  it('has the memory for its index that the configuration gives it', async () => {
    await using directory = await TempDirectory.create();
    const io = new FileIo(1);
    const path = directory.join('store');
    const open = (indexMemoryBytes: number | undefined) =>
      openBackend(
        {
          ...{ type: 'cas', sizeBytes: 1 << 20, root: undefined },
          blobStore: { type: 'file', path, indexMemoryBytes },
        },
        {
          ...{ io, name: 'e1.0', readOnly: false, controlPath: '' },
          makeRoom: async () => false,
          onMissing: () => {},
          onTrouble: () => {},
        },
      );
    const limit = () => withOpenStore(path, async ({ options }) => options.indexBytesMax);
    const little = await open(16 << 20);
    expect(await limit()).toEqual({ result: 16 << 20 });
    await expect(open(32 << 20)).rejects.toThrow('other targets have the store');
    await little.close();
    const usual = await open(undefined);
    expect(await limit()).toEqual({ result: 1 << 30 });
    await usual.close();
    io.close();
  });

  it('is not gone on with while a job works on it', async () => {
    const open = disk();
    const first = await open();
    const job = visitFor(1500);
    await first.release();
    await expect(open({ durability: 'remote' })).rejects.toMatchObject({
      message: expect.stringMatching(`^a job, .* has the store ${PATH} open$`),
      remedy: expect.stringContaining('cancel it'),
    });
    // What was refused can be undone meanwhile.
    const restored = await open();
    expect(restored.store).toBe(first.store);
    await job;
    await restored.release();
    const changed = await open({ durability: 'remote' });
    expect(changed.store.options.remote).toMatchObject({ durability: 'remote' });
    await changed.release();
  });

  it('is opened anew once a visit of some milliseconds has ended', async () => {
    const open = disk();
    const first = await open();
    const visit = visitFor(100);
    await first.release();
    const changed = await open({ durability: 'remote' });
    expect(changed.store).not.toBe(first.store);
    await visit;
    await changed.release();
  });

  it('is waited for as long when the clock is set', async () => {
    const open = disk();
    const first = await open();
    const visit = visitFor(100);
    await first.release();
    vi.useFakeTimers({ toFake: ['Date'] });
    const closed = whenStoreClosed(PATH);
    vi.setSystemTime(Date.now() + 3_600_000);
    await closed.finally(() => vi.useRealTimers());
    await visit;
  });

  it('is closed when the last visit ends, which a stop can wait for, but for no user', async () => {
    const open = disk();
    const first = await open();
    await whenUnusedStoresClosed();
    const visit = visitFor(100);
    await first.release();
    expect(openStorePaths()).toEqual([PATH]);
    await whenUnusedStoresClosed();
    const second = await open();
    expect(second.store).not.toBe(first.store);
    await visit;
    await second.release();
  });

  it('is opened again only when the last visit has closed it', async () => {
    const open = disk();
    const first = await open();
    const visit = visitFor(1);
    await first.release();
    // Its files are locked until it is closed.
    while (openStorePaths().length > 0) await sleep(0);
    const second = await open();
    expect(second.store).not.toBe(first.store);
    await visit;
    await second.release();
    await whenStoreClosed(PATH);
  });
});
