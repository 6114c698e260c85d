/** Sectors of the log's segment that cannot be read: they may have held something, or never did. */
import { describe, expect, it } from 'vitest';
import type { StoreFile } from '../../../src/backends/cas/file-layer.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { segmentName } from '../../../src/backends/cas/segments.ts';
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
async function crashed() {
  const files = new SimFs();
  const store = await openTiny(files, { checkpointBytes: 1 << 30 });
  const client = clientOf(await store.openVolume('disk', SIZE));
  await client.write(0, blocksOf(2, BLOCKS, 2));
  await client.flush();
  const { segment, offset } = store.log.position;
  await abandon(store);
  const names = files.paths();
  const disk = {
    inodes: names.map((path) => files.contentOf(path).slice()),
    names: new Map(names.map((path, number) => [path, number])),
  };
  return { disk, path: `/store/segments/${segmentName(segment)}`, endPage: offset / BLOCK_SIZE };
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

  it('keeps a store from opening where its log goes on or ends', async () => {
    const { disk, path, endPage } = await crashed();
    for (const page of [0, endPage - 1, endPage]) {
      await expect(openTiny(new WornFs(disk, path, [page]))).rejects.toThrow('EIO');
    }
  });
});
