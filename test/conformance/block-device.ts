/** What every block device must do; run on each backend and on each stack of layers. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FileIo } from '../../src/backends/file-io.ts';
import { FileIo as FileIoImpl } from '../../src/backends/file-io.ts';
import { type BlockDevice, SECTOR_SIZE } from '../../src/core/block-device.ts';
import { CheckedDevice } from '../../src/core/checked-device.ts';
import { DeviceClient } from '../../src/core/device-client.ts';
import { native } from '../../src/native.ts';

export const REQUEST_COUNT = 64;
export const SLOT_BYTES = 8192;

export interface Conformance {
  readonly name: string;
  /** Must give a device of at least 1 MiB. */
  open(io: FileIo): Promise<BlockDevice> | BlockDevice;
  /** Use io_uring where the system lets us. */
  readonly uring?: boolean;
}

/** A client over `device` with memory that `io` knows. */
export function clientOf(device: BlockDevice, io: FileIo): DeviceClient {
  const memory = io.registerMemory(native.allocateSlab(REQUEST_COUNT * SLOT_BYTES));
  return new DeviceClient(device, memory, SLOT_BYTES, 0);
}

export function testBlockDevice({ name, open, uring = true }: Conformance): void {
  describe(`${name} as a block device`, () => {
    let io: FileIo;
    let device: BlockDevice;
    let client: DeviceClient;

    beforeEach(async () => {
      io = new FileIoImpl(REQUEST_COUNT + 8, uring);
      device = new CheckedDevice(await open(io));
      client = clientOf(device, io);
    });

    afterEach(async () => {
      io.close();
      await device.close();
    });

    it('has a size of whole sectors', () => {
      expect(device.sizeBytes).toBeGreaterThanOrEqual(1 << 20);
      expect(device.sizeBytes % SECTOR_SIZE).toBe(0);
    });

    it('reads zeroes where nothing was written', async () => {
      expect(await client.read(4096, 4096)).toEqual(Buffer.alloc(4096));
    });

    it('reads what was written, to the byte and no further', async () => {
      const data = pattern(3 * SECTOR_SIZE, 7);
      await client.write(5 * SECTOR_SIZE, data);
      const around = await client.read(4 * SECTOR_SIZE, 5 * SECTOR_SIZE);
      expect(around.subarray(SECTOR_SIZE, 4 * SECTOR_SIZE)).toEqual(data);
      expect(around.subarray(0, SECTOR_SIZE)).toEqual(Buffer.alloc(SECTOR_SIZE));
      expect(around.subarray(4 * SECTOR_SIZE)).toEqual(Buffer.alloc(SECTOR_SIZE));
    });

    it('reads and writes the last sector', async () => {
      const data = pattern(SECTOR_SIZE, 9);
      await client.write(device.sizeBytes - SECTOR_SIZE, data);
      expect(await client.read(device.sizeBytes - SECTOR_SIZE, SECTOR_SIZE)).toEqual(data);
    });

    it('refuses what reaches beyond the end, and writes none of it', async () => {
      const last = device.sizeBytes - SECTOR_SIZE;
      await expect(client.write(last, pattern(2 * SECTOR_SIZE, 3))).rejects.toMatchObject({
        code: 'outOfRange',
      });
      await expect(client.read(device.sizeBytes, SECTOR_SIZE)).rejects.toMatchObject({
        code: 'outOfRange',
      });
      expect(await client.read(last, SECTOR_SIZE)).toEqual(Buffer.alloc(SECTOR_SIZE));
    });

    it('flushes', async () => {
      await client.write(0, pattern(4096, 1));
      await client.flush();
      expect(await client.read(0, 4096)).toEqual(pattern(4096, 1));
    });

    it('carries many requests at once, large ones in parts', async () => {
      const data = pattern(1 << 19, 5);
      await client.write(1 << 19, data);
      expect(data.equals(await client.read(1 << 19, 1 << 19))).toBe(true);
    });

    it('trims as its capabilities say', async () => {
      await client.write(0, pattern(16_384, 2));
      if (!device.capabilities.trim) {
        await expect(client.trim(4096, 8192)).rejects.toMatchObject({ code: 'unsupported' });
        return;
      }
      await client.trim(4096, 8192);
      const after = await client.read(0, 16_384);
      expect(after.subarray(0, 4096)).toEqual(pattern(16_384, 2).subarray(0, 4096));
      expect(after.subarray(12_288)).toEqual(pattern(16_384, 2).subarray(12_288));
      if (device.capabilities.trimZeroes) {
        expect(after.subarray(4096, 12_288)).toEqual(Buffer.alloc(8192));
      }
    });

    it('may be closed twice', async () => {
      await device.close();
      await device.close();
    });
  });
}

/** Bytes that tell where they belong and which pattern they are of. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i += 4) bytes.writeUInt32LE((i * 2654435761 + seed * 97) >>> 0, i);
  return bytes;
}
