import { expect, it, vi } from 'vitest';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { DamageError } from '../../../src/backends/cas/reader.ts';
import type { Volume } from '../../../src/backends/cas/volume.ts';
import { BlockOp, type BlockRequest, SECTOR_SIZE } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';
import { CommittedDevice } from '../../../src/core/committed-device.ts';
import { OrderedDevice } from '../../../src/core/ordered-device.ts';
import { Requester } from '../../core/hand-device.ts';
import { SimFs } from './sim-fs.ts';
import { blocksOf, clientOf, openTiny } from './tiny-store.ts';

const BLOCKS = 20;
const SECTORS_PER_BLOCK = BLOCK_SIZE / SECTOR_SIZE;

it('a trim of several ranges ends without another request', async () => {
  const store = await openTiny(new SimFs());
  const device = await store.openVolume('disk', BLOCKS * BLOCK_SIZE);
  const client = clientOf(device);
  await client.write(0, blocksOf(2, BLOCKS, 2));
  const layers = new OrderedDevice(new CommittedDevice(device, false, 50, () => {}));
  const requester = new Requester(1);
  const trim = requester.make(BlockOp.trim, 0, BLOCKS * SECTORS_PER_BLOCK);
  const parts = [2, 9, 15];
  trim.nextPart = function (this: BlockRequest) {
    const block = parts.shift();
    if (block === undefined) return false;
    this.offset = block * BLOCK_SIZE;
    this.length = 2 * BLOCK_SIZE;
    return true;
  };
  layers.submit(trim);
  layers.kick();
  await expect.poll(() => requester.statusOf(trim)).toBe(BlockStatus.ok);
  const expected = blocksOf(2, BLOCKS, 2);
  for (const block of [2, 9, 15]) expected.fill(0, block * BLOCK_SIZE, (block + 2) * BLOCK_SIZE);
  expect(await client.read(0, BLOCKS * BLOCK_SIZE)).toEqual(expected);
  await store.close();
});

it('a trim of what the map is damaged of is refused, and the store goes on', async () => {
  const store = await openTiny(new SimFs());
  const client = clientOf(await store.openVolume('disk', BLOCKS * BLOCK_SIZE));
  const { tree } = store.findVolume('disk') as Volume;
  vi.spyOn(tree, 'clear').mockRejectedValueOnce(new DamageError('a hash'));
  await expect(client.trim(0, 2 * BLOCK_SIZE)).rejects.toThrow('ioError');
  await client.trim(0, 2 * BLOCK_SIZE);
  await client.flush();
  await store.close();
});
