import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { askStatus } from '../support/control.ts';
import { describeWith, disposeAll } from '../support/tools.ts';
import { EFFORT, MIB, Setup, TOOLS, UNHARMED, type VerifyReport } from './setup.ts';
import { Mount } from './storage.ts';

vi.setConfig({ testTimeout: 120_000 * EFFORT });

const DISK_BYTES = 512 * MIB;
let setup: Setup;

async function serve(sizeBytes: number): Promise<void> {
  const cas = { size: sizeBytes, blob_store: { type: 'file', path: setup.join('small/store') } };
  await setup.start([{ shelf: 1, slot: 0, backend: 'cas', write_cache: true, cas }]);
}

async function status() {
  const { targets, stores } = await askStatus(setup.join('state/control.sock'));
  const [target, store] = [targets[0], stores[0]];
  if (target === undefined || store === undefined) throw new Error('there is none');
  return { writtenBytes: target.counters.writtenBytes, store };
}

function verify(...options: (string | number)[]): Promise<VerifyReport> {
  return setup.verify('1.0', '-q', 48, '-j', setup.join('journal'), ...options);
}

describeWith([...TOOLS, 'mount', 'umount'], 'a store on a small disk', () => {
  beforeEach(async () => {
    setup = await Setup.create();
    setup.own(await Mount.tmpfs(DISK_BYTES, setup.join('small')));
  });
  afterEach(() => disposeAll(setup));

  it('takes what is overwritten again and again for as long as it has room for what counts', async () => {
    await serve(64 * MIB);
    let writtenBytes = 0;
    while (writtenBytes < 1.5 * DISK_BYTES) {
      expect(await verify('-t', 3, '-w', 95)).toMatchObject(UNHARMED);
      ({ writtenBytes } = await status());
    }
    const { store } = await status();
    const collections = store.jobs.filter(({ kind }) => kind === 'collect');
    expect(collections).toContainEqual(expect.objectContaining({ state: 'done' }));
  });

  it('refuses what there is no room for, and keeps the rest', async () => {
    await serve(3 * DISK_BYTES);
    let failed = 0;
    while (failed === 0) {
      const report = await verify('-t', 3, '-w', 100, '-e');
      expect(report).toMatchObject({ wrong: 0, malformed: 0, unanswered: 0 });
      ({ failed } = report);
    }
    const { store } = await status();
    expect(store).toMatchObject({ failed: false, damaged: false });
    expect(await verify('-c')).toMatchObject(UNHARMED);
  });
});
