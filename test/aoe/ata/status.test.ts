import { describe, expect, it } from 'vitest';
import { AtaOutcome, ataOutcomeOf } from '../../../src/aoe/ata/status.ts';
import { BlockOp } from '../../../src/core/block-device.ts';
import { BlockStatus } from '../../../src/core/block-error.ts';

const { read, write, flush, trim } = BlockOp;

describe('the ATA outcome of a block request', () => {
  it.each([
    ['success', BlockStatus.ok, read, 0x40, 0x00],
    ['no such sector', BlockStatus.outOfRange, read, 0x41, 0x10],
    ['no such sector', BlockStatus.outOfRange, write, 0x41, 0x10],
    ['an abort', BlockStatus.readOnly, write, 0x41, 0x04],
    ['an abort', BlockStatus.unsupported, trim, 0x41, 0x04],
    ['an uncorrectable error', BlockStatus.ioError, read, 0x41, 0x40],
    ['a device fault', BlockStatus.ioError, write, 0x61, 0x04],
    ['a device fault', BlockStatus.ioError, flush, 0x61, 0x04],
    ['a device fault', BlockStatus.noSpace, write, 0x61, 0x04],
    ['a device fault', BlockStatus.failed, write, 0x61, 0x04],
  ] as const)('is %s for status %i of operation %i', (_name, blockStatus, op, status, error) => {
    const outcome = ataOutcomeOf(blockStatus, op);
    expect([outcome & 0xff, outcome >> 8]).toEqual([status, error]);
  });

  it('makes Linux fail every request that did not succeed', () => {
    for (const [name, outcome] of Object.entries(AtaOutcome)) {
      expect((outcome & 0xa9) === 0).toBe(name === 'success');
    }
  });

  it('is none for requests that must not be answered', () => {
    expect(() => ataOutcomeOf(BlockStatus.stale, write)).toThrow('must not be answered');
  });
});
