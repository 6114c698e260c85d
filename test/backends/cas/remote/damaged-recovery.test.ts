import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../../src/backends/cas/format.ts';
import { partName } from '../../../../src/backends/cas/remote/blob-names.ts';
import type { Journal } from '../../../../src/backends/cas/remote/journal.ts';
import type { Part } from '../../../../src/backends/cas/remote/journal-entry.ts';
import type { CasStore } from '../../../../src/backends/cas/store.ts';
import { SimFs } from '../sim-fs.ts';
import { abandon, blockOf, clientOf } from '../tiny-store.ts';
import { BLOCK_COUNT, copyOf, openRemote, openVolume, ownerOf, readSeeds } from './remote-store.ts';
import { TraceBlobs } from './trace-blobs.ts';

/** Flushes so many blocks, each a part of its own or with those before it. */
async function openWritten(count: number) {
  const blobs = new TraceBlobs();
  const files = new SimFs();
  const store = await openRemote(
    files,
    blobs,
    { durability: 'remote' },
    { checkpointBytes: 1 << 30 },
  );
  const client = await openVolume(store);
  for (let lba = 0; lba < count; lba++) {
    await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
    await client.flush();
  }
  return { blobs, files, store };
}

/** The segments of the log that have parts, in their order, with the last part of each. */
function logParts({ journal, logStart, segments }: CasStore): [number, Part][] {
  return [...(journal as Journal).image.segments]
    .filter(([number]) => segments.table.get(number)?.stream === 'data')
    .filter(([number]) => number >= logStart.segment)
    .sort(([one], [other]) => one - other)
    .map(([number, parts]) => [number, parts.at(-1) as Part]);
}

async function readBlock(store: CasStore, lba: number): Promise<number> {
  const client = clientOf(await store.openVolume('v', BLOCK_COUNT * BLOCK_SIZE, true));
  const block = await client.read(lba * BLOCK_SIZE, BLOCK_SIZE);
  const seed = block.readUInt32LE(0);
  expect(block.equals(blockOf(seed))).toBe(true);
  return seed;
}

describe('a store whose disk is lost, with a damaged blob', () => {
  for (const [where, index] of [
    ['end', -1],
    ['middle', 0],
  ] as const) {
    it(`is read up to the damage when that is at the ${where} of its log`, async () => {
      const { blobs, store } = await openWritten(BLOCK_COUNT);
      const [number, part] = logParts(store).at(index) as [number, Part];
      expect(logParts(store).length).toBeGreaterThan(1);
      await abandon(store);
      const [from, to] = part;
      const bytes = blobs.blobs.get(partName(number, part)) as Uint8Array;
      // In the block of the last record.
      bytes.fill(1, to - from - 7000, to - from - 6000);
      const files = new SimFs();
      const takeOver = await ownerOf(blobs);
      for (const remote of [{ takeOver }, {}]) {
        const again = await openRemote(files, blobs, remote);
        expect(again.problems.at(-1)).toMatch(
          new RegExp(`^the log is damaged in the blob store: segment ${number}, byte \\d+$`),
        );
        expect(await readBlock(again, 0)).toBe(2);
        expect(await readBlock(again, BLOCK_COUNT - 1)).toBe(0);
        await again.close();
      }
    });
  }

  it('is out of date when it comes from a copy, though the end of the log is damaged', async () => {
    const { blobs, files, store } = await openWritten(2);
    const copy = copyOf(files);
    const client = await openVolume(store);
    for (let lba = 2; lba < BLOCK_COUNT; lba++) {
      await client.write(lba * BLOCK_SIZE, blockOf(2 * lba + 2));
      await client.flush();
    }
    const [number, part] = logParts(store).at(-1) as [number, Part];
    await abandon(store);
    (blobs.blobs.get(partName(number, part)) as Uint8Array).fill(1, 5000, 6000);
    await expect(openRemote(copy, blobs)).rejects.toThrow('is out of date');
  });

  for (const [what, at] of [
    ['magic', 0],
    ['epoch', 40],
  ] as const) {
    it(`comes back whole when only the ${what} of heads behind the records is damaged`, async () => {
      const { blobs, store } = await openWritten(BLOCK_COUNT);
      for (let i = 0; i < 3; i++) await store.checkpoint();
      await store.close();
      for (const [number, parts] of (store.journal as Journal).image.segments) {
        for (const part of parts) {
          const [from, to] = part;
          const heads = (blobs.blobs.get(partName(number, part)) as Uint8Array).subarray(to - from);
          heads[at] = 0xff;
        }
      }
      const onFailed = ({ message }: Error) => expect.unreachable(message);
      const again = await openRemote(new SimFs(), blobs, { cacheBytes: 0 }, { onFailed });
      await again.indexed;
      expect(await readSeeds(again)).toEqual(
        Array.from({ length: BLOCK_COUNT }, (_, lba) => 2 * lba + 2),
      );
      await again.close();
    });
  }

  for (const [step, op, path] of [
    ['claimed', 'write', 'owner'],
    ['restored', 'allocate', '.seg'],
  ] as const) {
    it(`tells that the disk has no room for it to be ${step}`, async () => {
      const { blobs, store } = await openWritten(2);
      await store.close();
      const files = new SimFs();
      files.fault = (name, at) => (name === op && at.includes(path) ? 'ENOSPC' : undefined);
      await expect(openRemote(files, blobs)).rejects.toMatchObject({
        message: expect.stringContaining('cannot open the store /store: ENOSPC'),
        remedy: expect.stringContaining('free room'),
      });
      files.fault = () => undefined;
      const again = await openRemote(files, blobs);
      expect((await readSeeds(again)).slice(0, 2)).toEqual([2, 4]);
      await again.close();
    });
  }
});
