/** The tables that describe the storage of a target, one for each kind of backend. */

import { z } from 'zod';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { about, boolean, integer, oneOf, path, size, table } from './values.ts';

/** The content-addressed store's block, the only size it has, in bytes. */
export const CAS_BLOCK_SIZE = 4096;

export const file = table(
  {
    path: path({
      example: '"/srv/aoe/disk1.img"',
      description: 'The image. A relative path is relative to the configuration file.',
    }),
    size: size(SECTOR_SIZE, SECTOR_SIZE, {
      example: '"1GiB"',
      description:
        'The size of the image, best a multiple of 4096 bytes. A missing image is created with ' +
        'it and a shorter one is extended; a longer one stays as it is, because disks never shrink.',
      unset: 'the size of the existing image',
    }).optional(),
    offset: size(SECTOR_SIZE, 0, {
      example: '"1MiB"',
      description: 'Where in the image the target begins.',
    }).default(0),
    length: size(SECTOR_SIZE, SECTOR_SIZE, {
      example: '"512MiB"',
      description: 'How much of the image the target covers.',
      unset: 'to the end of the image',
    }).optional(),
    direct: boolean({
      description: 'Go around the page cache (O_DIRECT).',
    }).default(false),
  },
  'An image in a file, for backend = "file".',
  (keys, report) => {
    const { size: sizeBytes, offset: offsetBytes, length: lengthBytes = 0 } = keys;
    if (typeof sizeBytes !== 'number' || typeof offsetBytes !== 'number') return;
    if (offsetBytes >= sizeBytes) {
      report('offset', 'is not inside the image', 'Make it smaller than size.');
    } else if (typeof lengthBytes === 'number' && offsetBytes + lengthBytes > sizeBytes) {
      const remedy = 'Make offset and length together at most size, or leave length out.';
      report('length', 'reaches beyond the end of the image', remedy);
    }
  },
);

export const device = table(
  {
    path: path({
      example: '"/dev/disk/by-id/ata-EXAMPLE"',
      description: 'The block device. Prefer a name that does not change over a restart.',
    }),
    direct: boolean({
      description: 'Go around the page cache (O_DIRECT).',
    }).default(false),
  },
  'A disk, partition or logical volume, for backend = "device".',
);

export const memory = table(
  {
    size: size(SECTOR_SIZE, SECTOR_SIZE, {
      example: '"64MiB"',
      description: 'The size of the disk. Best a multiple of 4096 bytes.',
    }),
  },
  'A disk in memory, empty after every start, for backend = "memory".',
);

export const cas = table(
  {
    block_size: about(z.literal(CAS_BLOCK_SIZE), {
      form: `${CAS_BLOCK_SIZE}`,
      example: `${CAS_BLOCK_SIZE}`,
      description: 'The size of a block in bytes; there is only this one.',
    }).default(CAS_BLOCK_SIZE),
    total_sectors: integer(1, Math.floor(Number.MAX_SAFE_INTEGER / CAS_BLOCK_SIZE), {
      example: '2097152',
      description: 'The size of the disk in blocks of block_size.',
      unset: 'see size',
    }).optional(),
    size: size(CAS_BLOCK_SIZE, CAS_BLOCK_SIZE, {
      example: '"8GiB"',
      description: 'The size of the disk, instead of total_sectors.',
      unset: 'see total_sectors',
    }).optional(),
    root: about(z.string().regex(/^[\w.:@+-]{1,128}$/), {
      form: 'the name of a snapshot, or the hash of its root in 64 hexadecimal digits',
      example: '"monday"',
      description:
        'The snapshot that the target serves, read-only, in its size. See aoe-server cas list.',
      unset: 'the volume that is called like the target, to read and write',
    }).optional(),
    blob_store: table(
      {
        type: oneOf(['file'], {
          example: '"file"',
          description: 'The kind of store: files in a directory.',
        }),
        path: path({
          example: '"/srv/aoe/blobs"',
          description: 'The directory. A relative path is relative to the configuration file.',
        }),
      },
      'Where the blocks are kept.',
    ),
  },
  'A disk of content-addressed blocks, each stored once, for backend = "cas".',
  (keys, report) => {
    if (keys.root !== undefined) {
      for (const key of ['size', 'total_sectors'] as const) {
        if (keys[key] === undefined) continue;
        report(key, 'is given besides root', 'Remove it: a snapshot has the size that it has.');
      }
      return;
    }
    if (keys.total_sectors === undefined && keys.size === undefined) {
      report('size', 'is missing', 'Write size = "8GiB", or total_sectors in blocks.');
    }
    if (keys.total_sectors !== undefined && keys.size !== undefined) {
      report('size', 'is given besides total_sectors', 'Keep one of the two.');
    }
  },
);
