import { describe, expect, it } from 'vitest';
import { collect } from '../../../../src/backends/cas/collect.ts';
import { BLOCK_SIZE, NODE_SIZE } from '../../../../src/backends/cas/format.ts';
import { Pace } from '../../../../src/backends/cas/pace.ts';
import { surveyStore } from '../../../../src/backends/cas/survey.ts';
import { SimFs } from '../sim-fs.ts';
import { makeGarbage } from '../tiny-store.ts';
import { BLOCK_COUNT, openRemote, openVolume, WAIT } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** Does something once, when the first record of a segment was read. */
class PaceWith extends Pace {
  #work: (() => Promise<void>) | undefined;

  constructor(work: () => Promise<void>) {
    super();
    this.#work = work;
  }

  override async wait(bytes: number): Promise<void> {
    if (bytes === NODE_SIZE) return;
    const work = this.#work;
    this.#work = undefined;
    await work?.();
  }
}

describe('a survey of a store that is kept in blobs', () => {
  it('does not read what is recycled as soon as it is uploaded', async () => {
    const blobs = new TraceBlobs();
    const store = await openRemote(new SimFs(), blobs, { delayMs: 60_000 });
    let goOn = () => {};
    const paused = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const client = await openVolume(store);
    await makeGarbage(client, BLOCK_COUNT, 3);
    await store.checkpoint();
    await expect.poll(() => store.replica?.state.lagBytes, WAIT).toBe(0);
    // The round that follows reads all segments that there are now.
    blobs.pause = () => paused;
    await store.checkpoint();
    await collect(store, { liveMax: 1 });
    const condemned = [...store.segments.table.values()].filter((one) => one.condemnedIn > 0);
    expect(condemned).not.toEqual([]);
    const isThere = () => condemned.some(({ number }) => store.segments.table.has(number));
    const pace = new PaceWith(async () => {
      expect(isThere()).toBe(true);
      goOn();
      await expect.poll(() => store.checkpoint().then(isThere), WAIT).toBe(false);
    });
    const survey = await surveyStore(store, pace);
    expect(isThere()).toBe(false);
    expect(survey.uniqueBytes).toBe(BLOCK_COUNT * BLOCK_SIZE);
    expect(survey.compressedBytes).toBe(BLOCK_COUNT * BLOCK_SIZE);
    for (const { number, usedBytes } of condemned) {
      expect(survey.segments).toContainEqual({ number, stream: 'data', usedBytes, liveBytes: 0 });
    }
    await store.close();
  });
});
