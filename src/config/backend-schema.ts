/** The tables that describe the storage of a target, one for each kind of backend. */

import { z } from 'zod';
import { SECTOR_SIZE } from '../core/block-device.ts';
import { about, boolean, integer, oneOf, path, size, table, text } from './values.ts';

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

const BLOB_STORE_TYPES = ['file', 's3', 'azure'] as const;
const DURABILITIES = ['local', 'remote'] as const;

const NAME_SIZE_MAX = 1024;
const MEBIBYTE = 1 << 20;
/** Less would hardly hold what is read at one moment. */
const CACHE_SIZE_MIN = 64 * MEBIBYTE;
/** Less would make writes wait in the best of times. */
const LAG_MIN = 64 * MEBIBYTE;

/** Less than what an empty store takes. */
const INDEX_MEMORY_MIN = MEBIBYTE;

const blobStore = table(
  {
    type: oneOf(BLOB_STORE_TYPES, {
      example: '"file"',
      description:
        'The kind of store: files in a directory; or, besides these files, blobs in Amazon S3 or ' +
        'what speaks its protocol (Ceph RGW, MinIO), or in Azure Blob Storage.',
    }),
    path: path({
      example: '"/srv/aoe/blobs"',
      description:
        'The directory of the store; of one in S3 or Azure, of the part that this machine keeps. A ' +
        'relative path is relative to the configuration file.',
    }),
    index_memory: size(MEBIBYTE, INDEX_MEMORY_MIN, {
      example: '"256MiB"',
      description:
        'The most memory for the index that finds duplicates. It takes 20 bytes a block, so 25 MiB ' +
        'for 5 GiB of data. Duplicates of the oldest data that does not fit are stored again. Only ' +
        'what collections have moved may take more.',
      unset: '"1GiB"',
    }).optional(),
    bucket: text(NAME_SIZE_MAX, {
      example: '"aoe-disks"',
      description: 'The bucket of S3, or the container of Azure. It must exist.',
      unset: 'needed for "s3" and "azure"',
    }).optional(),
    prefix: text(NAME_SIZE_MAX, {
      example: '"rack-1/"',
      description: 'What the names of all blobs begin with. Each store needs one of its own.',
      unset: 'nothing',
    }).optional(),
    endpoint: text(NAME_SIZE_MAX, {
      example: '"https://s3.example.net"',
      description: 'The URL of the service.',
      unset: "Amazon's own for S3; for Azure it follows from the account",
    }).optional(),
    region: text(NAME_SIZE_MAX, {
      example: '"eu-central-1"',
      description: 'The region of S3.',
      unset: "$AWS_REGION, or what Amazon's files say",
    }).optional(),
    take_over: text(NAME_SIZE_MAX, {
      example: '"0f1e2d3c4b5a69788796a5b4c3d2e1f0"',
      description:
        'The server to take the blob store from, when that server and its disk are gone for good. ' +
        'The message that refuses the blob store names it.',
      unset: 'a blob store that another server has is refused',
    }).optional(),
    durability: oneOf(DURABILITIES, {
      example: '"remote"',
      description:
        'What a write or snapshot waits for: "local" for the log on this machine, "remote" for ' +
        'the blob store as well. With "local" a machine that is lost takes the writes and ' +
        'snapshots of the last few seconds with it.',
      unset: '"local"',
    }).optional(),
    cache_size: size(MEBIBYTE, CACHE_SIZE_MIN, {
      example: '"100GiB"',
      description:
        'How much of what is in the blob store may stay on this machine as well; what is read ' +
        'again comes back. Segments that are being written, the log since the last checkpoint, ' +
        'the maps and the heads of records come on top: a few hundredths, but half of what was ' +
        'written as single blocks.',
      unset: 'all of the store stays on this machine',
    }).optional(),
    lag_max: size(MEBIBYTE, LAG_MIN, {
      example: '"10GiB"',
      description:
        'How much of the log may be on this machine only. Writes that would exceed it wait for ' +
        'the blob store, as all of them do with durability = "remote".',
      unset: 'as much as the disk holds',
    }).optional(),
  },
  'Where the blocks are kept. Credentials come from the environment and the files in which the ' +
    'tools of the service look for them.',
  (keys, report) => {
    const { type, path: _path, index_memory: _memory, ...others } = keys;
    if (type === 'file') {
      for (const [key, value] of Object.entries(others)) {
        if (value === undefined) continue;
        report(key, 'is not used, because type = "file"', 'Remove it, or write another type.');
      }
    } else if (BLOB_STORE_TYPES.includes(type)) {
      if (keys.bucket === undefined) {
        report('bucket', 'is missing', 'Name the bucket or container to keep blobs in.');
      }
      if (type === 'azure' && keys.region !== undefined) {
        report('region', 'is not used, because type = "azure"', 'Remove it.');
      }
    }
  },
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
    blob_store: blobStore,
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
