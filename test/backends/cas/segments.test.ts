import { describe, expect, it } from 'vitest';
import type { FileLayer, StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { SimFs } from './sim-fs.ts';
import { openTiny } from './tiny-store.ts';

/** Is no descriptor of this process. */
const NO_DESCRIPTOR = 999_999;

/** A disk whose segments, while it is told to, have descriptors that cannot be duplicated. */
class WornFs extends SimFs {
  isWorn = false;
  openCount = 0;

  override async open(...args: Parameters<FileLayer['open']>): Promise<StoreFile> {
    const file = await super.open(...args);
    if (!args[0].endsWith('.seg')) return file;
    this.openCount++;
    const close = async () => {
      this.openCount--;
    };
    return this.isWorn ? { ...file, source: NO_DESCRIPTOR, close } : { ...file, close };
  }
}

describe('the segments of a store', () => {
  it('do not have one that the engine cannot read', async () => {
    const files = new WornFs();
    const store = await openTiny(files);
    const { segments } = store;
    const { openCount } = files;
    const numbers = [...segments.table.keys()];
    files.isWorn = true;
    await expect(segments.activate('moved')).rejects.toMatchObject({ code: 'EBADF' });
    expect([...segments.table.keys()]).toEqual(numbers);
    expect(files.openCount).toBe(openCount);
    files.isWorn = false;
    await segments.activate('moved');
    expect(segments.table.size).toBe(numbers.length + 1);
    await store.close();
  });

  it.each(['rename', 'syncDirectory', 'open'])('keep a spare of which the %s fails', async (op) => {
    const files = new WornFs();
    const store = await openTiny(files);
    const { segments } = store;
    // Goes on in the background otherwise.
    await segments.spares.replenish();
    const { fileCount, count } = segments.spares;
    const paths = files.paths().sort();
    let isWorn = true;
    files.fault = (failing) => (isWorn && failing === op ? 'EIO' : undefined);
    files.isWorn = op === 'open';
    const failed = segments.activate('moved');
    await expect(failed).rejects.toThrow();
    expect(segments.spares.fileCount).toBe(fileCount);
    expect(segments.spares.count).toBe(count);
    isWorn = files.isWorn = false;
    expect(files.paths().sort()).toEqual(paths);
    await segments.activate('moved');
    expect(segments.spares.fileCount).toBe(fileCount);
    expect(segments.spares.count).toBe(count - 1);
    await store.close();
  });

  it('are filled to their end at most, whatever signs the names in a catalog are of', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    await store.openVolume('disk', 1 << 20);
    for (let i = 0; i < 20; i++)
      await store.changes.snapshot('disk', `${'\u76d8'.repeat(600)}${i}`);
    for (let i = 0; i < 4; i++) await store.checkpoint();
    const { segmentBytes } = store.segments;
    for (const path of files.paths().filter((name) => name.endsWith('.seg'))) {
      expect(files.contentOf(path)).toHaveLength(segmentBytes);
    }
    await store.close();
  });

  it('have numbers that none had before, and spares have names of their own, after a start, too', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const { number } = await store.segments.activate('moved');
    await store.segments.recycle(number);
    await store.close();
    const again = await openTiny(files);
    expect(again.segments.nextNumber).toBeGreaterThan(number);
    const { spares } = again.segments;
    await spares.replenish(8);
    expect(files.paths().filter((path) => path.includes('spare-'))).toHaveLength(spares.count);
    await again.close();
  });

  it('are removed again whose removal a crash has undone', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const { number } = await store.segments.activate('moved');
    await store.segments.recycle(number);
    await store.close();
    const path = store.segments.pathOf(number);
    await files.open(path, true);
    await (await openTiny(files)).close();
    expect(files.paths()).not.toContain(path);
  });

  it('are counted while they are made of spares', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    const { segments } = store;
    await segments.spares.replenish();
    const { fileCount } = segments.spares;
    const counts: number[] = [];
    files.fault = (op) => {
      if (op === 'rename') counts.push(segments.spares.fileCount);
      return undefined;
    };
    await segments.activate('moved');
    expect(counts).toEqual([fileCount]);
    await store.close();
  });
});
