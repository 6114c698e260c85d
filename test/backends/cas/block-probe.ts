/** Reads single blocks of a store, many of them in little time. */
import type { CasDevice } from '../../../src/backends/cas/cas-device.ts';
import { BLOCK_SIZE } from '../../../src/backends/cas/format.ts';
import { BlockOp, BlockRequest } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';

/** One request for all reads: nothing is allocated for a block, or waited for that is there. */
const request = new BlockRequest(0, { bytes: Buffer.alloc(BLOCK_SIZE), region: 0 }, 0);
let isRead = false;
let whenRead = (): void => {};
request.completer = {
  completed() {
    isRead = true;
    whenRead();
  },
};

/** Reads a block. @returns its bytes until the next one is read; undefined if that takes a while */
export function blockNow(device: CasDevice, lba: number): Buffer | undefined {
  isRead = false;
  whenRead = () => {};
  request.op = BlockOp.read;
  request.offset = lba * BLOCK_SIZE;
  request.length = BLOCK_SIZE;
  device.submit(request);
  device.kick();
  return isRead ? readBytes() : undefined;
}

/** What {@link blockNow} has begun to read. */
export async function blockLater(): Promise<Buffer> {
  await new Promise<void>((resolve) => {
    whenRead = resolve;
  });
  return readBytes();
}

function readBytes(): Buffer {
  if (request.status !== BlockStatus.ok) throw new Error(`byte ${request.offset} cannot be read`);
  return request.data.bytes;
}
