/** Sectors of the log's segment that cannot be read: they may have held something, or never did. */
import { describe, expect, it } from 'vitest';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { type Segment, segmentName } from '../../../src/backends/cas/segments.ts';
import { type DiskState, SimFs } from './sim-fs.ts';
import { abandon, blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 3;
const SIZE = 40 * BLOCK_SIZE;

/** A disk with pages of one file that cannot be read before they are written. */
class WornFs extends SimFs {
  readonly #path: string;
  readonly #pages: Set<number>;

  constructor(base: DiskState, path: string, pages: readonly number[]) {
    super(base);
    this.#path = path;
    this.#pages = new Set(pages);
  }

  override async open(path: string, create: boolean): Promise<StoreFile> {
    const file = await super.open(path, create);
    if (path !== this.#path) return file;
    const pages = this.#pages;
    const { read, write } = file;
    const covers = (page: number, position: number, length: number) =>
      page * BLOCK_SIZE < position + length && (page + 1) * BLOCK_SIZE > position;
    file.read = async (bytes, position) => {
      for (const page of pages) {
        if (!covers(page, position, bytes.length)) continue;
        throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
      }
      return read(bytes, position);
    };
    file.write = async (bytes, length, position, sync) => {
      for (const page of pages) if (covers(page, position, length)) pages.delete(page);
      await write(bytes, length, position, sync);
    };
    return file;
  }
}

/** What a crash has left of a store, and where its log ends. */
async function crashed({ blocks = BLOCKS } = {}) {
  const files = new SimFs();
  const store = await openTiny(files, { checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(2, blocks, 2));
  await client.flush();
  const { segment, offset } = store.log.position;
  await abandon(store);
  const path = `/store/segments/${segmentName(segment)}`;
  return { disk: diskOf(files), path, endPage: offset / BLOCK_SIZE };
}

function diskOf(files: SimFs): DiskState {
  const names = files.paths();
  return {
    inodes: names.map((path) => files.contentOf(path).slice()),
    names: new Map(names.map((path, number) => [path, number])),
  };
}

describe('a page that a power cut has left unreadable', () => {
  it.each([1, 2, 5])(
    'does not keep a store from opening %i pages behind its log',
    async (behind) => {
      const { disk, path, endPage } = await crashed();
      const files = new WornFs(disk, path, [endPage + behind]);
      const store = await openTiny(files);
      expect(store.problems).toEqual([]);
      const client = clientOf(await store.openVolume('disk', SIZE));
      expect((await client.read(0, BLOCKS * BLOCK_SIZE)).equals(blocksOf(2, BLOCKS, 2))).toBe(true);
      await client.write(0, blocksOf(1002, 30, 2));
      await client.flush();
      expect((await client.read(0, 30 * BLOCK_SIZE)).equals(blocksOf(1002, 30, 2))).toBe(true);
      await store.close();
    },
  );

  it('leaves a store for reading only where its log goes on or ends', async () => {
    const { disk, path, endPage } = await crashed();
    for (const page of [0, endPage - 1, endPage]) {
      const store = await openTiny(new WornFs(disk, path, [page]));
      expect(store.readOnly).toBe(true);
      expect(store.problems[0]).toContain('cannot be read at byte');
      const client = clientOf(await store.openVolume('disk', SIZE));
      const expected =
        page === endPage ? blocksOf(2, BLOCKS, 2) : Buffer.alloc(BLOCKS * BLOCK_SIZE);
      expect((await client.read(0, expected.length)).equals(expected)).toBe(true);
      await store.close();
    }
  });

  it('does not matter where the log has gone on in the next segment', async () => {
    const { disk, path } = await crashed({ blocks: 35 });
    const before = path.replace(/\d+(?=\.seg)/, (last) =>
      String(Number(last) - 1).padStart(8, '0'),
    );
    const content = disk.inodes[disk.names.get(before) as number] as Uint8Array;
    const usedBytes = content.findLastIndex((byte) => byte !== 0) + 1;
    const endPage = Math.ceil(usedBytes / BLOCK_SIZE);
    expect(endPage * BLOCK_SIZE).toBeLessThan(content.length);
    const store = await openTiny(new WornFs(disk, before, [endPage]));
    expect(store.problems).toEqual([]);
    await store.close();
  });

  it('leaves a store for reading only where its log may go on in the next segment', async () => {
    const { disk, path } = await crashed({ blocks: 35 });
    const store = await openTiny(new WornFs(disk, path, [0]));
    expect(store.readOnly).toBe(true);
    await store.close();
  });

  it('leaves a store with the catalog before where it hides the last one', async () => {
    const files = new SimFs();
    const store = await openTiny(files);
    await store.openVolume('disk', SIZE);
    await store.checkpoint();
    const { number } = store.nodes.segment as Segment;
    const endPage = store.nodes.position.offset / BLOCK_SIZE;
    await abandon(store);
    const path = `/store/segments/${segmentName(number)}`;
    const worn = await openTiny(new WornFs(diskOf(files), path, [endPage - 1]));
    expect(worn.problems[0]).toContain('the catalog of generation');
    expect(worn.findVolume('disk')?.sizeBytes).toBe(SIZE);
    await worn.close();
  });
});
