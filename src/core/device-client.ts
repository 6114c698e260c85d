/**
 * A block device with promises, for programs and tests; frontends submit requests themselves.
 *
 * Requests larger than a slot are split. At most as many run at once as the client has slots;
 * further ones wait for their turn.
 */
import { type BlockDevice, BlockOp, BlockRequest } from './block-device.ts';
import { BlockError, type BlockErrorCode, BlockStatus, blockStatusName } from './block-error.ts';
import type { Memory } from './memory.ts';

type Waiter = (request: BlockRequest) => void;

export class DeviceClient {
  readonly #device: BlockDevice;
  readonly #slotBytes: number;
  readonly #free: BlockRequest[] = [];
  readonly #waiters: Waiter[] = [];

  /**
   * @param memory divided into slots of `slotBytes`, one for each request that may run at once
   * @param firstIndex request indexes from here on belong to this client
   */
  constructor(device: BlockDevice, memory: Memory, slotBytes: number, firstIndex: number) {
    this.#device = device;
    this.#slotBytes = slotBytes;
    const count = Math.floor(memory.bytes.length / slotBytes);
    for (let i = 0; i < count; i++) {
      this.#free.push(new BlockRequest(firstIndex + i, memory, i * slotBytes));
    }
  }

  /** @throws {BlockError} the device's answer */
  async read(offset: number, length: number): Promise<Buffer> {
    const result = Buffer.alloc(length);
    await this.#forEachPart(length, async (start, partBytes) => {
      await this.#run(BlockOp.read, offset + start, partBytes, undefined, (request) => {
        const { bytes } = request.stash;
        bytes.copy(result, start, request.stashOffset, request.stashOffset + partBytes);
      });
    });
    return result;
  }

  /** @throws {BlockError} the device's answer */
  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#forEachPart(data.length, (start, partBytes) =>
      this.#run(BlockOp.write, offset + start, partBytes, data.subarray(start, start + partBytes)),
    );
  }

  /** @throws {BlockError} the device's answer */
  trim(offset: number, length: number): Promise<void> {
    return this.#run(BlockOp.trim, offset, length);
  }

  /** @throws {BlockError} the device's answer */
  flush(): Promise<void> {
    return this.#run(BlockOp.flush, 0, 0);
  }

  async #forEachPart(
    length: number,
    run: (start: number, partBytes: number) => Promise<void>,
  ): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let start = 0; start < length; start += this.#slotBytes) {
      parts.push(run(start, Math.min(this.#slotBytes, length - start)));
    }
    await Promise.all(parts);
  }

  async #run(
    op: BlockOp,
    offset: number,
    length: number,
    data?: Uint8Array,
    onSuccess?: (request: BlockRequest) => void,
  ): Promise<void> {
    const request = this.#free.pop() ?? (await this.#nextFree());
    try {
      request.op = op;
      request.offset = offset;
      request.length = length;
      request.data = request.stash;
      request.dataOffset = request.stashOffset;
      if (data !== undefined) request.stash.bytes.set(data, request.stashOffset);
      await this.#submit(request);
      onSuccess?.(request);
    } finally {
      const waiter = this.#waiters.shift();
      if (waiter === undefined) this.#free.push(request);
      else waiter(request);
    }
  }

  #nextFree(): Promise<BlockRequest> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
    });
  }

  #submit(request: BlockRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      request.completer = {
        completed: ({ status }) => {
          if (status === BlockStatus.ok) resolve();
          else reject(failure(request, status));
        },
      };
      this.#device.submit(request);
      this.#device.kick();
    });
  }
}

function failure(request: BlockRequest, status: BlockStatus): BlockError {
  const code = blockStatusName(status) as BlockErrorCode;
  return new BlockError(code, `request at byte ${request.offset} ended with ${code}`);
}
