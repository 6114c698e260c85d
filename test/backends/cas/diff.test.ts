import { describe, expect, it } from 'vitest';
import { type BlockExtent, dataExtents, diffRoots } from '../../../src/backends/cas/diff.ts';
import { BLOCK_SIZE, FANOUT } from '../../../src/backends/cas/format.ts';
import { Pace } from '../../../src/backends/cas/pace.ts';
import type { CasStore } from '../../../src/backends/cas/store.ts';
import { findRoot } from '../../../src/backends/cas/walk.ts';
import { SimFs, seededRandom } from './sim-fs.ts';
import { abandon, blockOf, blocksOf, clientOf, openTiny } from './tiny-store.ts';

async function gather(extents: AsyncIterable<BlockExtent>): Promise<BlockExtent[]> {
  const gathered: BlockExtent[] = [];
  for await (const extent of extents) gathered.push(extent);
  return gathered;
}

async function diff(store: CasStore, before: string, after: string): Promise<BlockExtent[]> {
  const roots = [await findRoot(store, before), await findRoot(store, after)] as const;
  return await gather(diffRoots(store.reader, ...roots));
}

/** The runs of true values. */
function extentsOf(changed: readonly boolean[]): BlockExtent[] {
  const extents: BlockExtent[] = [];
  changed.forEach((isChanged, lba) => {
    const last = extents.at(-1);
    if (!isChanged) return;
    if (last !== undefined && last.firstLba + last.count === lba) {
      extents[extents.length - 1] = { firstLba: last.firstLba, count: last.count + 1 };
    } else extents.push({ firstLba: lba, count: 1 });
  });
  return extents;
}

describe('the difference of two roots', () => {
  it('is what a comparison of every block finds', async () => {
    const random = seededRandom(11);
    const blockCount = 3 * FANOUT + 5;
    const store = await openTiny(new SimFs());
    const client = clientOf(await store.openVolume('disk', blockCount * BLOCK_SIZE));
    const model = new Array<number>(blockCount).fill(0);
    const states: number[][] = [model.slice()];
    await store.changes.snapshot('disk', 's0');
    for (let round = 1; round <= 4; round++) {
      for (let i = 0; i < 30; i++) {
        const lba = Math.floor(random() * blockCount);
        const seed = Math.floor(random() * 4);
        model[lba] = seed;
        await client.write(lba * BLOCK_SIZE, blockOf(seed));
      }
      states.push(model.slice());
      await store.changes.snapshot('disk', `s${round}`);
    }
    for (const [a, before] of states.entries()) {
      for (const [b, after] of states.entries()) {
        const expected = extentsOf(before.map((seed, lba) => seed !== after[lba]));
        expect(await diff(store, `s${a}`, `s${b}`)).toEqual(expected);
      }
    }
    const data = await gather(dataExtents(store.reader, await findRoot(store, 's4')));
    expect(data).toEqual(extentsOf(model.map((seed) => seed !== 0)));
    const pace = new Pace({ signal: AbortSignal.abort(new Error('enough')) });
    const cancelled = gather(dataExtents(store.reader, await findRoot(store, 's4'), pace));
    await expect(cancelled).rejects.toThrow('enough');
    await abandon(store);
  });

  it('spans a volume that has grown by levels of its tree', async () => {
    const store = await openTiny(new SimFs());
    const small = await store.openVolume('disk', 4 * BLOCK_SIZE);
    await clientOf(small).write(0, blocksOf(1, 4));
    await store.changes.snapshot('disk', 'small');
    await store.openVolume('disk', FANOUT * FANOUT * 2 * BLOCK_SIZE);
    await store.changes.snapshot('disk', 'grown');
    expect(await diff(store, 'small', 'grown')).toEqual([]);
    const last = FANOUT * FANOUT * 2 - 1;
    const client = clientOf(await store.openVolume('disk', (last + 1) * BLOCK_SIZE));
    await client.write(last * BLOCK_SIZE, blockOf(9));
    await client.write(2 * BLOCK_SIZE, blockOf(10));
    await store.changes.snapshot('disk', 'changed');
    const changes = [
      { firstLba: 2, count: 1 },
      { firstLba: last, count: 1 },
    ];
    expect(await diff(store, 'small', 'changed')).toEqual(changes);
    expect(await diff(store, 'changed', 'small')).toEqual(changes);
    await abandon(store);
  });

  it('reads nothing where the hashes are the same', async () => {
    const store = await openTiny(new SimFs());
    const client = clientOf(await store.openVolume('disk', 8 * FANOUT * BLOCK_SIZE));
    for (let leaf = 0; leaf < 8; leaf++) {
      await client.write(leaf * FANOUT * BLOCK_SIZE, blockOf(leaf + 1));
    }
    await store.changes.snapshot('disk', 'before');
    await client.write(0, blockOf(100));
    await store.changes.snapshot('disk', 'after');
    let loads = 0;
    const loadRoot = (reference: Uint32Array) => {
      loads++;
      return store.reader.loadRoot(reference);
    };
    const reader = { loadRoot } as unknown as CasStore['reader'];
    const roots = [await findRoot(store, 'before'), await findRoot(store, 'after')] as const;
    expect(await gather(diffRoots(reader, ...roots))).toHaveLength(1);
    // A root and a leaf on either side.
    expect(loads).toBe(4);
    await abandon(store);
  });
});

describe('the names of a store', () => {
  it('are either of a volume or of a snapshot', async () => {
    const store = await openTiny(new SimFs());
    await store.openVolume('disk', BLOCK_SIZE);
    await store.changes.snapshot('disk', 'kept');
    await expect(store.changes.snapshot('disk', 'disk')).rejects.toThrow(
      'there is a volume disk already',
    );
    await expect(store.changes.clone('kept', 'kept')).rejects.toThrow(
      'there is a snapshot kept already',
    );
    await expect(store.openVolume('kept', BLOCK_SIZE)).rejects.toThrow('a snapshot kept already');
    await expect(findRoot(store, 'neither')).rejects.toThrow('no volume, snapshot or root neither');
    await abandon(store);
  });
});
