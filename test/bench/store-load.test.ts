import { describe, expect, it } from 'vitest';
import { BLOCK, LoadRunner, type StoreLoad } from '../../bench/store-load.ts';
import type { BlockDevice, BlockRequest } from '../../src/core/block-device.ts';
import { BlockStatus } from '../../src/core/block-error.ts';

const LOAD: StoreLoad = {
  ...{ name: 'writes', op: 'write', access: 'seq', content: 'unique', requestBytes: BLOCK },
  ...{ depth: 8, durable: false, rangeBytes: 1 << 20 },
};

/** Ends a few requests at once, as a store does that has room, and holds the others for a while. */
class HoldingDevice implements BlockDevice {
  readonly sizeBytes = LOAD.rangeBytes;
  readonly capabilities = { readOnly: false, trim: false, trimZeroes: false };
  readonly held: BlockRequest[] = [];
  readonly #roomMax: number;
  #room: number;
  submittedCount = 0;

  constructor(roomMax: number) {
    this.#roomMax = roomMax;
    this.#room = roomMax;
  }

  submit(request: BlockRequest): void {
    if (this.held.includes(request)) throw new Error(`request ${request.index} is in flight`);
    this.submittedCount++;
    if (this.#room > 0) {
      this.#room--;
      request.complete(BlockStatus.ok);
    } else if (this.held.push(request) === 1) {
      setImmediate(() => {
        this.#room = this.#roomMax;
        for (const each of this.held.splice(0)) each.complete(BlockStatus.ok);
      });
    }
  }

  kick(): void {}

  refresh(): boolean {
    return false;
  }

  async close(): Promise<void> {}
}

describe('a load in this process', () => {
  it('ends when each of its requests is back, whichever the device holds', async () => {
    using runner = new LoadRunner();
    for (let roomMax = 1; roomMax < 3 * LOAD.depth; roomMax++) {
      for (let count = 1; count < 5 * LOAD.depth; count++) {
        const device = new HoldingDevice(roomMax);
        await runner.run(device, LOAD, Number.POSITIVE_INFINITY, count);
        expect(device.held.length).toBe(0);
        expect(device.submittedCount).toBe(count);
      }
    }
  });
});
