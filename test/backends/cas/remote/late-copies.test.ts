/**
 * Copies of requests that reach the service long after the first of them was answered, when others
 * were done: of all the names that are put and removed none may mean something else by then.
 */
import { describe, expect, it } from 'vitest';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { SimFs, seededRandom } from '../sim-fs.ts';
import { abandon, blockOf } from '../tiny-store.ts';
import { openRemote, openVolume, ownerOf, readSeeds, recoverSeeds } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

interface LiveOptions {
  readonly onChange?: (count: number) => void;
  readonly onFlushed?: () => void;
}

/** More entries than there are between two that say everything. */
const MANY_ENTRIES = 70;

describe.each([
  ['with conditions', true],
  ['without conditions', false],
])('late copies of requests, %s', (_, knowsConditions) => {
  function newBlobs(): TraceBlobs {
    const blobs = new TraceBlobs();
    blobs.knowsConditions = knowsConditions;
    return blobs;
  }

  /** A life of a store, with everything that puts or removes blobs. */
  async function live(
    blobs: TraceBlobs,
    seed: number,
    { onChange = () => {}, onFlushed = () => {} }: LiveOptions = {},
  ): Promise<void> {
    const remote = { durability: 'remote', takeOver: await ownerOf(blobs) } as const;
    const store = await openRemote(new SimFs(), blobs, remote);
    const client = await openVolume(store);
    blobs.onChange = onChange;
    for (let step = 0; step < 12; step++) {
      await client.write((step % 5) * BLOCK_SIZE, blockOf(seed + step));
      await client.flush();
      if (step % 6 === 5) await collect(store, { liveMax: 1 });
      onFlushed();
    }
    await abandon(store);
    blobs.onChange = () => {};
  }

  it('change nothing of what is stored', async () => {
    const blobs = newBlobs();
    const moments: number[] = [];
    for (let life = 0; life < 3; life++) {
      await live(blobs, life * 100, { onFlushed: () => moments.push(blobs.trace.length) });
    }
    for (const moment of moments) {
      const expected = await recoverSeeds(blobs.before(moment));
      const last = moment === moments.at(-1);
      for (let copy = 0; copy < moment; copy += last ? 1 : 7) {
        const past = blobs.before(moment);
        past.repeat(blobs.trace[copy]);
        expect(await recoverSeeds(past), `request ${copy} after ${moment}`).toEqual(expected);
      }
    }
  });

  it('do not harm a store that is open', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const random = seededRandom(seed);
      const blobs = newBlobs();
      // While it is opened one may look as if another server were about to do so: then it gives up.
      const onChange = (count: number) => blobs.repeat(blobs.trace[Math.floor(random() * count)]);
      for (let life = 0; life < 3; life++) await live(blobs, life * 100, { onChange });
      expect((await recoverSeeds(blobs)).slice(0, 5)).toEqual([210, 211, 207, 208, 209]);
    }
  });

  it('do not give a store back to a server that it was taken from', async () => {
    const blobs = newBlobs();
    const remote = { durability: 'remote' } as const;
    const store = await openRemote(new SimFs(), blobs, remote);
    const client = await openVolume(store);
    await client.write(0, blockOf(1));
    await client.flush();
    const ours = blobs.trace.length;

    const rival = await openRemote(new SimFs(), blobs, {
      ...remote,
      takeOver: await ownerOf(blobs),
    });
    const other = await openVolume(rival);
    for (let seed = 2; seed < 2 + MANY_ENTRIES; seed++) {
      await other.write(0, blockOf(seed));
      await other.flush();
    }
    for (const request of blobs.trace.slice(0, ours)) blobs.repeat(request);

    await client.write(0, blockOf(1000));
    await expect(client.flush()).rejects.toThrow();
    await other.write(BLOCK_SIZE, blockOf(2000));
    await other.flush();
    expect((await readSeeds(rival)).slice(0, 2)).toEqual([1 + MANY_ENTRIES, 2000]);
    await abandon(store);
    await abandon(rival);
    expect((await recoverSeeds(blobs)).slice(0, 2)).toEqual([1 + MANY_ENTRIES, 2000]);
  });

  it('of parts that were removed are removed after the next start', async () => {
    const blobs = newBlobs();
    await live(blobs, 0);
    const gone = blobs.trace.filter(
      ({ op, name }) => op === 'put' && name.startsWith('segment-') && !blobs.blobs.has(name),
    );
    expect(gone.length).toBeGreaterThan(3);
    for (const request of gone) blobs.repeat(request);
    await recoverSeeds(blobs);
    const left = gone.filter(({ name }) => blobs.blobs.has(name));
    expect(left).toEqual([]);
  });
});
