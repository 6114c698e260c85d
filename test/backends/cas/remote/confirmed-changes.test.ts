/** Changes of volumes and snapshots that are confirmed: with `durability = "remote"` no disk is needed for them. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { StoreActions } from '../../../../src/stores/store-actions.ts';
import { SimFs } from '../sim-fs.ts';
import { blockOf, blocksOf } from '../tiny-store.ts';
import { openRemote, openVolume, ownerOf, readSeeds, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** A store with a volume that has been changed since its snapshot, and a copy of that. */
async function openChanged(durability: 'local' | 'remote', onTrouble = () => {}) {
  const blobs = new TraceBlobs();
  const files = new SimFs();
  const store = await openRemote(files, blobs, { durability, delayMs: 60_000, onTrouble });
  const client = await openVolume(store);
  await client.write(0, blocksOf(1, 8));
  await store.changes.snapshot('v', 'old');
  await store.changes.clone('old', 'copy');
  await client.write(0, blockOf(100));
  await client.flush();
  return { store, blobs };
}

interface Found {
  readonly volumes: string[];
  readonly snapshots: string[];
  readonly seed: number;
}

async function describeStore(store: CasStore): Promise<Found> {
  await store.whenSnapshotsStored();
  const volumes = [...store.volumes].map(({ name }) => name);
  const snapshots = store.snapshots.map(({ name }) => name);
  return { volumes, snapshots, seed: (await readSeeds(store))[0] as number };
}

/** What a server finds in blobs that has lost its disk. */
async function recovered(blobs: TraceBlobs): Promise<Found> {
  const store = await openRemote(new SimFs(), blobs, { takeOver: await ownerOf(blobs) });
  const found = await describeStore(store);
  await store.close();
  return found;
}

const CHANGES: [string, (actions: StoreActions) => Promise<unknown>, Partial<Found>][] = [
  ['a snapshot', (actions) => actions.snapshot('v', 'new'), { snapshots: ['old', 'new'] }],
  ['a clone', (actions) => actions.clone('old', 'other'), { volumes: ['v', 'copy', 'other'] }],
  ['a clone of a volume', (actions) => actions.clone('v', 'w'), { volumes: ['v', 'copy', 'w'] }],
  ['a rollback', rollBack, { seed: 1 }],
  ['the deletion of a volume', (actions) => actions.delete('copy'), { volumes: ['v'] }],
  ['the deletion of a snapshot', (actions) => actions.delete('old'), { snapshots: [] }],
];
const BEFORE: Found = { volumes: ['v', 'copy'], snapshots: ['old'], seed: 100 };

async function rollBack(actions: StoreActions): Promise<void> {
  await actions.rollback('v', 'old', true);
  await actions.confirm();
}

afterEach(() => {
  vi.useRealTimers();
});

describe.each(CHANGES)('%s', (_, change, difference) => {
  it('is in the blob store when it is confirmed, if that is wanted', async () => {
    const { store, blobs } = await openChanged('remote');
    blobs.pause = () => delay(20);
    await change(new StoreActions(store));
    const past = blobs.before(blobs.trace.length);
    expect(await recovered(past)).toEqual({ ...BEFORE, ...difference });
    await store.close();
  });

  it('fails while the blob store does not answer, and is made up for', async () => {
    const { store, blobs } = await openChanged('remote');
    blobs.fail = () => 'before';
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let isRefused = false;
    const refused = expect(
      change(new StoreActions(store)).finally(() => {
        isRefused = true;
      }),
    ).rejects.toMatchObject({
      code: 'AOE_STARTUP',
      message: expect.stringContaining('in the blob store yet: the connection was refused'),
    });
    while (!isRefused) {
      await new Promise(setImmediate);
      if (store.replica?.state.unreachable !== undefined) vi.advanceTimersByTime(50);
    }
    await refused;
    vi.useRealTimers();
    expect(await describeStore(store)).toEqual({ ...BEFORE, ...difference });
    blobs.fail = () => undefined;
    await store.close();
    expect(await recovered(blobs)).toEqual({ ...BEFORE, ...difference });
  });

  it('waits for the local disk alone otherwise', async () => {
    const { store, blobs } = await openChanged('local');
    blobs.fail = () => 'before';
    await change(new StoreActions(store));
    blobs.fail = () => undefined;
    await store.close();
  });
});

describe('a change that waits for the blob store', () => {
  it('lets others go on', async () => {
    const { store, blobs } = await openChanged('remote');
    let goOn = () => {};
    const paused = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    blobs.pause = () => paused;
    const snapshot = new StoreActions(store).snapshot('v', 'new');
    await expect.poll(() => store.snapshotCount, WAIT).toBe(2);
    const client = await openVolume(store);
    expect((await client.read(0, BLOCK_SIZE)).equals(blockOf(100))).toBe(true);
    await store.openVolume('late', BLOCK_SIZE);
    goOn();
    await snapshot;
    await store.close();
  });
});
