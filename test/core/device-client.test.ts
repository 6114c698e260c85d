import { beforeEach, describe, expect, it } from 'vitest';
import { BlockOp } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { HandDevice } from './hand-device.ts';

const SLOT_BYTES = 1024;
const SLOT_COUNT = 2;

const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('DeviceClient', () => {
  let device: HandDevice;
  let client: DeviceClient;

  beforeEach(() => {
    device = new HandDevice(64);
    const memory = { bytes: Buffer.alloc(SLOT_COUNT * SLOT_BYTES), region: 0 };
    client = new DeviceClient(device, memory, SLOT_BYTES, 10);
  });

  /** Ends requests, the youngest first, until nothing is left. */
  async function run<T>(work: Promise<T>): Promise<T> {
    const isDone = work.then(
      () => true,
      () => true,
    );
    while ((await Promise.race([isDone, settle()])) !== true) {
      const request = device.pending.at(-1);
      if (request !== undefined) device.end(request);
    }
    return work;
  }

  it('reads what it has written, in parts that end in any order', async () => {
    const data = Buffer.from(Array.from({ length: 5120 }, (_, index) => index % 251));
    await run(client.write(512, data));
    expect((await run(client.read(512, 5120))).equals(data)).toBe(true);
    expect(await run(client.read(0, 512))).toEqual(Buffer.alloc(512));
  });

  it('has as many requests in flight as it has slots, with indexes of its own', async () => {
    const reading = client.read(0, 5 * SLOT_BYTES);
    await settle();
    expect(device.pending.map(({ index }) => index).sort()).toEqual([10, 11]);
    await run(reading);
  });

  it('uses a slot again after a request that failed', async () => {
    for (let round = 0; round < 2 * SLOT_COUNT; round++) {
      const reading = client.read(0, 512);
      await settle();
      device.endNext(BlockOp.read, BlockStatus.ioError);
      await expect(reading).rejects.toMatchObject({ code: 'ioError' });
    }
    expect(await run(client.read(0, 512))).toEqual(Buffer.alloc(512));
  });

  it('tells by code and place what the device answered', async () => {
    const flushing = client.flush();
    const trimming = client.trim(1024, 512);
    device.endNext(BlockOp.flush, BlockStatus.failed);
    device.endNext(BlockOp.trim, BlockStatus.unsupported);
    await expect(flushing).rejects.toMatchObject({ code: 'failed' });
    await expect(trimming).rejects.toThrow('byte 1024');
  });

  it('flushes and trims', async () => {
    device.disk.fill(7);
    await run(client.trim(512, 1024));
    await run(client.flush());
    expect(await run(client.read(0, 2048))).toEqual(
      Buffer.concat([Buffer.alloc(512, 7), Buffer.alloc(1024), Buffer.alloc(512, 7)]),
    );
  });
});
