import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { openFileDevice } from '../../src/backends/file.ts';
import { openMemoryDevice } from '../../src/backends/memory.ts';
import { CommittedDevice } from '../../src/core/committed-device.ts';
import { CountedDevice } from '../../src/core/counted-device.ts';
import { OrderedDevice } from '../../src/core/ordered-device.ts';
import { REQUEST_COUNT, testBlockDevice } from '../conformance/block-device.ts';

const MIB = 1 << 20;

describe('backends', () => {
  let folder: string;
  let count = 0;

  beforeAll(() => {
    folder = mkdtempSync('/var/tmp/aoe-backends-');
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  const image = (options: { direct?: boolean; offsetBytes?: number; inMemory?: boolean } = {}) => ({
    path: join(options.inMemory ? '/dev/shm' : folder, `aoe-${process.pid}-${count++}.img`),
    sizeBytes: 4 * MIB,
    offsetBytes: options.offsetBytes ?? 0,
    lengthBytes: undefined,
    direct: options.direct ?? false,
  });

  testBlockDevice({ name: 'memory', open: (io) => openMemoryDevice(io, 2 * MIB, false) });
  for (const uring of [true, false]) {
    const engine = uring ? 'io_uring' : 'threads';
    testBlockDevice({
      name: `file with ${engine}`,
      uring,
      open: (io) => openFileDevice(io, image(), false),
    });
    testBlockDevice({
      name: `file with direct I/O and ${engine}`,
      uring,
      open: (io) => openFileDevice(io, image({ direct: true }), false),
    });
  }
  testBlockDevice({
    name: 'a part of a file',
    open: (io) => openFileDevice(io, image({ offsetBytes: MIB }), false),
  });
  testBlockDevice({
    name: 'a file under all layers',
    open: (io) => {
      const device = openFileDevice(io, image(), false);
      const committed = new CommittedDevice(device, false, REQUEST_COUNT, () => {});
      return new CountedDevice(new OrderedDevice(committed));
    },
  });
});
